import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from recjax.errors import ConfigError
from recjax.models.sasrec import SASRec
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import FullSoftmax
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.optimizer import Optimizer, ParamGroup
from recjax.train.state import (
  TrainState,
  init_state,
  leaf_names,
  state_shardings,
  to_host,
)

TASK = NextItem(
  SASRec(dim=2, max_len=3, num_blocks=1), FullSoftmax(), num_items=9
)
PARAMS = {
  "model": {"kernel": jnp.ones((8, 2)), "bias": jnp.zeros(2)},
  "tables": {"item": jnp.arange(16.0).reshape(8, 2)},
}


def state_of(optimizer):
  opt_state = optimizer.build(PARAMS).init(PARAMS)
  return TrainState(jnp.int32(0), PARAMS, opt_state, {}, {}, {}, jnp.float32(1))


def specs(state, mesh, **kwargs):
  shardings = state_shardings(state, mesh, **kwargs)
  leaves = jax.tree.leaves(
    shardings, is_leaf=lambda x: isinstance(x, NamedSharding)
  )
  return {
    name: sharding.spec
    for name, sharding in zip(leaf_names(state), leaves, strict=True)
  }


def test_leaf_names_are_paths():
  assert leaf_names(PARAMS) == ["model/bias", "model/kernel", "tables/item"]


def test_init_state_starts_at_step_zero_and_is_fixed_by_its_key():
  optimizer = optax.adam(1e-3)
  init = jax.jit(lambda key: init_state(TASK, optimizer, key))
  state = init(jax.random.key(0))
  assert state.step == 0 and state.step.dtype == jnp.int32
  moments = state.opt_state[0].mu
  assert jax.tree.structure(moments) == jax.tree.structure(state.params)
  assert all(not np.any(x) for x in jax.tree.leaves(moments))
  table = lambda state: np.asarray(state.params["tables"]["item"])
  np.testing.assert_array_equal(table(state), table(init(jax.random.key(0))))
  assert np.any(table(state) != table(init(jax.random.key(1))))


OPTIMIZERS = {
  "adam": Optimizer(),
  "clipped": Optimizer(clip_norm=1.0),
  "groups": Optimizer(
    groups=(ParamGroup("tables/", optimizer="adagrad"), ParamGroup())
  ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_tables_and_their_moments_lie_row_wise_and_all_else_everywhere(name):
  found = specs(
    state_of(OPTIMIZERS[name]), make_mesh(MeshConfig(data=2, model=4))
  )
  tables = {name for name in found if name.endswith("tables/item")}
  moments = {"adam": 2, "clipped": 2, "groups": 1}
  assert "params/tables/item" in tables
  assert len(tables) == 1 + moments[name]
  for leaf, spec in found.items():
    expected = ("model", None) if leaf in tables else ()
    assert spec == PartitionSpec(*expected), leaf


def test_rules_can_be_given():
  mesh = make_mesh(MeshConfig(data=2, model=2))
  rules = ((r"kernel", PartitionSpec(None, "data")),)
  found = specs(PARAMS, mesh, rules=rules)
  assert found["model/kernel"] == PartitionSpec(None, "data")
  assert found["tables/item"] == PartitionSpec()


def test_a_mesh_that_does_not_divide_a_table_is_refused():
  mesh = make_mesh(MeshConfig(data=1, model=3))
  with pytest.raises(ConfigError, match="tables/item has 8 rows, which the 3"):
    state_shardings(PARAMS, mesh)


def test_to_host_gathers_shards():
  mesh = make_mesh(MeshConfig(data=2, model=4))
  laid_out = jax.device_put(PARAMS, state_shardings(PARAMS, mesh))
  table = laid_out["tables"]["item"]
  assert table.addressable_shards[0].data.shape == (2, 2)
  host = to_host(laid_out)
  assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(host))
  jax.tree.map(np.testing.assert_array_equal, host, PARAMS)
