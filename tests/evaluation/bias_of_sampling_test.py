"""The same scorer among draws and in the catalogue, against brute force."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import DataError
from recjax.evaluation.bias_of_sampling import tell_bias
from recjax.evaluation.candidates import (
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
)
from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.sampled_estimators import ESTIMATORS
from recjax.retrieval.scorers import DotProductScorer

NUM_ITEMS, NUM_USERS = 300, 1000


pytestmark = pytest.mark.usefixtures("quick_compiler")


def users_of(oracle, num_targets=1):
  return oracle.random_eval_set(1, NUM_USERS, NUM_ITEMS, num_targets)


def judge(users, protocol, tied=False, **options):
  """Scores that find the target in part; of small integers, if `tied`."""
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(NUM_ITEMS + 1, 4))
  first = users.targets.values[users.targets.offsets[:-1]]
  queries = vectors[first] + rng.normal(size=(len(users), 4))
  if tied:
    vectors, queries = np.round(vectors), np.round(queries)
  options = {"floor": False, "progress": False} | options
  return evaluate(
    DotProductScorer(jnp.asarray(vectors, jnp.float32)),
    queries.astype(np.float32),
    users,
    protocol,
    num_items=NUM_ITEMS,
    popularity=np.bincount(users.history.values, minlength=NUM_ITEMS + 1),
    **options,
  )


def told(users, protocol, **options):
  again = lambda full: judge(users, full, **options)
  return tell_bias(judge(users, protocol, **options), again)


@pytest.mark.parametrize("exclude", ["train", "history_and_targets"])
@pytest.mark.parametrize("with_replacement", [True, False])
def test_bias_is_sampled_minus_full(oracle, exclude, with_replacement):
  users = users_of(oracle)
  spec = UniformNegatives(
    30, with_replacement=with_replacement, exclude=exclude
  )
  found = told(users, Protocol(candidates=spec))
  bias = found.sampled_bias
  seen = {"train": "train", "history_and_targets": "history"}[exclude]
  full = judge(users, Protocol(exclude_seen=seen))
  assert bias.full_protocol == full.protocol
  for key, row in bias.metrics.items():
    assert row.sampled == found.metrics[key]
    assert row.full == pytest.approx(full.metrics[key])
    assert row.full_interval == full.intervals[key]
    assert row.bias == pytest.approx(row.sampled - row.full)
    assert row.bias_interval[0] < row.bias < row.bias_interval[1]
    # A target competes with ten times as many items in the catalogue.
    assert row.bias > 0.1
    assert set(row.corrected) == set(ESTIMATORS)
    nearest = abs(row.corrected["mle"].value - row.full)
    assert nearest < 0.2 * row.bias
  assert bias.not_corrected == ""


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic"])
def test_ties_and_copies_leave_no_bias_in_the_corrected(oracle, ties):
  # Half of the draws of a user hold the target itself; scores are few.
  users = users_of(oracle)
  spec = UniformNegatives(150, exclude="train")
  protocol = Protocol(candidates=spec, ties=ties, cutoffs=(5, 10))
  found = told(users, protocol, tied=True).sampled_bias
  for key, row in found.metrics.items():
    # Were copies of the target its rivals, MRR would be .015 too low.
    error = 0.012 if key == "mrr" else 0.03
    assert abs(row.corrected["mle"].value - row.full) < error, key
  gaps = {
    tie: judge(users, Protocol(ties=tie), tied=True).metrics["mrr"]
    for tie in ("optimistic", "expected", "pessimistic")
  }
  assert gaps["optimistic"] > gaps["expected"] + 0.02
  assert gaps["expected"] > gaps["pessimistic"] + 0.02


def test_all_items_drawn_once_are_the_catalogue(oracle):
  # No user has seen anything but one item; all others are drawn.
  targets = [[2 + u % (NUM_ITEMS - 1)] for u in range(NUM_USERS)]
  users = oracle.eval_set([[1]] * NUM_USERS, targets)
  spec = UniformNegatives(NUM_ITEMS - 2, with_replacement=False)
  found = told(users, Protocol(candidates=spec)).sampled_bias
  assert found.blind_below == 1.0
  for row in found.metrics.values():
    assert row.bias == pytest.approx(0, abs=1e-6)
    for name, estimate in row.corrected.items():
      assert estimate.value == pytest.approx(row.full, abs=1e-5), name


def test_pools_leave_out_what_was_seen(oracle):
  users = users_of(oracle)
  result = judge(users, Protocol(candidates=UniformNegatives(30)))
  ranks = result.sampled_ranks
  for u in (0, 7, 999):
    seen = {*users.history[u], *users.train_items[u], *users.targets[u]}
    assert ranks.pool_size[u] == NUM_ITEMS - len(seen)
  np.testing.assert_array_equal(ranks.user_id, users.user_id)
  found = tell_bias(result, lambda full: judge(users, full)).sampled_bias
  median = np.median(ranks.pool_size) / 30
  assert found.blind_below == pytest.approx(median)


def test_popularity_and_given_lists_are_measured_alone(oracle):
  users = users_of(oracle)
  lists = oracle.ragged([[], *[[2, 3, 4, 5]] * NUM_USERS])
  for spec, why in (
    (PopularityNegatives(30, exclude="none"), "by popularity"),
    (GivenLists(lists=lists), "given lists"),
  ):
    found = told(users, Protocol(candidates=spec)).sampled_bias
    assert why in found.not_corrected and found.blind_below is None
    for row in found.metrics.values():
      assert row.corrected == {}
      assert row.full is not None and row.bias is not None


def test_several_targets_are_measured_alone(oracle):
  users = users_of(oracle, num_targets=3)
  found = told(users, Protocol(candidates=UniformNegatives(30)))
  assert "several targets" in found.sampled_bias.not_corrected
  assert found.sampled_bias.metrics["mrr"].bias > 0


def test_without_the_full_ranking_the_draws_alone_tell(oracle):
  users = users_of(oracle)
  result = judge(users, Protocol(candidates=UniformNegatives(30)))

  def refuse(protocol):
    raise AssertionError("nobody asked for a full ranking")

  found = tell_bias(result, refuse, measure=False).sampled_bias
  assert found.full_protocol is None and found.wall_secs == 0
  for row in found.metrics.values():
    assert row.full is None and row.bias is None
    assert "mn_mle" in row.corrected


def test_too_many_draws_are_not_corrected(oracle):
  users = users_of(oracle)
  result = judge(users, Protocol(candidates=UniformNegatives(30)))
  many = dataclasses.replace(result.sampled_ranks, num_draws=10**8)
  result = dataclasses.replace(result, sampled_ranks=many)
  found = tell_bias(result, lambda full: judge(users, full)).sampled_bias
  assert "too many" in found.not_corrected


def test_the_whole_catalogue_has_no_bias_to_tell(oracle):
  users = users_of(oracle)
  result = judge(users, Protocol())
  assert tell_bias(result, lambda full: judge(users, full)) is result
  assert result.sampled_bias is None and result.sampled_ranks is None


def test_other_users_are_refused(oracle):
  users = users_of(oracle)
  result = judge(users, Protocol(candidates=UniformNegatives(30)))
  fewer = users.take(np.arange(50))
  with pytest.raises(DataError, match="other users"):
    tell_bias(result, lambda full: judge(fewer, full))
