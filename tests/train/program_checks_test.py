from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import struct
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.program_checks import table_faults

ROWS, DIM = 80_000, 16
AXES = PartitionSpec(("data", "model"))


@struct.dataclass
class State:
  step: Any
  tables: dict
  slots: dict


def compile_step(local, **options):
  """Compiles a step that changes the piece of a table on each device."""
  mesh = make_mesh(MeshConfig(data=4, model=2))

  def step(state, ids):
    specs = (AXES, AXES, AXES)
    table, slot = jax.shard_map(
      local, mesh=mesh, in_specs=specs, out_specs=(AXES, AXES), check_vma=False
    )(state.tables["item"], state.slots["item"], ids)
    return State(state.step + 1, {"item": table}, {"item": slot})

  cut = NamedSharding(mesh, AXES)
  shape = lambda *sizes, dtype=jnp.float32: jax.ShapeDtypeStruct(
    sizes, dtype, sharding=cut
  )
  state = State(
    jax.ShapeDtypeStruct((), jnp.int32),
    {"item": shape(ROWS, DIM)},
    {"item": shape(ROWS, 1)},
  )
  step = jax.jit(step, **options)
  return step.lower(state, shape(64, dtype=jnp.int32)).compile()


def sparse(table, slot, ids):
  ids = lax.all_to_all(ids, ("data", "model"), 0, 0, tiled=True)
  slot = slot.at[ids].add(1.0, mode="drop")
  rows = table.at[ids].get(mode="clip") / slot.at[ids].get(mode="clip")
  return table.at[ids].set(rows, mode="drop"), slot


def dense(table, slot, ids):
  gradient = jnp.zeros_like(table).at[ids].add(1.0, mode="drop")
  gradient = lax.psum(gradient, "model")
  return table - 0.1 * gradient, slot


def gathered(table, slot, ids):
  whole = lax.all_gather(table, ("data", "model"), tiled=True)
  return table.at[ids[0]].set(whole.at[ids].get(mode="clip").sum(0)), slot


def test_a_step_on_rows_has_no_fault():
  compiled = compile_step(sparse, donate_argnums=0)
  assert table_faults(compiled, min_bytes=1) == ()


def test_what_is_not_donated_is_named():
  faults = table_faults(compile_step(sparse), min_bytes=2**30)
  assert faults == (
    "state.tables['item'] f32[10000,16] is not donated.",
    "state.slots['item'] f32[10000,1] is not donated.",
  )


def test_a_gradient_of_the_whole_table_is_named():
  compiled = compile_step(dense, donate_argnums=0)
  faults = "\n".join(table_faults(compiled, min_bytes=1))
  assert "all-reduce moves f32[10000,16], 625.0 KiB, of the size of" in faults
  assert "makes f32[10000,16], 625.0 KiB, of the size of state.tab" in faults
  assert table_faults(compiled, min_bytes=2**20) == ()
  assert table_faults(compiled, r"^state\.slots", min_bytes=1) == ()


def test_a_table_that_is_gathered_is_named():
  compiled = compile_step(gathered, donate_argnums=0)
  faults = "\n".join(table_faults(compiled, min_bytes=1))
  assert "all-gather moves f32[80000,16], 4.9 MiB" in faults


@pytest.mark.parametrize("pattern", [r"^state\.nothing", r"^ids"])
def test_only_tables_are_asked_about(pattern):
  compiled = compile_step(dense, donate_argnums=0)
  faults = table_faults(compiled, pattern, min_bytes=1)
  assert all("tables" not in fault for fault in faults)
