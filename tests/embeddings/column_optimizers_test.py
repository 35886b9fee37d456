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
from recjax.errors import ConfigError
from recjax.train.mesh import MeshConfig, make_mesh

ROWS, DIM = 16, 8
CUT, WHOLE = PartitionSpec(None, "model"), PartitionSpec()
OPTIMIZERS = (
  SGD(0.1, weight_decay=0.1),
  Momentum(0.1),
  Adagrad(0.1),
  RowWiseAdagrad(0.1, weight_decay=0.01, schedule="linear", decay_steps=9),
  LazyAdam(0.1),
  SkipAwareAdam(0.1),
  FTRL(0.1, l1=0.01),
)
CASES = {
  f"{type(optimizer).__name__} {max_norm}": (optimizer, max_norm)
  for optimizer in OPTIMIZERS
  for max_norm in (0.0, 1.0)
}


def two_steps(optimizers, rows, slots, grads):
  """Rows and slots of each case after two steps."""
  out = {}
  for name, optimizer in optimizers.items():
    state = rows, slots[name]
    for step in range(2):
      state = optimizer.update(*state, grads * (1 + step), jnp.int32(step))
    out[name] = state
  return out


class Whole:
  """An optimizer of whole rows that scales them down after each step."""

  def __init__(self, optimizer, max_norm):
    self.optimizer, self.max_norm = optimizer, max_norm

  def update(self, rows, slots, grads, step):
    rows, slots = self.optimizer.update(rows, slots, grads, step)
    if self.max_norm:
      norm = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
      rows = jnp.where(norm > self.max_norm, rows / norm * self.max_norm, rows)
    return rows, slots


def test_slices_of_the_columns_move_as_whole_rows_do():
  rng = np.random.default_rng(0)
  rows = jnp.asarray(rng.normal(size=(ROWS, DIM)), jnp.float32)
  grads = jnp.asarray(rng.normal(size=(ROWS, DIM)), jnp.float32)
  slots = {name: o.slots(ROWS, DIM) for name, (o, _) in CASES.items()}
  whole = {name: Whole(*case) for name, case in CASES.items()}
  expected = jax.jit(functools.partial(two_steps, whole))(rows, slots, grads)

  sliced = {
    name: across_columns(*case, ("model",)) for name, case in CASES.items()
  }
  specs = jax.tree.map(lambda x: CUT if x.ndim > 1 else WHOLE, slots)
  step = jax.shard_map(
    functools.partial(two_steps, sliced),
    mesh=make_mesh(MeshConfig(model=4)),
    in_specs=(CUT, specs, CUT),
    out_specs={name: (CUT, spec) for name, spec in specs.items()},
    check_vma=False,
  )
  found = jax.jit(step)(rows, slots, grads)
  for name in CASES:
    jax.tree.map(
      functools.partial(
        np.testing.assert_allclose, rtol=2e-5, atol=1e-6, err_msg=name
      ),
      found[name],
      expected[name],
    )
    norms = np.linalg.norm(found[name][0], axis=1)
    assert (norms.max() <= 1.0 + 1e-5) == (CASES[name][1] > 0)


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
