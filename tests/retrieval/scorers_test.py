import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from recjax.retrieval.scorers import (
  DotProductScorer,
  PopularityScorer,
  Scorer,
  scorer_kind,
)
from recjax.retrieval.topk import top_k

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(11, 4)).astype(np.float32)
COUNTS = RNG.integers(0, 9, 11).astype(np.float32)
QUERIES = RNG.normal(size=(3, 4)).astype(np.float32)
SCORERS = {
  "dot_product": (
    DotProductScorer(jnp.asarray(VECTORS)),
    lambda u, i: float(np.dot(QUERIES[u], VECTORS[i])),
  ),
  "popularity": (
    PopularityScorer(jnp.asarray(COUNTS)),
    lambda u, i: float(COUNTS[i]),
  ),
}


@pytest.mark.parametrize("name", SCORERS)
def test_scores_are_those_of_a_loop(name):
  scorer, one = SCORERS[name]
  assert isinstance(scorer, Scorer)
  ids = np.array([3, 1, 10, 3], np.int32)
  scores = jax.jit(type(scorer).scores)(scorer, QUERIES, ids)
  expected = [[one(u, i) for i in ids] for u in range(3)]
  np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
  own = RNG.integers(1, 11, (3, 5)).astype(np.int32)
  scores = jax.jit(type(scorer).candidate_scores)(scorer, QUERIES, own)
  expected = [[one(u, i) for i in own[u]] for u in range(3)]
  np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_is_an_argument_of_jit(name):
  scorer, _ = SCORERS[name]
  traced = []

  @jax.jit
  def score(scorer, queries, ids):
    traced.append(1)
    return scorer.scores(queries, ids)

  ids = jnp.arange(1, 4)
  first = score(scorer, jnp.asarray(QUERIES), ids)
  double = jax.tree.map(lambda x: 2 * x, scorer)
  second = score(double, jnp.asarray(QUERIES), ids)
  np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
  assert len(traced) == 1


def make_constant_scorer(value):
  """A new class each time; all of them hold an array of one shape."""

  @struct.dataclass
  class ConstantScorer:
    counts: jax.Array

    def scores(self, queries, item_ids):
      shape = (queries.shape[0], item_ids.shape[0])
      return jnp.full(shape, float(value))

    def candidate_scores(self, queries, item_ids):
      return jnp.full(item_ids.shape, float(value))

  return ConstantScorer(jnp.ones(4))


def test_kinds_tell_classes_apart():
  scorers = [make_constant_scorer(i) for i in range(5)]
  for a, b in itertools.combinations(scorers, 2):
    assert scorer_kind(a) != scorer_kind(b)
  assert scorer_kind(scorers[0]) == scorer_kind(
    jax.tree.map(lambda x: x + 1, scorers[0])
  )


def test_no_scorer_runs_with_the_code_of_another():
  # Without the kind, JAX 0.10 confuses about one pair in a hundred.
  for i in range(16):
    values, _ = top_k(
      make_constant_scorer(i), jnp.zeros((1, 1)), k=1, num_items=3
    )
    assert float(values[0, 0]) == i
