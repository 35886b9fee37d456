"""Candidates of mixed sources against losses written out over rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError
from recjax.tasks.candidates import CandidateSources
from recjax.tasks.cross_batch_memory import CrossBatchMemory
from recjax.tasks.frequencies import StreamingFrequency
from recjax.tasks.list_negatives import HardLists, Mined
from recjax.tasks.retrieval_negatives import (
  InBatch,
  Popularity,
  Uniform,
)
from recjax.tasks.retrieval_objectives import (
  Binary,
  Mixture,
  Pairwise,
  Softmax,
)

NUM_ITEMS, NUM_USERS, DIM = 9, 4, 3
USERS = np.array([1, 2, 3, 1, 4])
ITEMS = np.array([3, 5, 3, 7, 9])
WHERE = np.array([True, True, True, True, False])
COUNTS = np.array([0, 5, 1, 7, 2, 3, 0, 4, 1, 2])
TOUCHED = {1: [3, 7, 1], 2: [5], 3: [3, 5], 4: [9]}
TRAIN = Ragged(
  np.array(sum((TOUCHED[u] for u in (1, 2, 3, 4)), [])),
  np.array([0, 0, 3, 4, 6, 7]),
)
LISTS = np.array([[0, 0], [2, 4], [6, 0], [0, 0], [8, 1]])


def run(sources, objective, remove_hits="target", state=None, seed=0):
  """Losses, ids and vectors of a step on random vectors."""
  mixed = CandidateSources(sources, objective, NUM_ITEMS, remove_hits)
  constants = mixed.constants(TRAIN, COUNTS)
  if mixed.needs_lists:
    constants["hard_lists"] = LISTS
  constants = {name: jnp.asarray(x) for name, x in constants.items()}
  batch = {
    "user_id": jnp.asarray(USERS),
    "item_id": jnp.asarray(ITEMS),
    "where": jnp.asarray(WHERE),
  }
  drawn = mixed.draw(jax.random.key(seed), batch, constants)
  rng = np.random.default_rng(seed)
  table = rng.normal(size=(NUM_ITEMS + 1, DIM)).astype(np.float32)
  users = rng.normal(size=(len(USERS), DIM)).astype(np.float32)
  ids = np.concatenate([ITEMS[:, None], np.asarray(drawn)], axis=1)
  examples = {
    "user_id": batch["user_id"],
    "candidates": jnp.asarray(ids),
    "where": batch["where"],
  }
  state = mixed.init(DIM) if state is None else state
  losses, state = mixed.losses(
    jnp.asarray(users), jnp.asarray(table[ids]), state, examples, constants
  )
  return np.asarray(losses), state, ids, table, users


def candidates_of(row, ids, sources, remove_hits):
  """The candidate ids of a row, by the rules, one after another."""
  out = []
  column = 1
  for source in sources:
    if isinstance(source, InBatch):
      out += [
        int(item)
        for other, item in enumerate(ITEMS)
        if WHERE[other] and other != row
      ]
    elif source.shared:
      width = -(-source.num // len(ITEMS))
      flat = ids[:, column : column + width].reshape(-1)[: source.num]
      out += flat.tolist()
      column += width
    else:
      out += ids[row, column : column + source.num].tolist()
      column += source.num
  keep = lambda i: i > 0
  if remove_hits != "none":
    keep = lambda i: i > 0 and i != ITEMS[row]
  if remove_hits == "touched":
    seen = TOUCHED[int(USERS[row])]
    keep = lambda i: i > 0 and i not in seen and i != ITEMS[row]
  return [i for i in out if keep(i)]


@pytest.mark.parametrize("remove_hits", ["none", "target", "touched"])
@pytest.mark.parametrize(
  "sources",
  [
    (InBatch(),),
    (Uniform(7),),
    (InBatch(), Uniform(12)),
    (Popularity(4), HardLists(3)),
    (HardLists(2), InBatch(), Uniform(3)),
  ],
  ids=str,
)
def test_softmax_over_the_union_of_all_sources(sources, remove_hits):
  losses, _, ids, table, users = run(sources, Softmax(), remove_hits)
  for row in range(4):
    found = candidates_of(row, ids, sources, remove_hits)
    scores = table[found] @ users[row]
    positive = table[ITEMS[row]] @ users[row]
    # The positive stands among the candidates once, beside what is drawn.
    expected = np.log(np.exp(scores).sum() + np.exp(positive)) - positive
    np.testing.assert_allclose(losses[row], expected, rtol=1e-4, atol=1e-5)
  assert losses[4] == 0.0


def log_c(item, row, sources):
  """Expected copies of an item, written out."""
  total = 0.0
  share = COUNTS / COUNTS.sum()
  for source in sources:
    match source:
      case InBatch():
        total += 3 * share[item]
      case Popularity():
        weights = COUNTS**source.alpha * (COUNTS > 0)
        total += source.num * weights[item] / weights.sum()
      case Uniform():
        total += source.num / NUM_ITEMS
      case HardLists():
        own = [i for i in LISTS[USERS[row]] if i]
        if own:
          total += source.num * own.count(item) / len(own)
  return np.log(total)


@pytest.mark.parametrize("correct_positive", [False, True])
@pytest.mark.parametrize(
  "sources",
  [(InBatch(),), (InBatch(), Uniform(12)), (Popularity(4), HardLists(3))],
  ids=str,
)
def test_log_q_corrects_by_the_expected_copies(sources, correct_positive):
  objective = Softmax(log_q=True, correct_positive=correct_positive)
  losses, _, ids, table, users = run(sources, objective)
  for row in range(4):
    found = candidates_of(row, ids, sources, "target")
    corrected = [table[i] @ users[row] - log_c(i, row, sources) for i in found]
    positive = table[ITEMS[row]] @ users[row]
    if correct_positive:
      positive -= log_c(ITEMS[row], row, sources)
    expected = np.log(np.exp(corrected).sum() + np.exp(positive)) - positive
    np.testing.assert_allclose(losses[row], expected, rtol=1e-3, atol=1e-4)


def test_binary_mixture_and_pairwise_losses():
  sources = (InBatch(), Uniform(5))
  softmax = run(sources, Softmax())[0]
  binary, _, ids, table, users = run(sources, Binary())
  mixed = run(sources, Mixture(weight=0.3))[0]
  bpr = run(sources, Pairwise())[0]
  hinge = run(sources, Pairwise("hinge", margin=0.5))[0]
  for row in range(4):
    found = candidates_of(row, ids, sources, "target")
    scores = table[found] @ users[row]
    positive = table[ITEMS[row]] @ users[row]
    expected = np.log1p(np.exp(-positive)) + np.log1p(np.exp(scores)).sum()
    np.testing.assert_allclose(binary[row], expected, rtol=1e-4)
    np.testing.assert_allclose(
      bpr[row], np.log1p(np.exp(scores - positive)).mean(), rtol=1e-4
    )
    np.testing.assert_allclose(
      hinge[row], np.maximum(0, 0.5 - positive + scores).mean(), rtol=1e-4
    )
  np.testing.assert_allclose(mixed, 0.3 * softmax + 0.7 * binary, rtol=1e-5)
  assert np.isfinite(run(sources, Pairwise("warp"))[0]).all()


@pytest.mark.parametrize("remove_hits", ["none", "target", "touched"])
def test_the_symmetric_loss_also_chooses_users(remove_hits):
  symmetric = Softmax(symmetric=True)
  losses, _, _, table, users = run((InBatch(),), symmetric, remove_hits)
  scores = users[:4] @ table[ITEMS[:4]].T

  def is_hit(user, item):
    """Whether the row `user` is no negative of the row `item`."""
    if remove_hits == "none":
      return False
    touched = TOUCHED[int(USERS[user])] if remove_hits == "touched" else ()
    return ITEMS[user] == ITEMS[item] or ITEMS[item] in touched

  def same_user(one, other):
    return remove_hits != "none" and USERS[one] == USERS[other]

  for row in range(4):
    one_way = [j for j in range(4) if j == row or not is_hit(row, j)]
    back = [
      j
      for j in range(4)
      if j == row or not (is_hit(j, row) or same_user(j, row))
    ]
    expected = (
      np.log(np.exp(scores[row, one_way]).sum())
      + np.log(np.exp(scores[back, row]).sum())
    ) / 2 - scores[row, row]
    np.testing.assert_allclose(losses[row], expected, rtol=1e-4)
  binary = run((InBatch(),), Binary(), remove_hits)[0]
  mixed = run((InBatch(),), Mixture(0.3, symmetric), remove_hits)[0]
  np.testing.assert_allclose(mixed, 0.3 * losses + 0.7 * binary, rtol=1e-5)


def test_the_memory_holds_the_positives_of_the_batch_before():
  sources = (InBatch(), CrossBatchMemory(6))
  first, state, _, table, _ = run(sources, Softmax())
  np.testing.assert_allclose(first, run((InBatch(),), Softmax())[0], rtol=1e-5)
  assert sorted(np.asarray(state["memory"]["item_id"])) == [0, 0, 3, 3, 5, 7]
  second, _, _, table, users = run(sources, Softmax(), state=state, seed=1)
  old = np.asarray(state["memory"]["vectors"])
  old_ids = np.asarray(state["memory"]["item_id"])
  for row in range(4):
    batch = [int(i) for i in ITEMS[:4] if i != ITEMS[row]]
    keep = (old_ids > 0) & (old_ids != ITEMS[row])
    positive = table[ITEMS[row]] @ users[row]
    scores = [*(table[batch] @ users[row]), *(old[keep] @ users[row]), positive]
    expected = np.log(np.exp(scores).sum()) - positive
    np.testing.assert_allclose(second[row], expected, rtol=1e-4)


def test_streamed_frequencies_are_remembered():
  streaming = StreamingFrequency(16, initial_gap=2.0)
  sources = (InBatch(streaming),)
  _, state, *_ = run(sources, Softmax(log_q=True))
  assert state["step"] == 1
  seen = np.asarray(state["frequency"]["last_step"])[0]
  np.testing.assert_array_equal(np.flatnonzero(seen), [3, 5, 7])


def test_no_gradient_is_lost_or_nan():
  sources = (InBatch(), Uniform(5), HardLists(2))
  mixed = CandidateSources(sources, Softmax(log_q=True), NUM_ITEMS, "touched")
  constants = {
    name: jnp.asarray(x) for name, x in mixed.constants(TRAIN, COUNTS).items()
  } | {"hard_lists": jnp.asarray(LISTS)}
  examples = {
    "user_id": jnp.asarray(USERS),
    "candidates": jnp.zeros((5, 4), jnp.int32).at[:, 0].set(ITEMS),
    "where": jnp.asarray(WHERE),
  }

  def total(user, items):
    return mixed.losses(user, items, {}, examples, constants)[0].sum()

  user, items = jnp.ones((5, DIM)), jnp.ones((5, 4, DIM)) * 100.0
  gradients = jax.grad(total, (0, 1))(user, items)
  assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(
  ("sources", "objective", "message"),
  [
    ((), Softmax(), "tuple of sources"),
    ((Uniform(3), Uniform(4)), Softmax(), "different kinds.*Uniform"),
    ((Uniform(3),), Softmax(symmetric=True), "InBatch"),
    (("uniform",), Softmax(), "must be sources.*'uniform'"),
    ((Uniform,), Softmax(), "must be sources"),
    ((InBatch(),), Softmax, "objective must be"),
    ((Mined(3),), Softmax(), "only source"),
    (
      (InBatch(StreamingFrequency(9)), CrossBatchMemory(4)),
      Softmax(),
      "as the InBatch beside it",
    ),
  ],
)
def test_bad_settings_are_told(sources, objective, message):
  with pytest.raises(ConfigError, match=message):
    CandidateSources(sources, objective, NUM_ITEMS, "target")


def test_mined_lists_start_empty():
  mixed = CandidateSources(
    (InBatch(), Mined(2, pool=3)), Softmax(), NUM_ITEMS, "target"
  )
  constants = mixed.constants(TRAIN, COUNTS)
  assert constants["mined"].shape == (NUM_USERS + 1, 3)
  losses = run((InBatch(), Mined(2, pool=3)), Softmax())[0]
  np.testing.assert_allclose(losses, run((InBatch(),), Softmax())[0], rtol=1e-5)
