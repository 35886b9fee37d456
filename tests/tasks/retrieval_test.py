"""Two towers as a task: look-ups, losses, gradients, serving."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.ragged import Ragged
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.embeddings.row_optimizers import SGD
from recjax.errors import ConfigError
from recjax.layers.histories import MeanHistory
from recjax.layers.interests import SelfAttentiveInterests
from recjax.models.tower import Tower
from recjax.models.two_tower import TwoTower
from recjax.tasks.history_windows import HistoryWindow
from recjax.tasks.ranking import NumericField
from recjax.tasks.retrieval import PLACE, Retrieval
from recjax.tasks.retrieval_negatives import InBatch, Uniform
from recjax.tasks.retrieval_objectives import Softmax
from recjax.tasks.sides import Side

NUM_USERS, NUM_ITEMS, DIM = 5, 7, 4
RNG = np.random.default_rng(0)
GENRES = RNG.integers(0, 4, (NUM_ITEMS + 1, 3)).astype(np.int32)
TITLES = RNG.integers(0, 6, (NUM_ITEMS + 1, 5)).astype(np.int32)
IMAGES = RNG.normal(size=(NUM_ITEMS + 1, 6)).astype(np.float32)
AGES = RNG.normal(size=(NUM_USERS + 1,)).astype(np.float32)
COLUMNS = {
  "user/user_id": np.arange(NUM_USERS + 1, dtype=np.int32),
  "user/age": AGES,
  "item/item_id": np.arange(NUM_ITEMS + 1, dtype=np.int32),
  "item/genres": GENRES,
  "item/title": TITLES,
  "item/image": IMAGES,
}
TRAIN = Ragged(
  np.array([1, 2, 3, 4, 5, 6, 1, 3, 5, 7, 2, 2]),
  np.array([0, 0, 3, 6, 10, 11, 12]),
)
COUNTS = np.bincount(TRAIN.values, minlength=NUM_ITEMS + 1)


def make_task(**changes) -> Retrieval:
  settings = {
    "model": TwoTower(Tower(DIM, (6,)), Tower(DIM, (6,))),
    "objective": Softmax(),
    "negatives": (InBatch(), Uniform(3)),
    "num_users": NUM_USERS,
    "num_items": NUM_ITEMS,
    "user": Side((CategoricalField("user_id", NUM_USERS + 1),), (), ("age",)),
    "context": Side((CategoricalField("hour", 25),)),
    "item": Side(
      (
        CategoricalField("item_id", NUM_ITEMS + 1),
        CategoricalField("genres", 4, combiner="mean"),
        CategoricalField("title", 6),
      ),
      ("title",),
      (),
      (NumericField("image", 6),),
    ),
    "embedding_dim": 4,
    "feature_dims": (("hour", 2),),
  }
  return Retrieval(**{**settings, **changes})


def with_history(**changes) -> Retrieval:
  tower = Tower(DIM, (6,), history=MeanHistory())
  return make_task(
    model=TwoTower(tower, Tower(DIM)), history=HistoryWindow(3), **changes
  )


def constants_of(task: Retrieval) -> dict:
  arrays = {**COLUMNS, **task.constants(TRAIN, COUNTS)}
  return {name: jnp.asarray(x) for name, x in arrays.items()}


def batch_of(task: Retrieval) -> dict:
  users = TRAIN.row_ids[:6]
  batch = {
    "user_id": users.astype(np.int32),
    "item_id": TRAIN.values[:6].astype(np.int32),
    "context/hour": np.arange(1, 7, dtype=np.int32),
    "where": np.array([True] * 5 + [False]),
  }
  if task.history is not None:
    batch[PLACE] = task.history.places(TRAIN)[:6]
  return {name: jnp.asarray(x) for name, x in batch.items()}


def loss_of(task: Retrieval, params, variables, tables=None, key=0):
  """The sum of the losses of the batch, and its examples."""
  constants = constants_of(task)
  micro, _ = task.micro_batches(batch_of(task))
  part = jax.tree.map(lambda x: x[0], micro)
  key = jax.random.key(key)
  examples = task.examples(part, constants, key)
  embeddings = {}
  if task.sparse.tables:
    routes = task.sparse.routes(examples)
    embeddings = task.sparse.embed(task.sparse.gather(tables, routes), examples)
  out = task.loss(params, embeddings, variables, examples, constants, key)
  return out, examples


@pytest.mark.parametrize("make", [make_task, with_history])
def test_the_loss_is_that_of_the_vectors_that_are_served(make):
  task = make()
  params, variables = task.init(jax.random.key(1))
  (total, (weight, _)), examples = loss_of(task, params, variables)
  assert weight == 5.0
  columns = {name: jnp.asarray(x) for name, x in COLUMNS.items()}
  batch = batch_of(task)
  if task.history is not None:
    ids, _ = task.history.windows(
      batch["user_id"], batch[PLACE], constants_of(task)
    )
    batch["history"] = ids
  users = np.asarray(task.user_vectors(params, columns, batch))
  every = {"item_id": jnp.arange(NUM_ITEMS + 1)}
  items = np.asarray(task.item_vectors(params, columns, every))
  candidates = np.asarray(examples["candidates"])
  expected = 0.0
  uniform = candidates[:, 1:].reshape(-1)[:3]
  for row in range(5):
    positive = candidates[row, 0]
    others = [*np.delete(candidates[:5, 0], row), *uniform]
    scores = [items[i] @ users[row] for i in others if i != positive]
    own = items[positive] @ users[row]
    expected += np.log(np.exp(scores).sum() + np.exp(own)) - own
  np.testing.assert_allclose(total, expected, rtol=1e-4)


def test_sparse_tables_give_the_same_loss_as_dense_ones():
  dense = make_task()
  sparse = make_task(tables=(("", TableSettings(optimizer=SGD(0.1))),))
  params, variables = dense.init(jax.random.key(1))
  expected = loss_of(dense, params, variables)[0][0]
  model = {"model": params["model"]}
  assert not sparse.dense.tables
  found = loss_of(sparse, model, variables, tables=params["tables"])[0][0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  weights = {**model, "tables": params["tables"]}
  columns = {name: jnp.asarray(x) for name, x in COLUMNS.items()}
  every = {"item_id": jnp.arange(NUM_ITEMS + 1)}
  np.testing.assert_allclose(
    sparse.item_vectors(weights, columns, every),
    dense.item_vectors(params, columns, every),
    rtol=1e-6,
  )


def test_padding_rows_move_nothing():
  task = make_task(negatives=(InBatch(),))
  params, variables = task.init(jax.random.key(1))

  def total(params, batch):
    constants = constants_of(task)
    key = jax.random.key(0)
    examples = task.examples(batch, constants, key)
    return task.loss(params, {}, variables, examples, constants, key)[0]

  batch = batch_of(task)
  other = {
    **batch,
    "item_id": batch["item_id"].at[5].set(7),
    "user_id": batch["user_id"].at[5].set(4),
  }
  value, gradient = jax.value_and_grad(total)(params, batch)
  jitted, same = jax.jit(jax.value_and_grad(total))(params, other)
  np.testing.assert_allclose(value, jitted, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    gradient,
    same,
  )
  norms = jax.tree.map(lambda g: float(jnp.abs(g).max()), gradient["tables"])
  assert all(norm > 0 for norm in norms.values())


def test_several_interests_answer_for_a_target_by_the_best():
  tower = Tower(DIM, interests=SelfAttentiveInterests(num_interests=2, dim=DIM))
  task = make_task(
    model=TwoTower(tower, Tower(DIM)),
    history=HistoryWindow(3),
    negatives=(InBatch(),),
  )
  params, variables = task.init(jax.random.key(1))
  total = loss_of(task, params, variables)[0][0]
  columns = {name: jnp.asarray(x) for name, x in COLUMNS.items()}
  batch = batch_of(task)
  batch["history"] = task.history.windows(
    batch["user_id"], batch[PLACE], constants_of(task)
  )[0]
  users = np.asarray(task.user_vectors(params, columns, batch))
  assert users.shape == (6, 2, DIM)
  items = np.asarray(
    task.item_vectors(params, columns, {"item_id": jnp.arange(NUM_ITEMS + 1)})
  )
  targets = np.asarray(batch["item_id"])
  expected = 0.0
  for row in range(5):
    user = max(users[row], key=lambda vector: vector @ items[targets[row]])
    scores = [items[i] @ user for i in targets[:5] if i != targets[row]]
    own = items[targets[row]] @ user
    expected += np.log(np.exp(scores).sum() + np.exp(own)) - own
  np.testing.assert_allclose(total, expected, rtol=1e-4)


def test_temperature_is_learned_and_vectors_have_length_one():
  model = TwoTower(
    Tower(DIM), Tower(DIM), True, temperature=0.2, learned_temperature=True
  )
  task = make_task(model=model)
  params, variables = task.init(jax.random.key(1))
  start = params["model"]["log_temperature"]
  np.testing.assert_allclose(start, np.log(0.2), rtol=1e-6)
  gradient = jax.grad(lambda p: loss_of(task, p, variables)[0][0])(params)
  assert abs(gradient["model"]["log_temperature"]) > 0
  columns = {name: jnp.asarray(x) for name, x in COLUMNS.items()}
  users = task.user_vectors(params, columns, batch_of(task))
  np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1.0, rtol=1e-5)


def test_a_history_that_nobody_reads_is_told():
  with pytest.raises(ConfigError, match="reads none"):
    make_task(history=HistoryWindow(3))
  tower = Tower(DIM, history=MeanHistory())
  with pytest.raises(ConfigError, match="reads one"):
    make_task(model=TwoTower(tower, Tower(DIM)))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"remove_hits": "targets"}, "remove_hits.*'target'"),
    ({"feature_dims": (("hours", 2),)}, "hours"),
    ({"tables": (("users", TableSettings()),)}, "users"),
    ({"tables": (("user", TableSettings()),)}, "no table settings"),
  ],
)
def test_bad_settings_are_told(changes, message):
  with pytest.raises(ConfigError, match=message):
    make_task(**changes)


def test_a_task_is_a_value():
  assert hash(make_task()) == hash(make_task())
  assert make_task() == dataclasses.replace(make_task())
