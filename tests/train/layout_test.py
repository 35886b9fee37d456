"""The real training step with sparse tables cut over eight devices."""

import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest

from recjax.data.example_batches import ExampleBatches
from recjax.embeddings.choices import PlanConfig
from recjax.embeddings.collectives import collectives
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.embeddings.row_optimizers import RowWiseAdagrad
from recjax.embeddings.strategies import STRATEGIES
from recjax.errors import ConfigError
from recjax.models.dlrm import DLRM
from recjax.tasks.negative_sampling import NegativeSampling
from recjax.tasks.objectives import BinaryCrossEntropy, SampledSoftmax
from recjax.tasks.ranking import NumericField, Ranking
from recjax.train.layout import Layout
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.state import init_state, state_shardings
from recjax.train.step import make_step

KEY = jax.random.key(0)
OPTIMIZER = optax.sgd(0.05)
MESH = MeshConfig(data=4, model=2)
SIZES, BATCH_SIZE = (9000, 7000, 300), 64


def ranking(strategy):
  """DLRM with one sparse stack, cut by a strategy."""
  fields = tuple(
    CategoricalField(f"c{place}", size) for place, size in enumerate(SIZES)
  )
  settings = TableSettings(
    init_stddev=0.3, optimizer=RowWiseAdagrad(0.1), sharding=strategy
  )
  model = DLRM(dim=8, bottom=(8,), top=(8,))
  return Ranking(model, fields, (NumericField("x", 3),), (("", settings),))


def clicks():
  """Batches of random examples, their ids skewed by Zipf's law."""
  rng = np.random.default_rng(0)
  rows = 4 * BATCH_SIZE
  columns: dict[str, Any] = {
    f"c{place}": (rng.zipf(1.3, rows) % size).astype(np.int32)
    for place, size in enumerate(SIZES)
  }
  columns["x"] = rng.normal(size=(rows, 3)).astype(np.float32)
  columns["label"] = rng.integers(0, 2, rows).astype(np.float32)
  return ExampleBatches(columns, batch_size=BATCH_SIZE, seed=0)


def layout_of(task, batches, optimizer=OPTIMIZER):
  return Layout(task, optimizer, batches, {}, PlanConfig(), KEY)


def run(task, batches, config, num_steps=3):
  """Steps on a mesh: plan, compiled step, shardings, losses, state."""
  mesh = make_mesh(config)
  layout = layout_of(task, batches)
  sparse = layout.place(mesh)
  shardings = state_shardings(layout.shapes, mesh, sparse=sparse)
  init = functools.partial(init_state, task, OPTIMIZER, sparse=sparse)
  state = jax.jit(init, out_shardings=shardings)(KEY)
  replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  step = jax.jit(
    make_step(task, OPTIMIZER, mesh, sparse),
    in_shardings=(shardings, *[replicated] * 3),
    out_shardings=(shardings, replicated),
    donate_argnums=0,
  )
  batch = jax.device_put(batches.host_batch(0), replicated)
  compiled = step.lower(state, batch, {}, KEY).compile()
  losses = []
  for number in range(num_steps):
    batch = jax.device_put(batches.host_batch(number), replicated)
    state, metrics = compiled(state, batch, {}, jax.device_put(KEY, replicated))
    losses.append(float(metrics["loss"]))
  return layout.plan(mesh.shape), compiled, shardings, losses, state


def assert_same(found, wanted):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a), np.asarray(b), rtol=2e-4, atol=1e-6
    ),
    found,
    wanted,
  )


@pytest.fixture(scope="module")
def one_device():
  return run(ranking("auto"), clicks(), MeshConfig())


@pytest.fixture(scope="module", params=STRATEGIES)
def eight_devices(request):
  return run(ranking(request.param), clicks(), MESH)


def test_losses_tables_and_slots_are_those_of_one_device(
  eight_devices, one_device
):
  *_, losses, state = eight_devices
  *_, expected, expected_state = one_device
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert expected[0] != expected[1]
  assert_same(state, expected_state)


def test_the_state_lies_as_planned(eight_devices):
  found, _, shardings, _, state = eight_devices
  for array, sharding in zip(
    jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True
  ):
    assert array.sharding.is_equivalent_to(sharding, array.ndim)
  for array in found.arrays:
    here = state.tables[array.name].addressable_shards[0].data.nbytes
    assert here == array.cost.table_bytes


def test_collectives_are_as_planned_and_none_is_of_table_size(
  eight_devices, one_device
):
  found, compiled, _, _, state = eight_devices
  listed = collectives(compiled.as_text())
  assert not collectives(one_device[1].as_text())
  pieces = [
    array.addressable_shards[0].data.nbytes
    for array in state.tables.values()
    if array.size > 10_000
  ]
  assert max(each.bytes for each in listed) < min(pieces)
  # The gradient of all that is no table is summed over the devices, with the
  # loss, its weight and the norms.
  of_model = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
  of_norms = 4 * (2 + len(jax.tree.leaves((state.params, state.tables))))
  measured = sum(each.bytes for each in listed) - of_model - of_norms
  assert abs(measured / found.exchanged_bytes - 1) < 0.2


@pytest.mark.parametrize(
  "objective",
  [
    BinaryCrossEntropy(NegativeSampling(exclude="none")),
    SampledSoftmax(NegativeSampling(num=5, exclude="none", shared=True)),
  ],
)
def test_a_sparse_item_table_trains_in_micro_batches_on_a_mesh(
  planted, objective
):
  task = planted.task(
    objective,
    dropout_rate=0.0,
    micro_rows=8,
    table_optimizer=RowWiseAdagrad(0.1),
    table_sharding="row_wise",
  )
  batches = planted.batches(batch_size=32)
  assert batches.host_batch(0)["num_rows"] > 8  # More than one micro-batch.
  *_, expected, expected_state = run(task, batches, MeshConfig())
  found, *_, losses, state = run(task, batches, MESH)
  assert found is not None
  assert found.strategies == {"item": "row_wise"}
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert_same(state, expected_state)


def test_fit_plans_trains_and_restores_on_another_mesh(planted, tmp_path):
  task = planted.task(
    dropout_rate=0.0, micro_rows=8, table_optimizer=RowWiseAdagrad(0.1)
  )
  expected, expected_run = planted.fit(
    tmp_path / "one", task=task, num_epochs=2
  )
  recorded = planted.Run()

  def log(step, scalars):
    recorded.log(step, scalars)
    if step == 6:
      raise planted.Crash

  settings = {"num_epochs": 2, "checkpoint_every_steps": 3, "run": recorded}
  with pytest.raises(planted.Crash):
    planted.fit(tmp_path / "two", task=task, mesh=MESH, log=log, **settings)
  mesh = MeshConfig(data=1, model=2)
  result, _ = planted.fit(tmp_path / "two", task=task, mesh=mesh, **settings)
  assert recorded.resumed_from == [0, 4]
  assert "2 devices (data=1 x model=2)" in (
    tmp_path / "two" / "plan.txt"
  ).read_text("utf-8")
  np.testing.assert_allclose(recorded.losses, expected_run.losses, rtol=1e-4)
  assert_same(result.params, expected.params)


def test_a_plan_that_does_not_fit_says_by_how_much(planted, tmp_path):
  task = planted.task(micro_rows=8, table_optimizer=RowWiseAdagrad(0.1))
  mesh = MeshConfig(data=4, model=2, plan=PlanConfig(memory_bytes=4096))
  with pytest.raises(ConfigError, match="does not fit by"):
    planted.fit(tmp_path, task=task, mesh=mesh)
  assert not (tmp_path / "checkpoints").exists()


def test_what_no_table_takes_is_counted(planted):
  dense = planted.task()
  sparse = planted.task(table_optimizer=RowWiseAdagrad(0.1))
  for task, tables in ((dense, 128 * 8 * 4), (sparse, 0)):
    layout = layout_of(task, planted.batches(), optax.adam(1e-3))
    model = layout.shapes.params["model"]
    of_model = sum(4 * x.size for x in jax.tree.leaves(model))
    # Parameters, gradient, two moments and a count; half a dense table each.
    expected = 4 * of_model + 4 * tables // 2 + 4
    assert layout.plan({"data": 4, "model": 2}).other_bytes == expected


def test_the_lowered_step_is_that_of_training():
  layout = layout_of(ranking("row_wise"), clicks())
  found, compiled, _, _, state = run(ranking("row_wise"), clicks(), MESH, 0)
  ahead = layout.lower(make_mesh(MESH)).compile()
  total = lambda program: sum(
    each.bytes for each in collectives(program.as_text())
  )
  assert abs(total(ahead) - total(compiled)) <= 0.05 * total(compiled)
  tables = sum(
    leaf.addressable_shards[0].data.nbytes
    for leaf in jax.tree.leaves((state.tables, state.slots))
  )
  assert ahead.memory_analysis().alias_size_in_bytes >= tables


def test_a_batch_that_weighs_nothing_moves_nothing():
  task = ranking("row_wise")
  state = init_state(task, OPTIMIZER, KEY)
  batch = clicks().host_batch(0) | {"weight": np.zeros(BATCH_SIZE, np.float32)}
  step = jax.jit(make_step(task, OPTIMIZER, make_mesh(MeshConfig())))
  new, metrics = step(state, batch, {}, KEY)
  assert metrics["loss"] == 0.0
  jax.tree.map(np.testing.assert_array_equal, new.params, state.params)
  jax.tree.map(np.testing.assert_array_equal, new.tables, state.tables)
