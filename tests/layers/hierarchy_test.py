import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.hierarchy import HierarchicalHistory
from recjax.layers.histories import MeanHistory
from recjax.layers.recurrent import GRUHistory

LEN, IN = 8, 3
LENGTHS = [8, 7, 6, 4, 1]
X = np.random.default_rng(0).normal(size=(5, LEN, IN)).astype(np.float32)
HISTORY = jnp.asarray(X)
WHERE = jnp.asarray(np.arange(LEN)[None] < np.array(LENGTHS)[:, None])


def cut(rows, size):
  """Segments counted from the end, the oldest first."""
  stops = range(len(rows), 0, -size)
  return [rows[max(stop - size, 0) : stop] for stop in reversed(stops)]


def alone(apply, params, rows):
  """What an encoder gives for one history, always padded to one length."""
  rows = np.asarray(rows, np.float32)
  history = np.zeros((1, LEN, rows.shape[1]), np.float32)
  history[0, : len(rows)] = rows
  where = jnp.arange(LEN)[None] < len(rows)
  return np.asarray(apply({"params": params}, jnp.asarray(history), where))[0]


@pytest.mark.parametrize(
  "size,segment",
  [
    (1, MeanHistory()),
    (3, GRUHistory(4)),
    (4, GRUHistory(4)),
    (20, MeanHistory()),
  ],
)
def test_equals_both_encoders_segment_by_segment(size, segment):
  module = HierarchicalHistory(size, segment, GRUHistory(5))
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), HISTORY, WHERE)
  params = jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32),
    shapes["params"],
  )
  out = jax.jit(module.apply)({"params": params}, HISTORY, WHERE)
  below, above = jax.jit(segment.apply), jax.jit(GRUHistory(5).apply)
  for row, length in enumerate(LENGTHS):
    segments = cut(X[row, :length], size)
    assert size > length or len(segments[-1]) == size
    lower = params.get("segment", {})
    vectors = [alone(below, lower, rows) for rows in segments]
    expected = alone(above, params["sequence"], vectors)
    np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-5)


def test_the_mean_of_means_weighs_segments_and_not_items():
  module = HierarchicalHistory(3, MeanHistory(), MeanHistory())
  out = module.apply({}, HISTORY, WHERE)
  # Seven items: one, three and three.
  parts = [X[1, :1], X[1, 1:4], X[1, 4:7]]
  expected = np.mean([part.mean(axis=0) for part in parts], axis=0)
  np.testing.assert_allclose(out[1], expected, rtol=1e-5, atol=1e-6)


def test_bad_settings_name_the_rule():
  with pytest.raises(ConfigError, match="segment_len must lie in"):
    HierarchicalHistory(0)


def test_two_of_them_have_their_own_parameters():
  class Both(nn.Module):
    one: nn.Module
    other: nn.Module

    def __call__(self, history, where):
      return self.one(history, where) + self.other(history, where)

  both = Both(HierarchicalHistory(), HierarchicalHistory())
  variables = both.init(jax.random.key(0), HISTORY, WHERE)
  assert set(variables["params"]) == {"one", "other"}
