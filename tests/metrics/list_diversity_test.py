import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cosine, jaccard

from recjax.errors import ConfigError
from recjax.metrics import list_diversity
from recjax.metrics.list_diversity import intra_list_diversity

DISTANCES = {
  "cosine": lambda a, b: cosine(a.astype(float), b.astype(float)),
  "jaccard": jaccard,
}


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("block", [1 << 22, 200])
def test_against_scipy(distance, block, monkeypatch):
  monkeypatch.setattr(list_diversity, "_BLOCK", block)
  rng = np.random.default_rng(3)
  features = rng.random((41, 7)) < 0.35
  features[[0, 5, 9]] = False
  lists = np.array([rng.permutation(40)[:6] + 1 for _ in range(30)])
  lists[0, 3:], lists[1, 1:], lists[2] = 0, 0, 0
  found = intra_list_diversity(lists, features, distance=distance)
  for row, value in zip(lists, found):
    known = [features[i] for i in row if i and features[i].any()]
    pairs = [
      DISTANCES[distance](a, b) for a, b in itertools.combinations(known, 2)
    ]
    if pairs:
      assert value == pytest.approx(np.mean(pairs), abs=1e-12)
    else:
      assert np.isnan(value)
  assert np.isnan(found[1:3]).all() and np.isfinite(found[3:]).all()


def test_cosines_of_vectors():
  rng = np.random.default_rng(4)
  vectors = rng.normal(size=(9, 3))
  lists = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
  found = intra_list_diversity(lists, vectors)
  for row, value in zip(lists, found):
    pairs = [
      cosine(vectors[i], vectors[j]) for i, j in itertools.combinations(row, 2)
    ]
    assert value == pytest.approx(np.mean(pairs))


def test_alike_and_unlike():
  features = np.array([[0, 0], [1, 0], [1, 0], [0, 1]], bool)
  lists = np.array([[1, 2], [1, 3]])
  for distance in list_diversity.DISTANCES:
    found = intra_list_diversity(lists, features, distance=distance)
    np.testing.assert_allclose(found, [0, 1], atol=1e-12)


def test_the_distance_is_checked():
  with pytest.raises(ConfigError, match="Did you mean 'jaccard'"):
    intra_list_diversity(
      np.array([[1]]), np.ones((2, 1), bool), distance="jacard"
    )
