import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from recjax.errors import RunError
from recjax.train.feeds import DeviceFeed, GrainFeed
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.optimizer import Optimizer
from recjax.train.state import init_state, leaf_names, state_shardings
from recjax.train.step import make_step

NUM_STEPS = 4
"""One epoch."""


@pytest.fixture(scope="module")
def make(planted):
  """A feed over a mesh and a state to start from."""

  def make(kind, config=None, **settings):
    config = config or MeshConfig()
    mesh = make_mesh(config)
    task, batches = planted.task(data_shards=config.data), planted.batches()
    key = jax.random.key(1)
    optimizer = Optimizer().build(jax.eval_shape(task.init, key)[0])
    init = functools.partial(init_state, task, optimizer)
    shardings = state_shardings(jax.eval_shape(init, key), mesh)
    feed = kind(
      make_step(task, optimizer, mesh),
      batches,
      shardings=shardings,
      mesh=mesh,
      constants=task.constants(planted.counts),
      base_key=jax.random.key(2),
      **settings,
    )
    return feed, jax.jit(init, out_shardings=shardings)(key)

  return make


@pytest.fixture(scope="module")
def expected(make):
  """Metrics and parameters after an epoch of the device feed."""
  feed, state = make(DeviceFeed, steps_per_dispatch=NUM_STEPS)
  state, metrics = feed.run(state, 0, NUM_STEPS)
  return metrics, jax.tree.map(np.asarray, state)


def assert_same(found, wanted):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
    found,
    wanted,
  )


def test_grain_and_device_are_two_roads_to_the_same(make, expected):
  feed, state = make(GrainFeed, num_steps=NUM_STEPS)
  state, metrics = feed.run(state, 0, NUM_STEPS)
  assert metrics["loss"].shape == (NUM_STEPS,)
  assert metrics["gradient_norms"].shape[0] == NUM_STEPS
  assert_same((metrics, jax.tree.map(np.asarray, state)), expected)


@pytest.mark.parametrize(
  "kind,settings", [(DeviceFeed, {}), (GrainFeed, {"num_steps": NUM_STEPS})]
)
def test_several_dispatches_are_one(make, expected, kind, settings):
  # Three steps, and the one that is left.
  feed, state = make(kind, steps_per_dispatch=3, **settings)
  state, metrics = feed.run(state, 0, NUM_STEPS)
  assert_same((metrics, jax.tree.map(np.asarray, state)), expected)


@pytest.mark.parametrize(
  "kind,settings",
  [
    (DeviceFeed, {"steps_per_dispatch": NUM_STEPS}),
    (GrainFeed, {"num_steps": NUM_STEPS}),
  ],
)
def test_over_a_mesh(make, expected, kind, settings):
  feed, before = make(kind, MeshConfig(data=2, model=4), **settings)
  after, metrics = feed.run(before, 0, NUM_STEPS)
  assert_same((metrics, jax.tree.map(np.asarray, after)), expected)
  # The state that went in is gone: its memory is that of the new one.
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
  tables = 0
  for name, leaf in zip(leaf_names(after), jax.tree.leaves(after), strict=True):
    if "tables/item" in name:
      tables += 1
      assert leaf.sharding.spec == PartitionSpec("model", None), name
      rows = {shard.data.shape for shard in leaf.addressable_shards}
      assert rows == {(128 // 4, 8)}, name
    else:
      assert leaf.sharding.is_fully_replicated, name
  assert tables == 3  # The table and both moments of Adam.


def test_grain_goes_on_from_a_position(make, expected):
  feed, state = make(GrainFeed, num_steps=NUM_STEPS)
  state, first = feed.run(state, 0, 1)
  position = feed.position()
  other, _ = make(GrainFeed, num_steps=NUM_STEPS)
  other.seek(1, position)
  _, rest = other.run(state, 1, NUM_STEPS - 1)
  losses = np.concatenate([first["loss"], rest["loss"]])
  np.testing.assert_allclose(losses, expected[0]["loss"], rtol=1e-4)


@pytest.mark.parametrize("position", [{}, {"next_index": 2}])
def test_grain_refuses_a_position_of_elsewhere(make, position):
  feed, _ = make(GrainFeed, num_steps=NUM_STEPS)
  with pytest.raises(RunError, match="checkpoint of step 3 .* set feed as it"):
    feed.seek(3, position)


def test_the_device_feed_needs_no_position(make):
  feed, _ = make(DeviceFeed, steps_per_dispatch=NUM_STEPS)
  assert feed.position() == {}
  feed.seek(3, {})
