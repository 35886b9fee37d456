import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.choices import PlanConfig, choose, workloads
from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.costs import array_cost
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.row_optimizers import Adagrad, RowOptimizer
from recjax.embeddings.strategies import STRATEGIES, make_partition
from recjax.embeddings.tables import TableSpec
from recjax.errors import ConfigError

SHAPE = {"data": 4, "model": 2}
BATCH = 512
SIZES = {"tiny": 100, "small": 20_000, "large": 2_000_000}


def make_collection(dim=64, optimizer=Adagrad()):  # noqa: B008
  specs = tuple(
    TableSpec(name, size, dim, optimizer=optimizer)
    for name, size in SIZES.items()
  )
  return EmbeddingCollection(
    specs, tuple(Lookup(spec.name, spec.name) for spec in specs)
  )


def shapes(batch=BATCH):
  return {name: jax.ShapeDtypeStruct((batch,), jnp.int32) for name in SIZES}


def chosen(collection, config=None, asked=None, shape=None):
  shape = shape or SHAPE
  work = workloads(collection, shapes(), 8)
  return choose(collection, work, shape, asked or {}, config or PlanConfig())


def prices(collection, name, config):
  """Price and memory of every strategy, from the cost of each."""
  layout = collection.arrays[name]
  work = workloads(collection, shapes(), 8)[name]
  out = {}
  for strategy in STRATEGIES:
    cost = array_cost(
      layout,
      make_partition(layout, strategy, SHAPE),
      work,
      dense_copies=config.dense_copies,
    )
    price = (
      cost.exchanged_bytes
      + config.latency_bytes * cost.collectives
      + config.memory_price * cost.memory_bytes
    )
    out[strategy] = price, cost.memory_bytes
  return out


@pytest.mark.parametrize("latency_bytes", [0, 2**18, 2**24])
@pytest.mark.parametrize("memory_price", [0.0, 1 / 256])
def test_without_a_limit_the_least_price_is_taken(latency_bytes, memory_price):
  config = PlanConfig(latency_bytes=latency_bytes, memory_price=memory_price)
  collection = make_collection()
  for array in chosen(collection, config):
    found = prices(collection, array.name, config)
    # That is no choice for a single table.
    del found["table_wise"]
    assert found[array.strategy] == min(found.values())


def test_latency_makes_replicas_of_what_is_small():
  near = lambda **prices: {
    array.name: array.strategy
    for array in chosen(make_collection(), PlanConfig(**prices))
  }
  assert near(latency_bytes=0)["tiny"] == "row_wise"
  default = near()
  assert default["tiny"] == default["small"] == "data_parallel"
  assert default["large"] == "row_wise"
  assert near(memory_price=0.0)["large"] == "data_parallel"


def test_too_little_memory_moves_the_arrays_that_save_it_cheaply():
  collection = make_collection()
  free = PlanConfig(latency_bytes=2**30)
  of = lambda arrays: {array.name: array.strategy for array in arrays}
  total = lambda arrays: sum(array.cost.memory_bytes for array in arrays)
  wanted = chosen(collection, free)
  assert set(of(wanted).values()) == {"data_parallel"}
  # All but a tenth: the large array alone can give it, and must not give all.
  limit = int(0.9 * total(wanted))
  tight = chosen(collection, PlanConfig(limit, latency_bytes=2**30))
  assert total(tight) <= limit
  assert of(tight)["tiny"] == of(tight)["small"] == "data_parallel"
  assert of(tight)["large"] != "data_parallel"
  large = tight[2]
  assert large.reason.startswith(f"{large.strategy}, ")
  assert "so that all fits; the least price has data_parallel" in large.reason
  # What is no table takes memory too.
  other = PlanConfig(2 * limit, other_bytes=limit, latency_bytes=2**30)
  assert of(chosen(collection, other)) == of(tight)
  # No limit is too low to choose for: all take the least they can.
  least = chosen(collection, PlanConfig(1, latency_bytes=2**30))
  for array in least:
    found = prices(collection, array.name, free)
    assert array.cost.memory_bytes == min(
      memory for _, memory in found.values()
    )


def test_what_is_asked_for_is_kept():
  asked = {"large": "two_dimensional", "tiny": "table_wise", "small": "auto"}
  arrays = chosen(make_collection(), PlanConfig(1), asked)
  of = {array.name: array for array in arrays}
  assert of["large"].strategy == "two_dimensional"
  assert of["large"].reason == "two_dimensional, as asked for."
  assert "more than one device: 1 of 1" in of["tiny"].reason
  line = chosen(
    make_collection(), None, {"large": "column_wise"}, {"data": 8, "model": 1}
  )
  assert "so nothing is cut" in line[2].reason


def test_what_is_not_possible_is_no_choice_and_an_error_if_asked_for():
  odd = make_collection(dim=63)
  for array in chosen(odd, PlanConfig(1)):
    assert not array.partition.columns
  with pytest.raises(ConfigError, match="the 63 columns of the array 'large'"):
    chosen(odd, None, {"large": "column_wise"})

  class Unknown(RowOptimizer):
    def _move(self, rows, slots, grads, rate, step):
      return rate * grads, slots

  unknown = make_collection(optimizer=Unknown())
  for array in chosen(unknown, PlanConfig(1)):
    assert not array.partition.columns
  with pytest.raises(ConfigError, match="of Unknown it is not known"):
    chosen(unknown, None, {"large": "two_dimensional"})


def test_workloads_of_arrays_hold_their_rows():
  collection = make_collection()
  batch = {
    name: np.arange(BATCH, dtype=np.int32) % size
    for name, size in SIZES.items()
  }
  work = workloads(collection, batch, 8)
  assert work["tiny"].lookups == work["large"].lookups == BATCH // 8
  rows = work["small"].rows
  assert rows is not None
  np.testing.assert_array_equal(rows[1:], batch["small"][1:])
  assert rows[0] == 2**31 - 1  # Id 0 is padding.
  assert workloads(collection, shapes(), 8)["small"].rows is None
  with pytest.raises(ConfigError, match="multiple of the 8 .* 'tiny' has 100"):
    workloads(collection, shapes(100), 8)


def test_settings_are_checked():
  with pytest.raises(ConfigError, match="PlanConfig.memory_bytes must lie in"):
    PlanConfig(memory_bytes=-1)
