import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from recjax.embeddings.collectives import Collective, collectives
from recjax.train.mesh import MeshConfig, make_mesh


def test_a_real_program_lists_its_collectives():
  def local(x):
    x = lax.all_to_all(x, "data", 0, 0, tiled=True)
    y = lax.all_gather(x.astype(jnp.int32), "model", tiled=True)
    z = lax.psum_scatter(x, "data", tiled=True)
    ring = [(i, (i + 1) % 4) for i in range(4)]
    w = lax.ppermute(x[:2], "data", ring)
    total = lax.pmax(jnp.sum(x), ("data", "model"))
    body = lambda i, carry: lax.psum(carry, "model") / 2
    many = lax.fori_loop(0, y[0, 0], body, x)
    return jnp.sum(z) + jnp.sum(w) + total + jnp.sum(many) + jnp.sum(y)

  mesh = make_mesh(MeshConfig(data=4, model=2))
  mapped = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=PartitionSpec(("data", "model")),
    out_specs=PartitionSpec(),
    check_vma=False,
  )
  x = jax.ShapeDtypeStruct((64, 16), jnp.float32)
  text = jax.jit(mapped).lower(x).compile().as_text()
  found = {(c.kind, c.bytes): c for c in collectives(text)}
  # Of [8, 16] on each device, or [16, 16], [2, 16], [2, 16] and a scalar.
  assert found.keys() >= {
    ("all-to-all", 8 * 16 * 4),
    ("all-gather", 16 * 16 * 4),
    ("reduce-scatter", 2 * 16 * 4),
    ("collective-permute", 2 * 16 * 4),
    ("all-reduce", 4),
    ("all-reduce", 8 * 16 * 4),
  }
  assert len(collectives(text)) == 6  # The one in the loop once.
  gathered = found["all-gather", 16 * 16 * 4]
  assert gathered == Collective("all-gather", "s32[16,16]", 1024)
  assert found["all-to-all", 512].shape.startswith("4 x f32[")


def test_a_program_without_collectives_has_none():
  text = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile().as_text()
  assert collectives(text) == []


@pytest.mark.parametrize(
  ("line", "expected"),
  [
    # As compiled for a TPU v5e, with tiles and memory spaces.
    (
      "%all_to_all.163 = f32[16,144,16]{1,2,0:T(8,128)S(1)}"
      " all-to-all(%fusion.188), channel_id=1, dimensions={0}",
      Collective("all-to-all", "f32[16,144,16]", 16 * 144 * 16 * 4),
    ),
    (
      "%pmax.28 = s32[]{:T(128)} all-reduce(%neg.25), channel_id=1,"
      ' metadata={op_name="jit(step)/shard_map/pmax"}',
      Collective("all-reduce", "s32[]", 4),
    ),
    # Asynchronous forms: operands stand before results.
    (
      "%all-gather-start.1 = (bf16[4,8]{1,0}, bf16[32,8]{1,0})"
      " all-gather-start(bf16[4,8]{1,0} %p), dimensions={0}",
      Collective("all-gather", "bf16[32,8]", 32 * 8 * 2),
    ),
    (
      "%s = ((f32[4], u8[3]), (f32[8], u8[6])) all-gather-start(%a, %b)",
      Collective("all-gather", "f32[8], u8[6]", 38),
    ),
    (
      "%c = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%p)",
      Collective("collective-permute", "f32[4]", 16),
    ),
    (
      "%r = (f32[4]{0}, pred[3]{0}) all-reduce-start(%a, %b), to_apply=%add",
      Collective("all-reduce", "f32[4], pred[3]", 19),
    ),
    (
      "ROOT %t = (s4[5]{0}, s4[5]{0}, /*index=2*/c64[2]{0}) all-to-all(%a)",
      Collective("all-to-all", "2 x s4[5], c64[2]", 22),
    ),
  ],
)
def test_lines_of_other_backends(line, expected):
  done = "%d = f32[9]{0} all-gather-done(%all-gather-start.1)"
  read = "%g = f32[16,2]{1,0} get-tuple-element(%all-to-all.1), index=0"
  assert collectives(f"  {line}\n  {done}\n  {read}\n") == [expected]
