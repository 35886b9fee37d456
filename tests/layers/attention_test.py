import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.attention import causal_attention

BATCH, LEN, HEADS, DIM = 2, 11, 2, 3
SEGMENTS = np.array(
  [[1, 1, 1, 3, 3, 2, 2, 2, 2, 0, 0], [0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4]],
  np.int32,
)
jitted = jax.jit(causal_attention, static_argnames=("query_block",))


def inputs(seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  shape = (BATCH, LEN, HEADS, DIM)
  return [(scale * rng.normal(size=shape)).astype(np.float32) for _ in range(3)]


def visible(row, place):
  """The positions that a place may look at."""
  same = SEGMENTS[row] == SEGMENTS[row, place]
  return np.flatnonzero(same & (np.arange(LEN) <= place))


def oracle(query, key, value):
  query, key, value = (x.astype(np.float64) for x in (query, key, value))
  out = np.zeros(query.shape)
  for row in range(BATCH):
    for place in range(LEN):
      seen = visible(row, place)
      for head in range(HEADS):
        logits = [
          query[row, place, head] @ key[row, j, head] / np.sqrt(DIM)
          for j in seen
        ]
        weights = np.exp(logits) / np.sum(np.exp(logits))
        out[row, place, head] = weights @ value[row, seen, head]
  return out


@pytest.mark.parametrize("query_block", [1, 4, LEN, 64])
def test_equals_the_oracle_whatever_the_block(query_block):
  args = inputs()
  out = jitted(*args, SEGMENTS, query_block=query_block)
  np.testing.assert_allclose(out, oracle(*args), atol=1e-6)


@pytest.mark.parametrize("row,place", [(0, 1), (0, 3), (0, 7), (1, 2), (1, 9)])
def test_only_earlier_positions_of_the_own_segment_matter(row, place):
  args = inputs()
  hidden = np.setdiff1d(np.arange(LEN), visible(row, place))
  spoiled = [x.copy() for x in args]
  for x, noise in zip(spoiled, inputs(seed=1, scale=100.0), strict=True):
    x[row, hidden] = noise[row, hidden]
  before = jitted(*args, SEGMENTS, query_block=4)
  after = jitted(*spoiled, SEGMENTS, query_block=4)
  np.testing.assert_allclose(after[row, place], before[row, place], atol=1e-6)
  # And every one that may be seen does matter.
  for j in visible(row, place):
    moved = args[2].copy()
    moved[row, j] += 1.0
    changed = jitted(args[0], args[1], moved, SEGMENTS, query_block=4)
    assert np.all(changed[row, place] > before[row, place])


def test_gradients_equal_those_of_plain_attention():
  mask = (SEGMENTS[:, :, None] == SEGMENTS[:, None, :]) & np.tri(
    LEN, dtype=bool
  )

  def plain(query, key, value):
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(DIM)
    logits = jnp.where(mask[:, None], logits, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), value)

  ours = functools.partial(
    causal_attention, segment_id=jnp.asarray(SEGMENTS), query_block=4
  )
  args = tuple(map(jnp.asarray, inputs()))
  towards = np.random.default_rng(2).normal(size=args[0].shape)
  gradient = lambda attend: jax.jit(
    jax.grad(lambda args: jnp.sum(attend(*args) * towards))
  )(args)
  for got, want in zip(gradient(ours), gradient(plain), strict=True):
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_extreme_logits_stay_finite():
  args = inputs(scale=1e4)
  loss = lambda args: jnp.sum(
    causal_attention(*args, jnp.asarray(SEGMENTS), query_block=4)
  )
  value, grads = jax.jit(jax.value_and_grad(loss))(tuple(args))
  assert np.isfinite(value)
  assert all(np.all(np.isfinite(grad)) for grad in grads)


def test_bfloat16_stays_close_and_keeps_its_type():
  args = [jnp.asarray(x, jnp.bfloat16) for x in inputs()]
  out = jitted(*args, SEGMENTS, query_block=4)
  assert out.dtype == jnp.bfloat16
  exact = oracle(*(np.asarray(x, np.float64) for x in args))
  np.testing.assert_allclose(out.astype(np.float32), exact, atol=0.03)


# -- Dropout ------------------------------------------------------------------

RATE = 0.25


def attention_weights(key, query_block=4):
  """The weights themselves: the values are one-hot."""
  length = 8
  rng = np.random.default_rng(0)
  query, keys = rng.normal(size=(2, 1, length, 1, length)).astype(np.float32)
  one_hot = np.eye(length, dtype=np.float32)[None, :, None, :]
  out = causal_attention(
    jnp.asarray(query),
    jnp.asarray(keys),
    jnp.asarray(one_hot),
    jnp.ones((1, length), jnp.int32),
    dropout_rate=RATE,
    dropout_key=key,
    query_block=query_block,
  )
  return out[0, :, 0, :]


def test_dropout_zeroes_weights_after_the_softmax_without_renormalizing():
  keys = jax.random.split(jax.random.key(0), 200)
  dropped = np.asarray(jax.jit(jax.vmap(attention_weights))(keys))
  whole = np.asarray(jax.jit(attention_weights)(None))
  lower = np.tri(8, dtype=bool)
  kept = dropped != 0
  expected = np.where(kept, whole / (1 - RATE), 0.0)
  np.testing.assert_allclose(dropped, expected, rtol=1e-4)
  assert np.all(dropped[:, ~lower] == 0)
  num = kept[:, lower].size
  error = np.sqrt(RATE * (1 - RATE) / num)
  assert abs(1 - kept[:, lower].mean() - RATE) < 4 * error
  # Blocks of queries do not share their mask.
  assert np.any(kept[:, 3, :4] != kept[:, 7, :4])


def test_dropout_is_fixed_by_its_key_and_needs_a_rate_in_range():
  twice = jnp.stack([jax.random.key(1)] * 2)
  first, second = jax.jit(jax.vmap(attention_weights))(twice)
  np.testing.assert_array_equal(first, second)
  x = jnp.ones((1, 2, 1, 1))
  with pytest.raises(ConfigError, match="dropout rate must lie in"):
    causal_attention(
      x,
      x,
      x,
      jnp.ones((1, 2), jnp.int32),
      dropout_rate=1.5,
      dropout_key=jax.random.key(0),
    )
