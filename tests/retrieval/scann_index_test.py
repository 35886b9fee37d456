import sys

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.retrieval.scann_index import ScannConfig


def clusters(num_items=4000, dim=16, seed=0):
  rng = np.random.default_rng(seed)
  centres = rng.standard_normal((40, dim))
  rows = centres[rng.integers(40, size=num_items)]
  rows = rows + 0.4 * rng.standard_normal(rows.shape)
  return (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32)


def recall(index, vectors, queries, k):
  _, found = index.search(queries, k=k)
  truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :k] + 1
  return np.mean([len(set(f) & set(t)) / k for f, t in zip(found, truth)])


@pytest.fixture(scope="module")
def vectors():
  return clusters()


@pytest.fixture(scope="module")
def queries():
  return clusters(100, seed=1)


@pytest.fixture(scope="module")
def index(vectors):
  config = ScannConfig(num_leaves=60, num_leaves_to_search=6, reorder=60)
  return config.make_index().build(vectors, np.arange(1, len(vectors) + 1))


def test_more_leaves_and_more_reordering_find_more(index, vectors, queries):
  by_leaves = [
    recall(index.retuned(num_leaves_to_search=n), vectors, queries, 10)
    for n in (1, 6, 60)
  ]
  assert by_leaves[0] < by_leaves[1] < by_leaves[2]
  assert by_leaves[2] > 0.95
  wide = index.retuned(num_leaves_to_search=60)
  by_reorder = [
    recall(wide.retuned(reorder=n), vectors, queries, 10) for n in (10, 4000)
  ]
  assert by_reorder[0] < by_reorder[1] == 1.0


def test_all_threads_find_the_same(index, queries):
  scores, found = index.search(queries, k=10)
  others = index.retuned(parallel=True).search(queries, k=10)
  np.testing.assert_array_equal(others[1], found)
  np.testing.assert_array_equal(others[0], scores)


def test_few_leaves_are_not_too_few_for_k(index, vectors, queries):
  # One leaf holds some 70 items: more leaves are visited until 500 are found.
  narrow = index.retuned(num_leaves_to_search=1)
  scores, found = narrow.search(queries, k=500)
  assert (found > 0).all() and np.isfinite(scores).all()
  assert all(len(set(row)) == 500 for row in found)


@pytest.mark.parametrize(
  ("config", "least"),
  [
    (ScannConfig(num_leaves=0, reorder=100), 0.8),
    (ScannConfig(num_leaves=60, reorder=100, reorder_dtype="int8"), 0.9),
    (ScannConfig(num_leaves=60, reorder=100, reorder_dtype="bfloat16"), 0.9),
    (ScannConfig(num_leaves=60, soar_lambda=1.5, reorder=100), 0.95),
    (ScannConfig(num_leaves=60, avq_eta=2.0, reorder=100), 0.95),
    (ScannConfig(num_leaves=60, anisotropic_threshold=0.0), 0.95),
    (ScannConfig(num_leaves=60, reorder=0, dimensions_per_block=1), 0.5),
    (
      ScannConfig(num_leaves=60, quantize_centroids=True, spherical=True),
      0.95,
    ),
  ],
)
def test_every_setting_is_taken(config, least, vectors, queries):
  index = config.make_index().build(vectors, np.arange(1, len(vectors) + 1))
  assert recall(index, vectors, queries, 10) >= least
  assert index.memory_bytes > 0


def test_memory_is_of_vectors_codes_leaves_and_centroids(index):
  # 16 dimensions: 4 bytes each, and half a byte for two; a leaf of 4 bytes.
  assert index.memory_bytes == 4000 * (64 + 4 + 4) + 60 * 64


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_leaves_to_search": 2000}, r"\[1, num_leaves=1000\]; got 2000"),
    ({"num_leaves": -1}, "num_leaves must lie in"),
    ({"anisotropic_threshold": 1.5}, "anisotropic_threshold must lie in"),
    ({"soar_lambda": -1.0}, "soar_lambda must lie in"),
    ({"reorder_dtype": "int9"}, "Did you mean 'int8'"),
    ({"dimensions_per_block": 0}, "dimensions_per_block must lie in"),
  ],
)
def test_settings_are_checked(settings, message):
  with pytest.raises(ConfigError, match=message):
    ScannConfig(**settings)


def test_settings_must_fit_the_items(vectors):
  few, ids = vectors[:20], np.arange(1, 21)
  with pytest.raises(ConfigError, match="num_items=20.*got 1000.*brute_force"):
    ScannConfig().make_index().build(few, ids)
  config = ScannConfig(
    num_leaves=4, num_leaves_to_search=2, dimensions_per_block=17
  )
  with pytest.raises(ConfigError, match=r"dim=16\]; got 17"):
    config.make_index().build(few, ids)
  config = ScannConfig(num_leaves=2, num_leaves_to_search=1)
  with pytest.raises(ConfigError, match="16 items at least.*num_items=15"):
    config.make_index().build(few[:15], ids[:15])


def test_reordering_can_not_be_switched_off_later(index):
  with pytest.raises(ConfigError, match="built with 60; got 0"):
    index.retuned(reorder=0)
  with pytest.raises(ConfigError, match="num_leaves can not change"):
    index.retuned(num_leaves=61)


def test_a_missing_package_is_named(monkeypatch, vectors):
  monkeypatch.setitem(sys.modules, "scann.scann_ops.py.scann_ops_pybind", None)
  config = ScannConfig(brute_force=True)
  with pytest.raises(ConfigError, match=r"recjax\[scann\].*ExactIndexConfig"):
    config.make_index().build(vectors, np.arange(1, len(vectors) + 1))
