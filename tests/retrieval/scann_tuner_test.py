import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.retrieval import scann_tuner
from recjax.retrieval.faiss_index import FaissConfig
from recjax.retrieval.scann_index import ScannConfig
from recjax.retrieval.scann_tuner import Measured

K = 10


@pytest.fixture(scope="module")
def data():
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((30, 16))
  draw = lambda num: (
    centres[rng.integers(30, size=num)] + rng.standard_normal((num, 16))
  ).astype(np.float32)
  return draw(3000), draw(121)


@pytest.fixture(scope="module")
def truth(data):
  vectors, queries = data
  return np.argsort(-(queries @ vectors.T), axis=1)[:, :K] + 1


@pytest.fixture(scope="module")
def tuned(data):
  vectors, queries = data
  return scann_tuner.tune(
    vectors,
    queries,
    k=K,
    wanted_recall=0.9,
    config=ScannConfig(num_leaves=50),
    reorder=(10, 40),
    repeats=1,
  )


def share(found, truth):
  return np.mean([len(set(f) & set(t)) / K for f, t in zip(found, truth)])


def test_the_chosen_settings_reach_the_recall(tuned, data, truth):
  _, queries = data
  assert tuned.reached and tuned.chosen.recall >= 0.9
  # Both recalls, counted again on their halves.
  _, found = tuned.index.search(queries, k=K)
  np.testing.assert_allclose(tuned.chosen.recall, share(found[::2], truth[::2]))
  np.testing.assert_allclose(tuned.recall, share(found[1::2], truth[1::2]))
  settings = tuned.chosen.settings
  assert (
    tuned.index.config.num_leaves_to_search == settings["num_leaves_to_search"]
  )
  assert tuned.index.config.reorder == settings["reorder"]


def test_none_that_reaches_it_is_cheaper(tuned):
  able = [one for one in tuned.measured if one.recall >= 0.9]
  assert tuned.chosen.secs_per_query == min(o.secs_per_query for o in able)


def test_halving_finds_the_least_leaves(tuned):
  for reorder in (10, 40):
    by_leaves = {
      one.settings["num_leaves_to_search"]: one.recall
      for one in tuned.measured
      if one.settings["reorder"] == reorder
    }
    reached = [n for n, value in by_leaves.items() if value >= 0.9]
    if reached and min(reached) > 1:
      # Fewer than 20 leaves: one leaf less was tried and falls short.
      assert min(reached) < 20 and by_leaves[min(reached) - 1] < 0.9
  assert any(one.settings["reorder"] == 40 for one in tuned.measured)


def test_a_recall_out_of_reach_is_told(data, truth):
  vectors, queries = data
  index = ScannConfig(num_leaves=50).make_index()
  index.build(vectors, np.arange(1, 3001))
  tuned = scann_tuner.tune(
    vectors,
    queries,
    k=K,
    wanted_recall=1.0,
    index=index,
    leaves=(1, 2),
    reorder=(10,),
    repeats=1,
  )
  assert not tuned.reached
  assert tuned.chosen.settings == {"num_leaves_to_search": 2, "reorder": 10}
  assert len(tuned.measured) == 2 and tuned.index.config.num_leaves == 50


def test_any_index_is_swept(data, truth):
  vectors, queries = data
  index = FaissConfig("ivf_flat", num_lists=20).make_index()
  index.build(vectors, np.arange(1, 3001))
  tuned = scann_tuner.sweep(
    index,
    queries,
    truth.astype(np.int32),
    wanted_recall=0.8,
    grid={"num_probes": (1, 5, 20)},
    repeats=1,
  )
  assert tuned.reached and tuned.chosen.recall >= 0.8
  assert tuned.index.config.num_probes == tuned.chosen.settings["num_probes"]


def test_the_frontier_has_no_one_that_is_beaten():
  points = [(0.9, 5.0), (0.8, 6.0), (0.95, 7.0), (0.5, 1.0), (0.95, 9.0)]
  measured = [Measured({"n": i}, *point) for i, point in enumerate(points)]
  found = scann_tuner.pareto(measured)
  assert [one.settings["n"] for one in found] == [3, 0, 2]


def test_recall_counts_what_is_there():
  truth = np.array([[1, 2], [3, 0]])
  found = np.array([[2, 9], [3, 0]])
  assert scann_tuner.recall_at_k(found, truth) == pytest.approx(2 / 3)
  assert scann_tuner.recall_at_k(found, np.zeros((2, 2), int)) == 0.0


def test_doubled_ends_at_the_most():
  assert scann_tuner.doubled(1) == (1,)
  assert scann_tuner.doubled(8) == (1, 2, 4, 8)
  assert scann_tuner.doubled(11) == (1, 2, 4, 8, 11)


def test_settings_are_checked(data):
  vectors, queries = data
  wanted = {"k": K, "wanted_recall": 0.9}
  for config in (ScannConfig(brute_force=True), ScannConfig(num_leaves=0)):
    with pytest.raises(ConfigError, match="num_leaves"):
      scann_tuner.tune(vectors, queries, config=config, **wanted)
  config = ScannConfig(num_leaves=50)
  with pytest.raises(ConfigError, match="number of queries must lie in"):
    scann_tuner.tune(vectors, queries[:1], config=config, **wanted)
  with pytest.raises(ConfigError, match="wanted_recall must lie in"):
    scann_tuner.tune(vectors, queries, k=K, wanted_recall=1.1, config=config)
