import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from recjax.embeddings.column_optimizers import across_columns, sums_a_row
from recjax.embeddings.row_optimizers import (
  FTRL,
  SGD,
  Adagrad,
  LazyAdam,
  Momentum,
  RowOptimizer,
  RowWiseAdagrad,
  SkipAwareAdam,
)
from recjax.embeddings.rows import update_rows
from recjax.errors import ConfigError
from recjax.train.mesh import MeshConfig, make_mesh

ROWS, DIM = 16, 8
CUT, WHOLE = PartitionSpec(None, "model"), PartitionSpec()


def updated(optimizer, max_norm, table, slots, grads):
  """Two steps; every other row is touched, one of them twice."""
  rows = jnp.array([0, 2, 4, 2, 6, 8])
  for step in range(2):
    table, slots = update_rows(
      table,
      slots,
      rows,
      grads * (1 + step),
      jnp.int32(step),
      optimizer=optimizer,
      max_norm=max_norm,
    )
  return table, slots


@pytest.mark.parametrize("max_norm", [0.0, 1.0])
@pytest.mark.parametrize(
  "optimizer",
  [
    SGD(0.1, weight_decay=0.1),
    Momentum(0.1),
    Adagrad(0.1),
    RowWiseAdagrad(0.1, weight_decay=0.01, schedule="linear", decay_steps=9),
    LazyAdam(0.1),
    SkipAwareAdam(0.1),
    FTRL(0.1, l1=0.01),
  ],
  ids=lambda optimizer: type(optimizer).__name__,
)
def test_slices_of_the_columns_move_as_whole_rows_do(optimizer, max_norm):
  rng = np.random.default_rng(0)
  table = jnp.asarray(rng.normal(size=(ROWS, DIM)), jnp.float32)
  grads = jnp.asarray(rng.normal(size=(6, DIM)), jnp.float32)
  slots = optimizer.slots(ROWS, DIM)
  expected = updated(optimizer, max_norm, table, slots, grads)

  sliced = across_columns(optimizer, max_norm, ("model",))
  specs = {
    name: CUT if slot.shape[1] == DIM else WHOLE for name, slot in slots.items()
  }
  step = jax.shard_map(
    functools.partial(updated, sliced, 0.0),
    mesh=make_mesh(MeshConfig(model=4)),
    in_specs=(CUT, specs, CUT),
    out_specs=(CUT, specs),
    check_vma=False,
  )
  found = jax.jit(step)(table, slots, grads)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
    found,
    expected,
  )
  if max_norm:
    touched = np.linalg.norm(np.asarray(found[0])[[0, 2, 4, 6, 8]], axis=1)
    assert touched.max() <= 1.0 + 1e-5


def test_what_is_summed_over_a_row():
  assert sums_a_row(SGD(), 0.0) == sums_a_row(Adagrad(), 0.0) == 0
  assert sums_a_row(RowWiseAdagrad(), 0.0) == sums_a_row(SGD(), 1.0) == 1
  assert sums_a_row(RowWiseAdagrad(), 2.0) == 2


def test_an_optimizer_that_is_not_known_is_refused():
  class Largest(RowOptimizer):
    def _move(self, rows, slots, grads, rate, step):
      return rate * jnp.max(grads, axis=1, keepdims=True), slots

  class Heir(RowWiseAdagrad):
    pass

  for optimizer in (Largest(), Heir()):
    name = type(optimizer).__name__
    with pytest.raises(ConfigError, match=f"of {name} .*Choose row_wise"):
      across_columns(optimizer, 0.0, ("model",))
