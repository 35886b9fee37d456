import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.metrics.ranks import (
  Ranks,
  add_to_mean,
  empty_mean,
  mean_value,
  merge_means,
  ranks_from_scores,
  resolve_ties,
)


def ranked(*lists):
  return ranks_from_scores(*map(jnp.asarray, lists))


def test_counts_agree_with_loops():
  rng = np.random.default_rng(0)
  scores = rng.integers(0, 4, (10, 9)).astype(np.float32)
  labels = rng.random((10, 9)) < 0.4
  where = rng.random((10, 9)) < 0.8
  ranks, targets = ranked(scores, labels, where)
  np.testing.assert_array_equal(targets, labels & where)
  for u, i in zip(*np.nonzero(labels & where)):
    others = [j for j in range(9) if where[u, j] and j != i]
    above = [j for j in others if scores[u, j] > scores[u, i]]
    tied = [j for j in others if scores[u, j] == scores[u, i]]
    expected = (
      len(above),
      len(tied),
      labels[u, above].sum(),
      labels[u, tied].sum(),
      labels[u, [j for j in tied if j < i]].sum(),
    )
    assert tuple(int(field[u, i]) for field in ranks) == expected


@pytest.mark.parametrize("ties", ["optimistic", "pessimistic"])
def test_settled_targets_take_distinct_places(ties):
  labels = np.array([[True, False, True, True, False, True]])
  scores = np.array([[1.0, 1.0, 1.0, 2.0, 1.0, 0.0]])
  ranks, _ = ranked(scores, labels)
  settled = resolve_ties(ranks, ties=ties)
  places = np.asarray(settled.greater)[labels]
  expected = {"optimistic": [1, 2, 0, 5], "pessimistic": [3, 4, 0, 5]}[ties]
  np.testing.assert_array_equal(places, expected)
  np.testing.assert_array_equal(settled.tied, 0)
  np.testing.assert_array_equal(
    np.asarray(settled.greater_targets)[labels], [1, 2, 0, 3]
  )


def test_unknown_tie_rule():
  zeros = jnp.zeros((1, 1), jnp.int32)
  with pytest.raises(ConfigError, match="Did you mean 'expected'"):
    resolve_ties(Ranks(*5 * (zeros,)), ties="expcted")


def test_means_grow_and_merge():
  rng = np.random.default_rng(0)
  values = rng.random((5, 8)).astype(np.float32)
  where = rng.random((5, 8)) < 0.5
  one = empty_mean()
  for row, mask in zip(values[:3], where[:3]):
    one = jax.jit(add_to_mean)(one, jnp.asarray(row), mask)
  two = add_to_mean(
    empty_mean(), jnp.asarray(values[3:]), jnp.asarray(where[3:])
  )
  total = mean_value(merge_means(one, two))
  np.testing.assert_allclose(total, values[where].mean(), rtol=1e-6)
  assert float(mean_value(empty_mean())) == 0.0
  assert float(
    mean_value(add_to_mean(empty_mean(), jnp.asarray(values[0])))
  ) == (pytest.approx(values[0].mean()))
