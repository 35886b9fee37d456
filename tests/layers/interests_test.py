import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.interests import (
  DynamicRouting,
  SelfAttentiveInterests,
  label_aware_attention,
  squash,
)

LEN, IN, DIM, K = 9, 3, 4, 3
LENGTHS = [9, 8, 7, 4, 3, 1]
X = np.random.default_rng(0).normal(size=(len(LENGTHS), LEN, IN))
HISTORY = jnp.asarray(X, jnp.float32)
WHERE = jnp.asarray(np.arange(LEN)[None] < np.array(LENGTHS)[:, None])


def variables_of(module):
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(module.init, jax.random.key(0), HISTORY, WHERE)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
  )


def wide(tree):
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def softmax(x):
  return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def squashed(z):
  length = np.linalg.norm(z)
  return length**2 / (1 + length**2) * z / length


def routed(module, params, rows, num_interests):
  """Algorithm 1 of MIND for one user, item by item; then H."""
  mapped = [params["bilinear"]["kernel"].T @ row for row in rows]
  first = np.random.RandomState(module.seed).standard_normal((len(rows), K))
  logits = [first[i, :num_interests].copy() for i in range(len(rows))]
  for _ in range(module.num_iterations):
    weights = [softmax(b) for b in logits]
    capsules = []
    for j in range(num_interests):
      z = sum(w[j] * e for w, e in zip(weights, mapped, strict=True))
      capsules.append(squashed(z))
    for b, e in zip(logits, mapped, strict=True):
      for j in range(num_interests):
        b[j] += capsules[j] @ e
  for n in range(module.num_layers):
    layer = params[f"layer_{n}"]
    capsules = [
      np.maximum(u @ layer["kernel"] + layer["bias"], 0) for u in capsules
    ]
  return capsules


@pytest.mark.parametrize("num_iterations,num_layers", [(1, 2), (2, 0), (3, 1)])
def test_routing_equals_the_algorithm(num_iterations, num_layers):
  module = DynamicRouting(K, DIM, num_iterations, num_layers, seed=5)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  params = wide(variables["params"])
  for row, length in enumerate(LENGTHS):
    expected = routed(module, params, X[row, :length], K)
    np.testing.assert_allclose(out[row], expected, rtol=1e-3, atol=1e-4)


def test_short_histories_have_fewer_interests():
  module = DynamicRouting(K, DIM, num_layers=1, adaptive=True)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  params = wide(variables["params"])
  # max(1, min(3, floor(log2 n))) of 9, 8, 7, 4, 3 and 1 items.
  for row, num in enumerate([3, 3, 2, 2, 1, 1]):
    expected = routed(module, params, X[row, : LENGTHS[row]], num)
    expected += [expected[0]] * (K - num)
    np.testing.assert_allclose(out[row], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_interests", [1, 40])
def test_one_interest_and_more_than_a_history_can_fill(num_interests):
  module = DynamicRouting(num_interests, DIM, adaptive=True)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  assert out.shape == (len(LENGTHS), num_interests, DIM)
  # Nine items have three interests.
  distinct = {row.tobytes() for row in np.asarray(out[0])}
  assert len(distinct) == min(num_interests, 3)


def test_the_seed_alone_draws_the_first_logits():
  variables = variables_of(DynamicRouting(K, DIM))
  of_seed = lambda seed: np.asarray(
    jax.jit(DynamicRouting(K, DIM, seed=seed).apply)(variables, HISTORY, WHERE)
  )
  np.testing.assert_array_equal(of_seed(0), of_seed(0))
  assert np.abs(of_seed(0) - of_seed(1)).max() > 1e-3
  # Interests of one user differ though they share the map S.
  assert np.abs(np.diff(of_seed(0)[0], axis=0)).max() > 1e-3


def test_no_gradient_flows_through_the_routing_weights():
  """The gradient is that of fixed weights, here found by differences."""
  module = DynamicRouting(K, DIM, num_layers=0)
  variables = variables_of(module)
  loss = lambda v: jnp.sum(module.apply(v, HISTORY, WHERE) ** 2)
  gradient = jax.jit(jax.grad(loss))(variables)["params"]["bilinear"]["kernel"]
  kernel = wide(variables["params"]["bilinear"]["kernel"])

  # The weights of the last round, by the algorithm up to there.
  def last_weights(rows):
    params = {"bilinear": {"kernel": kernel}}
    first = np.random.RandomState(0).standard_normal((len(rows), K))
    mapped, logits = rows @ kernel, first
    for rounds in (1, 2):
      partial = DynamicRouting(K, DIM, rounds, num_layers=0)
      capsules = np.stack(routed(partial, params, rows, K))
      logits = logits + mapped @ capsules.T
    return np.stack([softmax(b) for b in logits])

  rows = [X[row, :length] for row, length in enumerate(LENGTHS)]
  weights = [last_weights(x) for x in rows]

  def with_fixed_weights(kernel):
    total = 0.0
    for x, w in zip(rows, weights, strict=True):
      for j in range(K):
        total += np.sum(squashed(w[:, j] @ (x @ kernel)) ** 2)
    return total

  expected = np.zeros_like(kernel)
  for place in np.ndindex(*kernel.shape):
    step = np.zeros_like(kernel)
    step[place] = 1e-5
    above = with_fixed_weights(kernel + step)
    expected[place] = (above - with_fixed_weights(kernel - step)) / 2e-5
  np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=2e-4)


def test_squash_keeps_directions_and_shortens():
  z = jnp.asarray([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
  expected = [[0.6 * 25 / 26, 0.8 * 25 / 26], [0.12, 0.16], [0, 0]]
  np.testing.assert_allclose(squash(z), expected, rtol=1e-5)
  gradient = jax.grad(lambda z: squash(z).sum())(z)
  assert np.all(np.isfinite(gradient))


# -- ComiRec-SA ---------------------------------------------------------------


@pytest.mark.parametrize("dim,max_len", [(DIM, 0), (IN, LEN + 2)])
def test_self_attention_equals_the_formula(dim, max_len):
  module = SelfAttentiveInterests(K, dim, hidden_dim=6, max_len=max_len)
  variables = variables_of(module)
  out = jax.jit(module.apply)(variables, HISTORY, WHERE)
  params = wide(variables["params"])
  assert ("output" in params) == (dim != IN)
  for row, length in enumerate(LENGTHS):
    items = X[row, :length]
    seen = items
    if max_len:
      seen = items + params["position_embedding"][:length][::-1]
    hidden = np.tanh(seen @ params["hidden"]["kernel"])
    logits = hidden @ params["attention"]["kernel"]
    for j in range(K):
      interest = softmax(logits[:, j]) @ items
      if dim != IN:
        interest = interest @ params["output"]["kernel"]
      np.testing.assert_allclose(out[row, j], interest, rtol=1e-3, atol=1e-4)


def test_the_hidden_width_follows_dim():
  variables = variables_of(SelfAttentiveInterests(K, DIM))
  assert variables["params"]["hidden"]["kernel"].shape == (IN, 4 * DIM)


def test_longer_histories_than_positions_are_refused():
  module = SelfAttentiveInterests(K, DIM, max_len=LEN - 1)
  with pytest.raises(ConfigError, match="at least the places.* 9; got 8"):
    module.init(jax.random.key(0), HISTORY, WHERE)


# -- Label-aware attention ----------------------------------------------------

INTERESTS = np.random.default_rng(2).normal(size=(5, K, DIM))
TARGET = np.random.default_rng(3).normal(size=(5, DIM))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 300.0, float("inf")])
def test_weights_of_the_label_aware_attention(power):
  args = jnp.asarray(INTERESTS, jnp.float32), jnp.asarray(TARGET, jnp.float32)
  attend = jax.jit(label_aware_attention, static_argnames="power")
  out = attend(*args, power=power)
  for row in range(5):
    products = INTERESTS[row] @ TARGET[row]
    if np.isinf(power):
      expected = INTERESTS[row, np.argmax(products)]
    else:
      powers = np.exp(products - products.max()) ** power
      expected = powers / powers.sum() @ INTERESTS[row]
    np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-5)


def test_the_best_interest_alone_learns():
  args = jnp.asarray(INTERESTS, jnp.float32), jnp.asarray(TARGET, jnp.float32)
  loss = lambda u: jnp.sum(
    label_aware_attention(u, args[1], power=float("inf"))
  )
  gradient = np.asarray(jax.grad(loss)(args[0]))
  best = np.argmax(np.einsum("bkd,bd->bk", INTERESTS, TARGET), axis=1)
  expected = np.zeros_like(INTERESTS)
  expected[np.arange(5), best] = 1.0
  np.testing.assert_array_equal(gradient, expected)


def test_equal_interests_take_the_first_and_stay_themselves():
  same = jnp.broadcast_to(jnp.asarray([[[1.0, 2.0]]]), (1, 3, 2))
  for power in (0.0, 1.0, float("inf")):
    out = label_aware_attention(same, jnp.ones((1, 2)), power=power)
    np.testing.assert_allclose(out, [[1.0, 2.0]], rtol=1e-6)


@pytest.mark.parametrize("power", [-1.0, float("nan")])
def test_a_bad_power_is_refused(power):
  with pytest.raises(ConfigError, match="label_aware_attention: power must"):
    label_aware_attention(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1)), power=power)


@pytest.mark.parametrize(
  "module,settings,message",
  [
    (DynamicRouting, {"num_interests": 0}, "num_interests must lie in"),
    (DynamicRouting, {"num_iterations": 0}, "num_iterations must lie in"),
    (DynamicRouting, {"num_layers": -1}, "num_layers must lie in"),
    (DynamicRouting, {"seed": 2**32}, "DynamicRouting.seed must lie in"),
    (SelfAttentiveInterests, {"dim": 0}, "dim must lie in"),
    (SelfAttentiveInterests, {"hidden_dim": -1}, "hidden_dim must lie in"),
    (SelfAttentiveInterests, {"max_len": -1}, "max_len must lie in"),
  ],
)
def test_bad_settings_name_the_rule(module, settings, message):
  with pytest.raises(ConfigError, match=message):
    module(**settings)
