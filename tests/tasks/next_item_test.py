import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.sequences import PackedRows
from recjax.errors import ConfigError
from recjax.models.sasrec import ITEM, SASRec
from recjax.tasks.negative_sampling import NegativeSampling
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import (
  BPR,
  GBCE,
  BinaryCrossEntropy,
  FullSoftmax,
  SampledSoftmax,
)

NUM_ITEMS, LEN, DIM, K = 20, 6, 4, 5
MODEL = SASRec(
  dim=DIM, max_len=LEN, num_blocks=1, dropout_rate=0.3, query_block=LEN
)
LENGTHS = np.array([6, 5, 3, 2, 2, 1, 0], np.int32)
_rng = np.random.default_rng(0)
COUNTS = np.concatenate([[0.0], _rng.integers(1, 9, NUM_ITEMS)])
WINDOW = _rng.integers(1, NUM_ITEMS + 1, (7, LEN + 1)) * (
  np.arange(LEN + 1) <= LENGTHS[:, None]
)
BATCH = {
  "window": jnp.asarray(WINDOW, jnp.int32),
  "length": jnp.asarray(LENGTHS),
  "row": jnp.array([0, 1, 2, 2, 3, 1, 0], jnp.int32),
  "offset": jnp.array([0, 0, 0, 3, 0, 5, 6], jnp.int32),
  "num_rows": jnp.int32(4),
}


def make(objective=FullSoftmax(chunk=4), **changes):  # noqa: B008
  settings = {"num_items": NUM_ITEMS, "micro_rows": 7} | changes
  return NextItem(MODEL, objective, **settings)


@functools.cache
def parameters():
  """Parameters in which no bias is zero and no scale one."""
  params, _ = jax.jit(make().init)(jax.random.key(0))
  rng = np.random.default_rng(1)
  noisy = lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32)
  table = np.asarray(params["tables"]["item"]).copy()
  table[1 : NUM_ITEMS + 1] = rng.normal(size=(NUM_ITEMS, DIM))
  return {
    "model": jax.tree.map(noisy, params["model"]),
    "tables": {"item": jnp.asarray(table)},
  }


@functools.partial(jax.jit, static_argnums=0)
def micro_batches(task, batch):
  return task.micro_batches(batch)


def first_rows(task, batch=BATCH):
  return jax.tree.map(lambda x: x[0], micro_batches(task, batch)[0])


@jax.jit
def encode_rows(rows):
  """Hidden states of packed rows, from the model alone."""
  params = parameters()
  return MODEL.apply(
    {"params": params["model"]},
    {ITEM: params["tables"]["item"][rows.item_id]},
    rows.position,
    rows.segment_id,
  )["hidden"]


@functools.partial(jax.jit, static_argnums=0)
def evaluate(task, params, rows, constants, key):
  gradient = jax.value_and_grad(task.loss, has_aux=True)
  rows = task.examples(rows, constants, key)
  (total, (weight, _)), grads = gradient(
    params, {}, {}, rows, constants, key, deterministic=True
  )
  return (total, weight), grads


@functools.partial(jax.jit, static_argnums=0, static_argnames="deterministic")
def evaluate_loss(task, params, rows, constants, key, deterministic=True):
  rows = task.examples(rows, constants, key)
  total, (weight, _) = task.loss(
    params, {}, {}, rows, constants, key, deterministic=deterministic
  )
  return total, weight


def whole(task, batch=BATCH, evaluate=evaluate):
  """Loss, weight and gradients of a batch in one micro-batch."""
  rows = first_rows(task, batch)
  constants = jax.tree.map(jnp.asarray, task.constants(COUNTS))
  key = jax.random.key(3)
  return evaluate(task, parameters(), rows, constants, key)


def allclose(got, want):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    got,
    want,
  )


# -- Parameters and micro-batches ---------------------------------------------


def test_init_makes_the_model_and_the_item_table():
  params = jax.eval_shape(make().init, jax.random.key(0))[0]
  assert set(params) == {"model", "tables"}
  assert params["tables"]["item"].shape == (128, DIM)
  assert params["model"]["position_embedding"].shape == (LEN, DIM)


@pytest.mark.parametrize("micro_rows,live", [(1, 4), (3, 2), (7, 1)])
def test_micro_batches_hold_the_batch_and_tell_how_many_are_live(
  micro_rows, live
):
  micro, num_live = micro_batches(make(micro_rows=micro_rows), BATCH)
  num_micro = -(-7 // micro_rows)
  assert micro.item_id.shape == (num_micro, micro_rows, LEN)
  assert num_live == live
  assert not np.any(micro.segment_id[live:])
  assert np.sum(micro.segment_id > 0) == LENGTHS.sum()
  rows = np.asarray(micro.item_id).reshape(-1, LEN)
  np.testing.assert_array_equal(rows[1, :5], WINDOW[1, :5])
  assert rows[1, 5] == WINDOW[5, 0]


def test_micro_batches_add_up_to_the_whole_batch():
  (total, weight), grads = whole(make())
  assert weight == LENGTHS.sum()
  task = make(micro_rows=2)
  micro, _ = micro_batches(task, BATCH)
  parts = [
    evaluate(
      task,
      parameters(),
      jax.tree.map(lambda x: x[index], micro),  # noqa: B023
      {},
      jax.random.key(index),
    )
    for index in range(4)
  ]
  summed = jax.tree.map(lambda *x: sum(map(np.asarray, x)), *parts)
  allclose(summed, ((total, weight), grads))
  (dead_total, dead_weight), dead_grads = parts[-1]
  assert dead_total == dead_weight == 0.0
  assert all(np.all(x == 0.0) for x in jax.tree.leaves(dead_grads))


def test_shards_of_the_data_change_nothing():
  allclose(whole(make(micro_rows=8, data_shards=4)), whole(make()))


def test_packing_does_not_change_the_loss():
  alone = BATCH | {
    "row": jnp.arange(7, dtype=jnp.int32),
    "offset": jnp.zeros(7, jnp.int32),
    "num_rows": jnp.int32(7),
  }
  totals = {}
  for positions in ("from_end", "from_start"):
    packer = make(positions=positions)
    run = lambda batch: evaluate(
      make(),
      parameters(),
      first_rows(packer, batch),  # noqa: B023
      {},
      jax.random.key(0),
    )
    packed = run(BATCH)
    allclose(run(alone), packed)
    totals[positions] = packed[0][0]
  assert abs(totals["from_end"] - totals["from_start"]) > 0.1


def test_dropout_acts_unless_deterministic():
  train = functools.partial(evaluate_loss, deterministic=False)
  dropped = whole(make(), evaluate=train)
  assert dropped == whole(make(), evaluate=train)
  calm = whole(make(), evaluate=evaluate_loss)
  assert abs(dropped[0] - calm[0]) > 1e-3
  assert dropped[1] == calm[1]


# -- Objectives ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Given(NegativeSampling):
  """Negatives that the test knows."""

  def draw_for_rows(
    self, key, item_id, target_id, segment_id, *, num_items, tickets
  ):
    rows, length = item_id.shape
    shape = (rows, 1 if self.shared else length, self.num)
    return jnp.asarray(given(shape))


def given(shape):
  return (np.arange(np.prod(shape)) * 7 % NUM_ITEMS + 1).reshape(shape)


def scores(task, rows):
  """Scores [row, len, id] and negatives, from the hidden states by hand."""
  params = parameters()
  table = np.asarray(params["tables"]["item"], np.float64)
  every = np.asarray(encode_rows(rows), np.float64) @ table.T
  if isinstance(task.objective, FullSoftmax):
    return every, None
  shared = task.objective.negatives.shared
  negative = given((len(every), 1 if shared else LEN, K))
  return every, np.broadcast_to(negative, (*every.shape[:2], K))


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def binary(score, positive, negative, task):
  return -np.log(sigmoid(score[positive])) - np.sum(
    np.log(1 - sigmoid(score[negative]))
  )


def gbce(score, positive, negative, task):
  alpha, t = K / (NUM_ITEMS - 1), 0.75
  beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
  log_p = beta * np.log(sigmoid(score[positive]))
  return -(log_p + np.sum(np.log(1 - sigmoid(score[negative])))) / (K + 1)


def bpr(score, positive, negative, task):
  return -np.mean(np.log(sigmoid(score[positive] - score[negative])))


def full(score, positive, negative, task):
  return np.log(np.sum(np.exp(score[1 : NUM_ITEMS + 1]))) - score[positive]


def sampled(score, positive, negative, task):
  sampling = task.objective.negatives
  q = np.full(NUM_ITEMS + 1, 1 / NUM_ITEMS)
  if sampling.distribution == "popularity":
    q = COUNTS**sampling.alpha / np.sum(COUNTS[1:] ** sampling.alpha)
  count = K * q if task.objective.log_q else np.ones(NUM_ITEMS + 1)
  partition = np.exp(score[positive])
  for item in negative:
    if item != positive:
      partition += np.exp(score[item]) / count[item]
  return np.log(partition) - score[positive]


EACH = Given(num=K, exclude="none")
SHARED = Given(num=K, exclude="none", shared=True)
POPULAR = Given(
  num=K, exclude="none", shared=True, distribution="popularity", alpha=0.5
)
OBJECTIVES = {
  "binary": (BinaryCrossEntropy(EACH), binary),
  "binary_shared": (BinaryCrossEntropy(SHARED), binary),
  "gbce": (GBCE(EACH, calibration=0.75), gbce),
  "bpr": (BPR(EACH), bpr),
  "full": (FullSoftmax(chunk=4), full),
  "sampled": (SampledSoftmax(EACH), sampled),
  "sampled_popular": (SampledSoftmax(POPULAR), sampled),
  "sampled_plain": (SampledSoftmax(POPULAR, log_q=False), sampled),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_is_the_formula_on_the_scores(name):
  objective, formula = OBJECTIVES[name]
  task = make(objective)
  total, weight = whole(task, evaluate=evaluate_loss)
  rows = first_rows(task)
  score, negative = scores(task, rows)
  expected, hits = 0.0, 0
  for r, p in np.argwhere(np.asarray(rows.segment_id) > 0):
    drawn = None if negative is None else negative[r, p]
    positive = int(rows.target_id[r, p])
    hits += drawn is not None and positive in drawn
    expected += formula(score[r, p], positive, drawn, task)
  np.testing.assert_allclose(total, expected, rtol=1e-4)
  assert weight == LENGTHS.sum()
  assert hits or negative is None  # The case of a drawn positive is there.


@pytest.mark.parametrize("name", ["binary", "full", "sampled_popular"])
def test_rows_that_are_no_items_get_no_gradient(name):
  _, grads = whole(make(OBJECTIVES[name][0]))
  table = grads["tables"]["item"]
  assert np.any(table[1 : NUM_ITEMS + 1] != 0.0)
  assert np.all(table[0] == 0.0) and np.all(table[NUM_ITEMS + 1 :] == 0.0)


def test_padding_has_no_effect():
  for objective in (BinaryCrossEntropy(EACH), FullSoftmax(chunk=4)):
    task = make(objective)
    rows = first_rows(task)
    valid = rows.segment_id > 0
    spoiled = rows._replace(
      item_id=jnp.where(valid, rows.item_id, 9),
      target_id=jnp.where(valid, rows.target_id, 11),
      position=jnp.where(valid, rows.position, 3),
    )
    key = jax.random.key(3)
    allclose(
      evaluate(task, parameters(), spoiled, {}, key),
      evaluate(task, parameters(), rows, {}, key),
    )


def test_only_popularity_needs_constants():
  assert make().constants(COUNTS) == {}
  assert make(BinaryCrossEntropy()).constants(COUNTS) == {}
  popular = make(SampledSoftmax(POPULAR)).constants(COUNTS)
  expected = POPULAR.cumulative_tickets(COUNTS)
  np.testing.assert_array_equal(popular["tickets"], expected)


# -- Encoding -----------------------------------------------------------------


encode = jax.jit(lambda params, batch: make(micro_rows=2).encode(params, batch))


def test_encode_gives_the_state_after_the_last_item():
  queries = encode(parameters(), BATCH)
  # Each history alone in a row, left-padded as in the paper.
  item, segment = np.zeros((2, 7, LEN), np.int32)
  for index, length in enumerate(LENGTHS):
    item[index, LEN - length :] = WINDOW[index, :length]
    segment[index, LEN - length :] = 1
  position = np.broadcast_to(np.arange(LEN, dtype=np.int32), item.shape)
  rows = PackedRows(*map(jnp.asarray, (item, item, position, segment)))
  expected = np.asarray(encode_rows(rows))[:, -1]
  assert LENGTHS[-1] == 0
  np.testing.assert_allclose(queries[:-1], expected[:-1], atol=1e-5)
  # Nothing is known of the last one: all items score alike.
  np.testing.assert_array_equal(queries[-1], np.zeros(DIM))


def test_encode_of_empty_histories_alone():
  empty = {name: jnp.zeros_like(array) for name, array in BATCH.items()}
  queries = encode(parameters(), empty)
  np.testing.assert_array_equal(queries, np.zeros((7, DIM)))


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"positions": "from_begin"}, "NextItem.positions must be one of"),
    ({"micro_rows": 0}, "NextItem.micro_rows must lie in"),
    ({"num_items": 1}, "NextItem.num_items must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    make(**settings)
