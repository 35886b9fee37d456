"""Combiners against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.combiners import combine

_rng = np.random.default_rng(0)
ROWS = _rng.normal(size=(5, 4, 3))
WHERE = np.array(
  [[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool
)
WEIGHTS = _rng.uniform(0.5, 2.0, (5, 4))
WEIGHTS[4] = 0.0  # Ids, and yet no weight.


def _reference(combiner, weights):
  """Each list by itself, without its padding."""
  out = np.zeros((5, 3))
  for i in range(5):
    w, e = weights[i][WHERE[i]], ROWS[i][WHERE[i]]
    size = {"sum": 1.0, "mean": w.sum(), "sqrtn": np.sqrt((w**2).sum())}
    if len(w) and size[combiner] > 0:
      out[i] = (w[:, None] * e).sum(0) / size[combiner]
  return out


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_combiners_against_numpy(combiner, is_weighted):
  # What stands at padding must not matter.
  rows = jnp.asarray(np.where(WHERE[..., None], ROWS, np.nan), jnp.float32)
  weights = np.where(WHERE, WEIGHTS, np.nan).astype(np.float32)
  given = jnp.asarray(weights) if is_weighted else None
  combined = combine(rows, jnp.asarray(WHERE), given, combiner=combiner)
  ones = np.ones_like(WEIGHTS)
  expected = _reference(combiner, WEIGHTS if is_weighted else ones)
  np.testing.assert_allclose(combined, expected, atol=1e-6)


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_gradients_against_finite_differences(combiner):
  towards = _rng.normal(size=(5, 3))

  def loss(rows, weights):
    combined = combine(rows, jnp.asarray(WHERE), weights, combiner=combiner)
    return jnp.sum(combined * towards)

  with jax.enable_x64(True):
    args = jnp.asarray(ROWS), jnp.asarray(WEIGHTS)
    grads = np.asarray(jax.grad(loss)(*args))
    direction = jnp.asarray(_rng.normal(size=ROWS.shape))
    up, down = (loss(args[0] + e * direction, args[1]) for e in (1e-4, -1e-4))
    np.testing.assert_allclose(
      jnp.sum(grads * direction), (up - down) / 2e-4, rtol=1e-6
    )
  assert np.all(grads[~WHERE] == 0.0)
  assert np.all(np.isfinite(grads))
