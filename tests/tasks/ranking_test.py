import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.embeddings.row_optimizers import SGD
from recjax.errors import ConfigError
from recjax.models.deepfm import DeepFM
from recjax.models.fm import FM
from recjax.models.lr import LR
from recjax.tasks.ranking import NumericField, Ranking
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.state import init_state
from recjax.train.step import make_step

FIELDS = (
  CategoricalField("user", 20),
  CategoricalField("tags", 9, combiner="mean"),
  CategoricalField("item", 30),
)
NUMERIC = (NumericField("age"), NumericField("vector", 2))
RNG = np.random.default_rng(0)
BATCH = {
  "user": jnp.asarray(RNG.integers(0, 20, 8), jnp.int32),
  "tags": jnp.asarray(RNG.integers(0, 9, (8, 3)), jnp.int32),
  "item": jnp.asarray(RNG.integers(0, 30, 8), jnp.int32),
  "age": jnp.asarray(RNG.normal(size=8), jnp.float32),
  "vector": jnp.asarray(RNG.normal(size=(8, 2)), jnp.float32),
  "label": jnp.asarray(RNG.integers(0, 2, 8), jnp.float32),
  "weight": jnp.asarray(RNG.uniform(0.5, 2.0, 8), jnp.float32),
  "where": jnp.arange(8) < 7,
}
KEY = jax.random.key(0)


def make(model, optimizer=None, **settings):
  tables = TableSettings(init_stddev=0.5, optimizer=optimizer)
  settings = {"numeric": NUMERIC} | settings
  return Ranking(model, FIELDS, tables=(("", tables),), **settings)


def test_scores_of_lr_are_the_sum_of_the_weights():
  task = make(LR())
  params, variables = task.init(KEY)
  assert variables == {}
  weights = np.asarray(params["tables"]["linear"], np.float64)[:, 0]
  # Tables follow each other in the order of the fields.
  user = weights[:20][BATCH["user"]] * (BATCH["user"] > 0)
  item = weights[29:59][BATCH["item"]] * (BATCH["item"] > 0)
  tag = weights[20:29][BATCH["tags"]]
  mask = np.asarray(BATCH["tags"]) > 0
  tags = (tag * mask).sum(1) / np.maximum(mask.sum(1), 1)
  numeric = np.concatenate([BATCH["age"][:, None], BATCH["vector"]], axis=1)
  linear = jax.tree.map(np.asarray, params["model"])["linear"]
  expected = user + item + tags + numeric @ linear["dense"] + linear["bias"]
  np.testing.assert_allclose(task.scores(params, BATCH), expected, rtol=1e-5)


@pytest.mark.parametrize("loss_name", ["binary_cross_entropy", "squared_error"])
def test_loss_is_the_weighted_sum_over_what_counts(loss_name):
  task = make(FM(4), loss_name=loss_name)
  params, variables = task.init(KEY)
  total, (weight, _) = task.loss(params, {}, variables, BATCH, {}, KEY)
  logit = np.asarray(task.scores(params, BATCH), np.float64)
  label = np.asarray(BATCH["label"], np.float64)
  losses = np.square(logit - label)
  if loss_name == "binary_cross_entropy":
    chance = 1 / (1 + np.exp(-logit))
    losses = -label * np.log(chance) - (1 - label) * np.log(1 - chance)
  each = np.asarray(BATCH["weight"], np.float64)[:7]
  np.testing.assert_allclose(total, (losses[:7] * each).sum(), rtol=1e-5)
  np.testing.assert_allclose(weight, each.sum(), rtol=1e-6)


def test_sparse_tables_train_as_dense_ones():
  dense, sparse = make(DeepFM(4, (8,))), make(DeepFM(4, (8,)), SGD(0.3))
  states = {}
  for name, task in {"dense": dense, "sparse": sparse}.items():
    transformation = optax.sgd(0.3)
    state = init_state(task, transformation, KEY)
    if name == "dense":
      tables = state.params["tables"]
    else:
      state.tables.update(tables)
    step = jax.jit(make_step(task, transformation, make_mesh(MeshConfig())))
    for _ in range(3):
      state, metrics = step(state, BATCH, {}, KEY)
    states[name] = (state.weights, metrics)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, states["dense"][0], states["sparse"][0])
  close(states["dense"][1]["loss"], states["sparse"][1]["loss"])


def test_batch_norm_keeps_running_averages():
  task = make(DeepFM(4, (8,), batch_norm=True))
  state = init_state(task, optax.sgd(0.1), KEY)
  step = jax.jit(make_step(task, optax.sgd(0.1), make_mesh(MeshConfig())))
  new, _ = step(state, BATCH, {}, KEY)
  before, after = map(jax.tree.leaves, (state.variables, new.variables))
  assert len(after) and all(np.any(a != b) for a, b in zip(after, before))
  assert "batch_stats" in new.weights
  # What only fills up the batch has no part in them.
  other = BATCH | {"age": BATCH["age"].at[7].set(1e6)}
  again, _ = step(state, other, {}, KEY)
  same = lambda a, b: np.testing.assert_array_equal(a, b)
  jax.tree.map(same, new.variables, again.variables)


def test_an_unknown_loss_names_the_nearest():
  with pytest.raises(ConfigError, match="Did you mean 'squared_error'"):
    make(LR(), loss_name="squared_eror")
