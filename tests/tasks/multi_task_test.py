"""Several tasks in a step: balanced losses, balanced gradients, gates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.balancing.fixed_weights import FixedWeights
from recjax.balancing.grad_norm import GradNorm
from recjax.balancing.pcgrad import PCGrad
from recjax.balancing.uncertainty import UncertaintyWeighting
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.embeddings.row_optimizers import SGD
from recjax.errors import ConfigError
from recjax.layers.heads.mmoe import MMoE
from recjax.layers.heads.ple import PLE
from recjax.layers.heads.shared_bottom import SharedBottom
from recjax.models.multi_task import MultiTask
from recjax.tasks.multi_task import BALANCING, MultiTaskRanking
from recjax.tasks.ranking import NumericField
from recjax.tasks.task_objectives import Objective
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.state import init_state
from recjax.train.step import make_step

RNG = np.random.default_rng(0)
FIELDS = (CategoricalField("user", 20), CategoricalField("item", 30))
OBJECTIVES = (Objective("click"), Objective("buy", given="click"))
KEY = jax.random.key(0)
BATCH = {
  "user": jnp.asarray(RNG.integers(1, 20, 16), jnp.int32),
  "item": jnp.asarray(RNG.integers(1, 30, 16), jnp.int32),
  "age": jnp.asarray(RNG.normal(size=16), jnp.float32),
  "label": jnp.asarray(RNG.integers(0, 2, 16), jnp.float32),
  "label/click": jnp.asarray(RNG.integers(0, 2, 16), jnp.float32),
  "label/buy": jnp.asarray(RNG.integers(0, 2, 16), jnp.float32),
  "where": jnp.arange(16) < 14,
}


def make(head=None, optimizer=None, **settings):
  tables = TableSettings(init_stddev=0.5, optimizer=optimizer)
  return MultiTaskRanking(
    MultiTask(head or SharedBottom((6,), (4,)), num_tasks=2),
    FIELDS,
    (NumericField("age"),),
    (("", tables),),
    **({"objectives": OBJECTIVES} | settings),
  )


def stepped(task, num: int = 1):
  """States before and after steps of plain SGD, and the metrics."""
  optimizer = optax.sgd(0.1)
  mesh = make_mesh(MeshConfig(data=1, model=1))
  start = jax.jit(lambda key: init_state(task, optimizer, key))(KEY)
  step = jax.jit(make_step(task, optimizer, mesh))
  state = start
  for _ in range(num):
    state, metrics = step(state, BATCH, {}, KEY)
  return start, state, metrics


def task_gradient(task, params, number: int):
  """Of the mean loss of one task alone, with all that it shares."""
  weights = tuple(float(i == number) for i in range(2))
  alone = make(task.model.head, balancer=FixedWeights(weights))
  variables = alone.init(KEY)[1]
  loss = lambda p: alone.loss(p, {}, variables, BATCH, {}, KEY)
  return jax.grad(lambda p: loss(p)[0] / loss(p)[1][0])(params)


def test_fixed_weights_are_a_sum_of_losses():
  task = make(balancer=FixedWeights((2.0, 0.5)))
  start, end, metrics = stepped(task)
  grads = [task_gradient(task, start.params, n) for n in range(2)]
  expected = jax.tree.map(
    lambda p, a, b: p - 0.1 * (2.0 * a + 0.5 * b), start.params, *grads
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6)
  jax.tree.map(close, end.params, expected)
  losses = end.variables[BALANCING]["losses"]
  total = 2.0 * losses[0] + 0.5 * losses[1]
  np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_pcgrad_combines_what_is_shared_and_leaves_towers(is_sparse):
  task = make(balancer=PCGrad(), optimizer=SGD(0.1) if is_sparse else None)
  start, end, _ = stepped(task)
  dense = make(balancer=PCGrad())
  params = dict(start.params)
  if is_sparse:
    params["tables"] = start.tables
  first, second = (task_gradient(dense, params, n) for n in range(2))

  def shared(tree):
    parts = [tree["tables"]["embedding"], tree["model"]["head"]["bottom"]]
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(parts)])

  a, b = shared(first), shared(second)
  cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  np.testing.assert_allclose(
    end.variables[BALANCING]["cosines"][0, 1], 0.01 * cosine, atol=1e-4
  )
  total = a + b
  if a @ b < 0:  # Each loses its part along the other.
    total = a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a
  after = dict(end.params) | ({"tables": end.tables} if is_sparse else {})
  move = (shared(params) - shared(after)) / 0.1
  np.testing.assert_allclose(move, total, atol=1e-4)
  towers = jax.tree.map(
    lambda p, a, b: p - 0.1 * (a + b),
    *(tree["model"]["head"]["towers"] for tree in (params, first, second)),
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6)
  jax.tree.map(close, after["model"]["head"]["towers"], towers)


def test_measuring_the_conflict_changes_no_step():
  _, plain, _ = stepped(make(), 3)
  _, measured, _ = stepped(make(measure_conflict=True), 3)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
  jax.tree.map(close, measured.params, plain.params)
  cosines = np.asarray(measured.variables[BALANCING]["cosines"])
  # Means that started from 0, of three steps.
  np.testing.assert_allclose(np.diag(cosines), 1 - 0.99**3, rtol=1e-4)
  assert "cosines" not in plain.variables[BALANCING]


def test_what_a_balancer_trains_is_trained():
  _, end, _ = stepped(make(balancer=UncertaintyWeighting()), 3)
  leaves = jax.tree.leaves(end.params["balancer"])
  assert leaves and all(np.abs(leaf).max() > 0 for leaf in leaves)


def test_the_state_of_a_balancer_goes_on():
  task = make(balancer=GradNorm())
  start, end, _ = stepped(task, 4)
  before, after = (s.variables[BALANCING]["state"] for s in (start, end))
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
  assert any(jax.tree.leaves(moved))
  same = jax.tree.map(lambda a, b: a.shape == b.shape, start, end)
  assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("balancer", [FixedWeights(), PCGrad()])
def test_padding_rows_move_nothing(balancer):
  task = make(balancer=balancer)
  _, end, _ = stepped(task)
  other = dict(BATCH)
  try:
    for name in ("label/click", "label/buy", "age"):
      BATCH[name] = BATCH[name].at[14:].set(7.0)
    _, again, _ = stepped(task)
  finally:
    BATCH.update(other)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7)
  jax.tree.map(close, again.params, end.params)


@pytest.mark.parametrize(
  "head,names",
  [
    (SharedBottom((6,), (4,)), set()),
    (MMoE(3, (4,), (4,)), {"head/gate"}),
    (
      PLE(2, 2, 1, (4,), (4,)),
      {
        "head/gate_0_0",
        "head/gate_0_1",
        "head/gate_0_shared",
        "head/gate_1_0",
        "head/gate_1_1",
      },
    ),
  ],
)
def test_gates_are_told_by_their_names(head, names):
  task = make(head)
  _, end, _ = stepped(task)
  gates = task.gates(end.weights, BATCH)
  assert set(gates) == names
  for gate in gates.values():
    np.testing.assert_allclose(gate.sum(-1), 1.0, rtol=1e-5)
  assert task.scores(end.weights, BATCH).shape == (16, 2)


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"objectives": OBJECTIVES[:1]}, "a logit for each objective"),
    ({"balancer": FixedWeights((1.0, 2.0, 3.0))}, "FixedWeights.weights"),
    ({"objectives": ()}, "at least one Objective"),
  ],
)
def test_bad_settings_are_told(settings, message):
  with pytest.raises(ConfigError, match=message):
    make(**settings)
