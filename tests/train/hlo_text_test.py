import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from recjax.train import hlo_text
from recjax.train.mesh import MeshConfig, make_mesh

# A loop as compiled for a TPU, which does not note its length: three rounds
# with an all-to-all each, and within them a loop of unknown length.
TPU = """\
HloModule jit_f, is_scheduled=true, input_output_alias={ {0}: (1, {}, \
may-alias), {1}: (2, {0}, must-alias) }, entry_computation_layout={(f32[])}

%body (p: (s32[], f32[16,16])) -> (s32[], f32[16,16]) {
  %one = s32[]{:T(128)} constant(1), metadata={op_name="jit(f)"}
  %p = (s32[]{:T(128)}, f32[16,16]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[16,16]{1,0:T(8,128)S(1)} get-tuple-element(%p), index=1
  %next = s32[]{:T(128)S(6)} add(%i, %one)
  %all_to_all.10 = f32[16,16]{1,0:T(8,128)S(1)} all-to-all(%x), channel_id=1, \
replica_groups=[4,4]<=[16], dimensions={0}
  %inner = f32[16,16]{1,0} while(%all_to_all.10), condition=%open, body=%sum
  ROOT %t = (s32[], f32[16,16]{1,0}) tuple(%next, %inner)
}

%sum (x.1: f32[16,16]) -> f32[16,16] {
  %x.1 = f32[16,16]{1,0} parameter(0)
  ROOT %psum.17 = f32[16,16]{1,0} all-reduce(%x.1), channel_id=1, \
replica_groups={{0,1},{2,3}}, to_apply=%add
}

%open (x.2: f32[16,16]) -> pred[] {
  %x.2 = f32[16,16]{1,0} parameter(0)
  ROOT %c = pred[] custom-call(%x.2)
}

%cond (q: (s32[], f32[16,16])) -> pred[] {
  %three = s32[]{:T(128)} constant(3)
  %q = (s32[]{:T(128)}, f32[16,16]{1,0:T(8,128)S(1)}) parameter(0)
  %k = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %lt = pred[]{:T(512)} compare(%k, %three), direction=LT
}

%scattered (a: f32[1000,16]) -> f32[1000,16] {
  %a = f32[1000,16]{1,0} parameter(0)
  %s = f32[1000,16]{1,0} scatter(%a, %a, %a), to_apply=%add
  ROOT %b = f32[1000,16]{1,0} bitcast(%s)
}

ENTRY %main (ids: s32[8], table: f32[1000,16], slot: f32[1000,1]) -> (f32[]) {
  %ids = s32[8]{0:T(1024)} parameter(0), metadata={op_name="batch[\\'ids\\']"}
  %table = f32[1000,16]{1,0:T(8,128)} parameter(1), \
sharding={devices=[16,1]<=[16]}, metadata={op_name="state.tables[\\'t\\']"}
  %slot = f32[1000,1]{0,1:T(1,128)} parameter(2)
  %zero = s32[]{:T(128)} constant(0)
  %start = s32[] copy(%zero)
  %x.0 = f32[16,16]{1,0:T(8,128)S(1)} broadcast(%ids), dimensions={}
  %tuple = (s32[], f32[16,16]{1,0}) tuple(%start, %x.0)
  %while.1 = (s32[], f32[16,16]{1,0}) while(%tuple), condition=%cond, body=%body
  %copy.7 = f32[1000,16]{1,0:T(8,128)} copy(%table), metadata={op_name="t"}
  %written = f32[1000,16]{1,0:T(8,128)} fusion(%table), kind=kCustom, \
calls=%scattered
  %held = (f32[1000,1]{0,1:T(1,128)}, f32[1000,1]{0,1:T(1,128)S(1)}, u32[]) \
copy-start(%slot)
  %back = f32[1000,1]{0,1:T(1,128)} copy-done(%held)
  ROOT %out = (f32[1000,16]{1,0}, f32[1000,1]{0,1}) tuple(%written, %back)
}
"""


def test_a_tpu_program_is_read():
  program = hlo_text.parse_program(TPU)
  assert program.entry == "main"
  found = {
    e.instruction.name: e
    for e in hlo_text.executions(program)
    if e.instruction.opcode.startswith("all-")
  }
  exchanged, summed = found["all_to_all.10"], found["psum.17"]
  assert (exchanged.times, exchanged.is_exact) == (3, True)
  assert (summed.times, summed.is_exact) == (3, False)
  assert hlo_text.group_size(exchanged.instruction, 16) == 4
  assert hlo_text.group_size(summed.instruction, 16) == 2


def test_groups_that_are_told_by_axes():
  program = hlo_text.parse_program(TPU)
  made = next(
    execution.instruction
    for execution in hlo_text.executions(program)
    if execution.instruction.opcode == "all-to-all"
  )
  groups = "replica_groups=mesh['data'=4,'model'=2] "
  for axes, size in (
    ("{'data'}", 4),
    ("{'model'}", 2),
    ("{'data','model'}", 8),
  ):
    assert hlo_text.group_size(made._replace(rest=groups + axes), 16) == size


def test_arguments_of_a_tpu_program():
  ids, table, slot = hlo_text.parameters(hlo_text.parse_program(TPU))
  # One tile of 1,024 numbers; 16 columns fill 128 lanes; 1,000 rows fill 1,024.
  assert ids == ("batch['ids']", "s32[8]", 32, 4 * 1024, False)
  assert table == (
    "state.tables['t']",
    "f32[1000,16]",
    4 * 1000 * 16,
    4 * 1000 * 128,
    True,
  )
  assert slot == ("slot", "f32[1000,1]", 4 * 1000, 4 * 1024, True)


def test_values_of_a_tpu_program():
  found = hlo_text.values(hlo_text.parse_program(TPU))
  # Not the scatter in place, nor the slot that was held on the chip.
  assert found[0] == ("f32[1000,16]", 4 * 1000 * 128, "copy", "t")
  assert {value.opcode for value in found} <= {
    "copy",
    "add",
    "compare",
    "custom-call",
    "all-reduce",
  }
  assert all(value.bytes <= 1024 for value in found[1:])


@pytest.mark.parametrize(
  ("old", "new"),
  [
    ("compare(%k, %three), direction=LT", "compare(%k, %k), direction=LT"),
    ("direction=LT", "direction=NE"),
    ("constant(0)", "rng()"),
    ("add(%i, %one)", "add(%i, %i)"),
    ("tuple(%start, %x.0)", "tuple(%x.0, %start)"),
  ],
)
def test_a_loop_of_another_form_has_no_known_length(old, new):
  assert old in TPU
  program = hlo_text.parse_program(TPU.replace(old, new))
  main = program.computations["main"]
  loop = main.instructions["while.1"]
  assert hlo_text.loop_rounds(program, main, loop) is None


def test_a_real_program():
  mesh = make_mesh(MeshConfig(data=4, model=2))

  def local(table, rows, rounds):
    once = lambda i, x: lax.all_to_all(x, "data", 0, 0, tiled=True) * 2
    twice = lambda i, x: lax.fori_loop(0, 2, once, lax.psum(x, "model"))
    rows = lax.fori_loop(0, 3, twice, rows)
    rows = lax.fori_loop(0, rounds, lambda i, x: lax.pmax(x, "data"), rows)
    return table.at[jnp.int32(rows[:, 0])].add(rows, mode="drop"), rows

  axes = PartitionSpec(("data", "model"))
  mapped = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(axes, axes, PartitionSpec()),
    out_specs=axes,
    check_vma=False,
  )
  shapes = [
    jax.ShapeDtypeStruct((8000, 16), jnp.float32),
    jax.ShapeDtypeStruct((64, 16), jnp.float32),
    jax.ShapeDtypeStruct((), jnp.int32),
  ]
  compiled = jax.jit(mapped, donate_argnums=0).lower(*shapes).compile()
  program = hlo_text.parse_program(compiled.as_text() or "")
  found = {}
  for execution in hlo_text.executions(program):
    made = execution.instruction
    if made.opcode in ("all-to-all", "all-reduce"):
      group = hlo_text.group_size(made, 8)
      found[made.opcode, group] = (execution.times, execution.is_exact)
  assert found == {
    ("all-to-all", 4): (6, True),
    ("all-reduce", 2): (3, True),
    ("all-reduce", 4): (1, False),
  }
  table, rows, rounds = hlo_text.parameters(program)
  assert table == ("table", "f32[1000,16]", 64000, 64000, True)
  assert rows == ("rows", "f32[8,16]", 512, 512, False)
  assert rounds == ("rounds", "s32[]", 4, 4, False)
