import sys

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.retrieval.faiss_index import FaissConfig


@pytest.fixture(scope="module")
def vectors():
  rng = np.random.default_rng(0)
  return rng.standard_normal((3000, 16)).astype(np.float32)


def recall(index, vectors, queries, k=10):
  _, found = index.search(queries, k=k)
  truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :k] + 1
  return np.mean([len(set(f) & set(t)) / k for f, t in zip(found, truth)])


@pytest.mark.parametrize(
  ("config", "low", "high"),
  [
    (
      FaissConfig("hnsw", num_links=8, ef_construction=40),
      {"ef_search": 1},
      {"ef_search": 500},
    ),
    (
      FaissConfig("ivf_flat", num_lists=50),
      {"num_probes": 1},
      {"num_probes": 50},
    ),
    (
      FaissConfig("ivf_pq", num_lists=20, pq_m=8, pq_bits=4),
      {"num_probes": 20, "reorder": 10},
      {"num_probes": 20, "reorder": 500},
    ),
  ],
)
def test_settings_of_the_search_buy_recall(config, low, high, vectors):
  index = config.make_index().build(vectors, np.arange(1, 3001))
  queries = vectors[:100] + 0.5
  poor = recall(index.retuned(**low), vectors, queries)
  good = recall(index.retuned(**high), vectors, queries)
  assert poor < good and good > 0.95


def test_codes_without_reordering(vectors):
  # Training codes of 8 bits takes FAISS seconds for each part.
  config = FaissConfig(
    "ivf_pq", num_lists=4, num_probes=4, pq_m=8, pq_bits=4, reorder=0
  )
  index = config.make_index().build(vectors, np.arange(1, 3001))
  assert 0.3 < recall(index, vectors, vectors[:100]) < 1
  # 8 codes of half a byte and an id of 8 bytes; centroids and codebooks too.
  tables = 4 * 16 * (4 + 16)
  assert abs(index.memory_bytes - 3000 * 12 - tables) < 2000
  with pytest.raises(ConfigError, match="built with 0; got 2"):
    index.retuned(reorder=2)


def test_few_lists_are_not_too_few_for_k(vectors):
  config = FaissConfig("ivf_flat", num_lists=50, num_probes=1)
  index = config.make_index().build(vectors, np.arange(1, 3001))
  _, found = index.search(vectors[:20], k=1000)
  assert all(len(set(row) - {0}) == 1000 for row in found)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"method": "hsnw"}, "Did you mean 'hnsw'"),
    ({"num_links": 1}, "num_links must lie in"),
    ({"pq_bits": 6}, "pq_bits must be 4 or 8; got 6"),
    (
      {"method": "ivf_flat", "num_lists": 4, "num_probes": 5},
      r"\[1, num_lists=4\]; got 5",
    ),
    ({"ef_search": 0}, "ef_search must lie in"),
  ],
)
def test_settings_are_checked(settings, message):
  with pytest.raises(ConfigError, match=message):
    FaissConfig(**settings)


def test_settings_must_fit_the_items(vectors):
  few, ids = vectors[:100], np.arange(1, 101)
  with pytest.raises(ConfigError, match="1024 items to train.*num_items=100"):
    FaissConfig("ivf_flat").make_index().build(few, ids)
  config = FaissConfig("ivf_pq", num_lists=4, num_probes=1, pq_m=5, pq_bits=4)
  with pytest.raises(ConfigError, match="divide .* 16; got 5.* is 4"):
    config.make_index().build(few, ids)


def test_a_missing_package_is_named(monkeypatch, vectors):
  monkeypatch.setitem(sys.modules, "faiss", None)
  with pytest.raises(ConfigError, match=r"recjax\[faiss\].*ExactIndexConfig"):
    FaissConfig().make_index().build(vectors, np.arange(1, 3001))
