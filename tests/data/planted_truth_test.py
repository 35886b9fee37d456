import numpy as np
import pytest

from recjax.data.eval_set import EvalSet
from recjax.data.planted_process import PlantedProcess
from recjax.data.planted_truth import (
  bayes_optimal,
  popularity_floor,
  truth_of_scores,
)
from recjax.data.ragged import Ragged
from recjax.errors import DataError


def leave_last_out(histories: Ragged) -> EvalSet:
  rows = range(len(histories))
  seen = np.concatenate([histories[row][:-1] for row in rows])
  history = Ragged(
    seen, np.concatenate([[0], np.cumsum(histories.lengths - 1)])
  )
  users = np.arange(1, len(histories) + 1)
  return EvalSet(users, history, histories.last(1), history)


@pytest.fixture(scope="module")
def process():
  return PlantedProcess()


@pytest.fixture(scope="module")
def eval_set(process):
  return leave_last_out(process.sample(2500, mean_len=20.0, seed=1))


def sorted_metrics(scores, chance, history, target, k):
  """NDCG@k and HR@k of distinct scores by sorting one user's items."""
  items = [i for i in range(1, len(scores)) if i not in set(history)]
  ranked = sorted(items, key=lambda item: -scores[item])[:k]
  gains = [1 / np.log2(place + 2) for place in range(len(ranked))]
  ndcg = sum(g for g, item in zip(gains, ranked) if item == target)
  expected = sum(g * chance[item] for g, item in zip(gains, ranked))
  hit = float(target in ranked)
  return ndcg, hit, expected, sum(chance[item] for item in ranked)


@pytest.mark.parametrize("k", [1, 10])
def test_metrics_equal_sorting(process, eval_set, k):
  few = eval_set.take(np.arange(40))
  random = np.random.default_rng(0)
  scores = random.normal(size=(40, process.num_items + 1))
  chance = process.predictive(few.history)
  for truth, ranking in (
    (truth_of_scores(process, few, scores, k), scores),
    (bayes_optimal(process, few, k), chance),
  ):
    expected = np.mean(
      [
        sorted_metrics(
          ranking[row], chance[row], few.history[row], few.targets[row][0], k
        )
        for row in range(40)
      ],
      axis=0,
    )
    got = [
      values[name]
      for values in (truth.measured, truth.expected)
      for name in (f"ndcg@{k}", f"hit_rate@{k}")
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_ties_share_their_gains(process, eval_set):
  # A constant scorer finds each of the n items not seen at each rank alike.
  constant = np.zeros((len(eval_set), process.num_items + 1))
  left = process.num_items - eval_set.history.lengths
  gain = (1 / np.log2(np.arange(2, 12))).sum()
  truth = truth_of_scores(process, eval_set, constant)
  for values in (truth.expected, truth.measured):
    np.testing.assert_allclose(values["ndcg@10"], (gain / left).mean())
    np.testing.assert_allclose(values["hit_rate@10"], (10 / left).mean())


def markov_scores(process, eval_set):
  """Counts of cluster after cluster times item counts, from the histories."""
  values, rows = eval_set.history.values, eval_set.history.row_ids
  follows = np.flatnonzero(rows[1:] == rows[:-1])
  cluster = process.cluster_of_item
  pairs = np.full((process.num_clusters + 1,) * 2, 0.1)
  np.add.at(pairs, (cluster[values[follows]], cluster[values[follows + 1]]), 1)
  pairs /= pairs.sum(axis=1, keepdims=True)
  counts = np.bincount(values, minlength=process.num_items + 1)
  inside = counts / np.maximum(np.bincount(cluster, counts)[cluster], 1)
  last = eval_set.history.last(1).values
  return pairs[cluster[last]][:, cluster] * inside, counts


def test_popularity_below_markov_below_bayes(process, eval_set):
  scores, counts = markov_scores(process, eval_set)
  bayes = bayes_optimal(process, eval_set)
  markov = truth_of_scores(process, eval_set, scores)
  popularity = popularity_floor(process, eval_set, counts)
  best = bayes.expected["ndcg@10"]
  assert 0.3 < best < 0.5
  assert popularity.expected["ndcg@10"] < best / 2
  # Counting which cluster follows which gets far. The last item but one and
  # the type of the user tell the rest.
  assert 0.85 * best < markov.expected["ndcg@10"] < 0.96 * best
  for name in ("ndcg@10", "hit_rate@10"):
    assert popularity.measured[name] < markov.measured[name]
    assert markov.measured[name] < bayes.measured[name]


def test_no_scorer_beats_the_optimum(process, eval_set):
  bayes = bayes_optimal(process, eval_set)
  chance = process.predictive(eval_set.history)
  random = np.random.default_rng(1)
  for noise in (0.0, 0.05, 0.5, 3.0):
    blurred = np.log(chance + 1e-30) + noise * random.normal(size=chance.shape)
    truth = truth_of_scores(process, eval_set, blurred)
    for name, best in bayes.expected.items():
      assert truth.expected[name] <= best + 1e-12
      assert (truth.expected[name] == pytest.approx(best)) == (noise == 0.0)


def test_measured_agrees_with_expected_within_sampling_error(process, eval_set):
  bayes = bayes_optimal(process, eval_set)
  hits = bayes.expected["hit_rate@10"]
  error = np.sqrt(hits * (1 - hits) / len(eval_set))
  assert abs(bayes.measured["hit_rate@10"] - hits) < 4 * error
  # A gain within [0, 1] of mean m varies by at most m (1 - m).
  ndcg = bayes.expected["ndcg@10"]
  error = np.sqrt(ndcg * (1 - ndcg) / len(eval_set))
  assert abs(bayes.measured["ndcg@10"] - ndcg) < 4 * error


def test_seen_items_do_not_count(process, eval_set):
  # A scorer that puts the history first loses nothing by it.
  few = eval_set.take(np.arange(100))
  chance = process.predictive(few.history)
  shouting = chance.copy()
  shouting[few.history.row_ids, few.history.values] = 9.0
  assert truth_of_scores(process, few, shouting) == bayes_optimal(process, few)


def test_bad_input_is_refused(process, eval_set):
  with pytest.raises(DataError, match=r"\(2500, 301\)"):
    truth_of_scores(process, eval_set, np.zeros((2500, 300)))
  two = EvalSet(
    np.array([4]),
    Ragged(np.array([1]), np.array([0, 1])),
    Ragged(np.array([2, 3]), np.array([0, 2])),
    Ragged(np.array([1]), np.array([0, 1])),
  )
  with pytest.raises(DataError, match="user 4 has 2"):
    bayes_optimal(process, two)
  with pytest.raises(DataError, match="no user"):
    bayes_optimal(process, eval_set.take(np.zeros(0, np.int64)))
