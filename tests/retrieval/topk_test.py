import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.retrieval.scorers import DotProductScorer, PopularityScorer
from recjax.retrieval.topk import top_k


@pytest.mark.parametrize(
  "num_items, k, item_block", [(50, 7, 2048), (331, 10, 64), (100, 100, 64)]
)
def test_agrees_with_sorting(num_items, k, item_block):
  rng = np.random.default_rng(k)
  # Small integers: exact scores, heavy ties, settled by the lower id.
  vectors = rng.integers(-1, 2, (num_items + 1, 4)).astype(np.float32)
  vectors[0] = 99.0
  queries = rng.integers(-1, 2, (20, 4)).astype(np.float32)
  excluded = rng.integers(0, num_items + 1, (20, 9))
  values, ids = top_k(
    DotProductScorer(jnp.asarray(vectors)),
    jnp.asarray(queries),
    jnp.asarray(excluded, jnp.int32),
    k=k,
    num_items=num_items,
    item_block=item_block,
  )
  scores = queries @ vectors.T
  for u in range(20):
    out = {0, *excluded[u].tolist()}
    left = [i for i in range(num_items + 1) if i not in out]
    best = sorted(left, key=lambda i: (-scores[u, i], i))[:k]
    rest = k - len(best)
    assert ids[u].tolist() == best + [0] * rest
    expected = [*scores[u, best], *[-np.inf] * rest]
    np.testing.assert_array_equal(values[u], expected)


def test_without_exclusions():
  scorer = PopularityScorer(jnp.asarray([9.0, 1.0, 3.0, 2.0]))
  values, ids = top_k(scorer, jnp.zeros((2, 1)), k=2, num_items=3)
  np.testing.assert_array_equal(ids, [[2, 3]] * 2)
  np.testing.assert_array_equal(values, [[3.0, 2.0]] * 2)


def test_only_what_is_allowed():
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(201, 4)).astype(np.float32)
  queries = rng.normal(size=(15, 4)).astype(np.float32)
  allowed = rng.random(201) < 0.1
  excluded = np.tile(np.flatnonzero(allowed)[:2], (15, 1))
  _, ids = top_k(
    DotProductScorer(jnp.asarray(vectors)),
    jnp.asarray(queries),
    jnp.asarray(excluded, jnp.int32),
    jnp.asarray(allowed),
    k=5,
    num_items=200,
    item_block=64,
  )
  left = [i for i in np.flatnonzero(allowed)[2:] if i > 0]
  for scores, row in zip(queries @ vectors.T, ids):
    assert row.tolist() == sorted(left, key=lambda i: -scores[i])[:5]


def test_k_is_checked():
  scorer = PopularityScorer(jnp.ones(4))
  for k in (0, 4):
    with pytest.raises(ConfigError, match="k must lie in"):
      top_k(scorer, jnp.zeros((1, 1)), k=k, num_items=3)
