import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.program_report import (
  Memory,
  ProgramReport,
  Traffic,
  make_report,
)
from recjax.train.topologies import parse_topology

SLICE = parse_topology("v5e:2x4")


@pytest.fixture(scope="module")
def report():
  """Of a program with a product, and collectives in loops and out of them."""
  mesh = make_mesh(MeshConfig(data=4, model=2))
  axes = PartitionSpec(("data", "model"))
  cut = NamedSharding(mesh, axes)

  def local(table, x, rounds):
    axes = ("data", "model")
    swap = lambda i, x: lax.all_to_all(x, axes, 0, 0, tiled=True) + 1
    x = lax.fori_loop(0, 3, swap, x)
    x = lax.fori_loop(0, rounds, lambda i, x: lax.psum(x, "data") / 2, x)
    x = lax.all_gather(x @ jnp.ones((16, 16)), "model", tiled=True)
    return table.at[jnp.int32(x[:, 0])].add(x, mode="drop"), x

  def step(table, x, rounds):
    return jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(axes, axes, PartitionSpec()),
      out_specs=(axes, axes),
      check_vma=False,
    )(table, x, rounds)

  compiled = (
    jax.jit(step, donate_argnums=0)
    .lower(
      jax.ShapeDtypeStruct((8000, 16), jnp.float32, sharding=cut),
      jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=cut),
      jax.ShapeDtypeStruct((), jnp.int32),
    )
    .compile()
  )
  return make_report(
    compiled, SLICE, mesh_shape=dict(mesh.shape), compile_secs=1.25
  )


def test_collectives_with_their_rounds(report):
  found = {t.kind: t for t in report.traffic}
  assert len(report.traffic) == len(found) == 3
  # Of [8, 16] on each of 8 devices, in three rounds.
  swap = found["all-to-all"]
  assert (swap.bytes, swap.group_size, swap.times) == (512, 8, 3)
  assert (swap.count, swap.is_exact) == (1, True)
  assert swap.sent_bytes == 3 * 512 * 7 // 8
  total = found["all-reduce"]
  assert (total.bytes, total.group_size, total.is_exact) == (512, 4, False)
  assert total.sent_bytes == 2 * 512 * 3 // 4
  joined = found["all-gather"]
  assert (joined.shape, joined.group_size) == ("f32[16,16]", 2)
  assert joined.sent_bytes == 1024 // 2
  assert report.open_loops == 1


def test_memory_and_work_of_a_device(report):
  # Pieces of the table and of x, and a scalar.
  arguments = 4 * (1000 * 16 + 8 * 16 + 1)
  assert report.memory.argument_bytes == arguments
  assert report.memory.alias_bytes == 4 * 1000 * 16
  assert report.memory.peak_bytes == (
    arguments
    + report.memory.output_bytes
    - report.memory.alias_bytes
    + report.memory.temp_bytes
    + report.memory.code_bytes
  )
  assert report.fits
  assert report.flops >= 2 * 8 * 16 * 16
  assert [p.is_donated for p in report.parameters] == [True, False, False]


def test_the_roofline_is_the_formula(report):
  secs = report.roofline_secs()
  assert secs["compute"] == report.flops / 197e12
  assert secs["memory"] == report.accessed_bytes / 819e9
  # Four links of 50 GB/s; for the all-to-all of all 8 devices, the two that
  # join the halves of 2 x 4 chips.
  sent = 2 * 512 * 3 / 4 + 1024 / 2
  across = 8 * 512 * 3 / 4 / (2 * 50e9)
  assert secs["interconnect"] == pytest.approx(sent / 200e9 + across)


def test_it_is_told_in_words(report):
  text = report.describe()
  assert text.startswith("v5e:2x4: 8 devices (data=4 x model=2), compiled in")
  assert "of its 15.8 GiB: it fits" in text
  assert "No sparse tables." in text
  lines = [line.split() for line in text.splitlines()]
  assert ["all-gather", "f32[16,16]", "2", "1", "512", "B"] in lines
  assert ["all-reduce", "f32[8,16]", "4", "1+", "768", "B"] in lines
  slowest = max(report.roofline_secs().items(), key=lambda item: item[1])[0]
  assert f"bound by {slowest}:" in text
  assert "1 loops have a length that is not in the program" in text
  assert "The roofline takes" in text


def test_it_comes_back_from_json(report):
  values = json.loads(json.dumps(report.to_dict()))
  assert values["fits"] is True
  assert values["peak_bytes"] == report.memory.peak_bytes
  assert ProgramReport.from_dict(values) == report


def test_what_does_not_fit_says_by_how_much():
  memory = Memory(10 * 2**30, 10 * 2**30, 9 * 2**30, 6 * 2**30, 0, 16 * 2**30)
  assert memory.peak_bytes == 17 * 2**30
  report = ProgramReport(
    "v5e:2x4", {}, memory, 0.0, 0.0, (), (), (), open_loops=0
  )
  assert not report.fits
  assert "needs 17.0 GiB of its 16.0 GiB: it does not fit by 1.0 GiB." in (
    report.describe()
  )
  assert "No collectives." in report.describe()


@pytest.mark.parametrize(
  ("kind", "factor"),
  [
    ("all-gather", 3 / 4),
    ("all-to-all", 3 / 4),
    ("ragged-all-to-all", 3 / 4),
    ("all-reduce", 2 * 3 / 4),
    # Of four parts, three go to others, each of the size of the result.
    ("reduce-scatter", 3),
    ("collective-permute", 1),
  ],
)
def test_bytes_that_a_device_sends(kind, factor):
  traffic = Traffic(kind, "f32[256]", 1024, 4, 1, 2, True)
  assert traffic.sent_bytes == 2 * 1024 * factor
  # A group of some of the devices is not all across the middle.
  assert traffic.secs(SLICE) == traffic.sent_bytes / 200e9
