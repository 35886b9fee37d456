"""Accumulators against one pass over all examples, and their bounds."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn import metrics as sklearn_metrics

from recjax.errors import ConfigError
from recjax.metrics import calibration, classification
from recjax.metrics.streaming import (
  StreamingAUC,
  StreamingCalibration,
  StreamingMeans,
)
from recjax.metrics.sums import Sum

INITS = {
  "auc": functools.partial(StreamingAUC.init, num_bins=256),
  "means": functools.partial(StreamingMeans.init, from_logits=True),
  "calibration": functools.partial(
    StreamingCalibration.init, resolution=60, from_logits=True
  ),
}
update = jax.jit(lambda state, *batch: state.update(*batch))
result = jax.jit(lambda state: state.result())
error_bound = jax.jit(lambda state: state.error_bound())
merge = jax.jit(lambda a, b: a.merge(b))
curve_of = jax.jit(
  lambda state, num_bins, binning: state.curve(
    num_bins=num_bins, binning=binning
  ),
  static_argnums=(1, 2),
)


def examples(seed: int = 0, num: int = 4000):
  rng = np.random.default_rng(seed)
  logits = rng.normal(-2.0, 1.5, num).astype(np.float32)
  label = rng.random(num) < 1 / (1 + np.exp(-logits))
  weight = rng.integers(0, 4, num).astype(np.float32)
  return logits, label, weight, rng.random(num) < 0.9


def streamed(init, parts, sizes):
  state, start = init(), 0
  for size in sizes:
    batch = [part[start : start + size] for part in parts]
    state, start = update(state, *map(jnp.asarray, batch)), start + size
  return state


def test_auc_is_within_its_bound():
  logits, label, weight, where = examples()
  exact = sklearn_metrics.roc_auc_score(
    label[where], logits[where], sample_weight=weight[where]
  )
  bounds = []
  for num_bins in (8, 256, 2**14):
    init = functools.partial(StreamingAUC.init, num_bins=num_bins)
    state = streamed(init, (logits, label, weight, where), [1000] * 4)
    bound = float(error_bound(state))
    assert abs(float(result(state)) - exact) <= bound + 1e-6
    bounds.append(bound)
  assert bounds == sorted(bounds, reverse=True)
  assert bounds[-1] < 5e-4 < 0.01 < bounds[0]


def test_the_bound_is_reached():
  # All scores share a bin: the truth may be 0 or 1, the result is one half.
  state = StreamingAUC.init(num_bins=4, low=0.0, high=1.0)
  state = update(state, jnp.array([0.9, 0.8]), jnp.array([1, 0]))
  assert float(result(state)) == 0.5 == float(error_bound(state))


def test_scores_beyond_the_ends_are_in_the_bound():
  score = jnp.array([-50.0, -40.0, 40.0, 50.0, np.inf, -np.inf])
  label = jnp.array([0, 1, 0, 1, 1, 0])
  state = StreamingAUC.init(num_bins=16, low=-1.0, high=1.0)
  state = update(state, score, label)
  exact = sklearn_metrics.roc_auc_score(label, np.clip(score, -60, 60))
  assert abs(float(result(state)) - exact) <= float(error_bound(state))
  assert float(error_bound(state)) == pytest.approx((1 * 2 + 2 * 1) / 9 / 2)


def test_auc_undefined():
  state = StreamingAUC.init()
  one_class = update(state, jnp.array([0.1, 0.2]), jnp.ones(2))
  nan = update(one_class, jnp.array([0.1, np.nan]), jnp.zeros(2))
  for unknown in (state, one_class, nan):
    assert math.isnan(result(unknown))
    assert math.isnan(error_bound(unknown))
  masked = update(
    one_class,
    jnp.array([0.1, np.nan]),
    jnp.zeros(2),
    None,
    jnp.array([True, False]),
  )
  assert not math.isnan(result(masked))


def test_means_equal_those_of_one_pass():
  logits, label, weight, where = examples(1)
  state = streamed(INITS["means"], (logits, label, weight, where), [500] * 8)
  found = {key: float(value) for key, value in result(state).items()}
  parts = logits, label, weight, where
  p = (1 / (1 + np.exp(-logits.astype(np.float64))))[where]
  w, y = weight[where].astype(np.float64), label[where]
  expected = {
    "log_loss": sklearn_metrics.log_loss(y, p, sample_weight=w),
    "normalized_entropy": classification.normalized_entropy_metric(
      *parts, from_logits=True
    ),
    "rmse": sklearn_metrics.root_mean_squared_error(y, p, sample_weight=w),
    "mean_label": (w * y).sum() / w.sum(),
    "mean_prediction": (w * p).sum() / w.sum(),
    "weight": w.sum(),
  }
  assert found == pytest.approx(expected, rel=1e-6)
  given = state.result(base_rate=0.25)["normalized_entropy"]
  assert float(given) == pytest.approx(
    classification.normalized_entropy_metric(
      *parts, from_logits=True, base_rate=0.25
    ),
    rel=1e-6,
  )


def test_means_of_nothing_and_of_one_class():
  state = StreamingMeans.init()
  assert set(map(float, result(state).values())) == {0.0}
  state = update(state, jnp.array([0.1, 0.2]), jnp.zeros(2))
  assert math.isnan(result(state)["normalized_entropy"])
  assert float(result(state)["log_loss"]) > 0


def test_calibration_in_bins_of_equal_width_is_exact():
  logits, label, weight, where = parts = examples(2)
  state = streamed(
    functools.partial(StreamingCalibration.init, from_logits=True),
    parts,
    [2000] * 2,
  )
  for num_bins in (10, 15):
    found = curve_of(state, num_bins, "equal_width")
    exact = calibration.reliability_curve(
      *parts, num_bins=num_bins, from_logits=True
    )
    for actual, expected in zip(found, exact):
      np.testing.assert_allclose(actual, expected, rtol=1e-5)
    error = calibration.expected_calibration_error_metric(
      *parts, num_bins=num_bins, from_logits=True
    )
    mine = calibration.calibration_error(found)
    assert float(mine) == pytest.approx(error, abs=1e-6)
  assert float(result(state)) == pytest.approx(error, abs=1e-6)


def test_calibration_in_bins_of_equal_mass():
  # Predictions in the middle of fine bins: nothing is rounded away.
  rng = np.random.default_rng(3)
  fine = rng.beta(1, 8, 3000)
  p = ((np.floor(fine * 600) + 0.5) / 600).astype(np.float32)
  label = rng.random(3000) < p
  state = StreamingCalibration.init(resolution=600)
  state = update(state, jnp.asarray(p), jnp.asarray(label))
  options = {"num_bins": 8, "binning": "equal_mass"}
  found = curve_of(state, *options.values())
  exact = calibration.reliability_curve(p, label, **options)
  for name in ("weight", "prediction", "label", "num_effective"):
    np.testing.assert_allclose(
      getattr(found, name), getattr(exact, name), rtol=1e-5
    )
  half = 0.5 / 600
  np.testing.assert_allclose(found.low, exact.low - half, atol=1e-6)
  np.testing.assert_allclose(found.high, exact.high + half, atol=1e-6)


@pytest.mark.parametrize("name", INITS)
def test_merging_is_exact(name):
  init, parts = INITS[name], examples(4)
  whole = streamed(init, parts, [500] * 8)
  first = streamed(init, [part[:1500] for part in parts], [500] * 3)
  second = streamed(init, [part[1500:] for part in parts], [500] * 5)
  sums = lambda state: [
    np.asarray(part.high, np.float64) + np.asarray(part.low, np.float64)
    for part in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Sum))
  ]
  for merged in (first.merge(second), second.merge(first)):
    for mine, expected in zip(sums(merged), sums(whole)):
      np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)
    if name == "auc":  # Whole weights: bit for bit.
      same = jax.tree.map(np.array_equal, merged, whole)
      assert all(jax.tree.leaves(same))
  empty = init()
  for mine, expected in zip(
    jax.tree.leaves(empty.merge(whole)), jax.tree.leaves(whole)
  ):
    np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("name", INITS)
def test_update_under_jit_and_sharded_over_devices(name):
  parts = list(map(jnp.asarray, examples(5, 1600)))
  eager = INITS[name]().update(*parts)
  mesh = Mesh(np.array(jax.devices()), ("data",))
  rows = NamedSharding(mesh, PartitionSpec("data"))
  shared = update(INITS[name](), *jax.device_put(parts, rows))
  assert len(mesh.devices) == 8
  for mine, expected in zip(
    jax.tree.leaves(result(shared)), jax.tree.leaves(result(eager))
  ):
    np.testing.assert_allclose(mine, expected, rtol=1e-6)


@pytest.mark.parametrize("name", INITS)
def test_a_scan_and_a_vmap_can_carry_it(name):
  parts = [part.reshape(4, 100) for part in examples(6, 400)]
  step = lambda state, batch: (state.update(*batch), None)
  scanned, _ = jax.jit(lambda s, b: jax.lax.scan(step, s, b))(
    INITS[name](), parts
  )
  states = jax.vmap(INITS[name]().update)(*map(jnp.asarray, parts))
  merged = functools.reduce(
    lambda a, b: a.merge(b),
    [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(4)],
  )
  for mine, expected in zip(
    jax.tree.leaves(result(merged)), jax.tree.leaves(result(scanned))
  ):
    np.testing.assert_allclose(mine, expected, rtol=1e-6)


def test_counts_grow_past_the_end_of_float32():
  state = StreamingAUC.init(num_bins=2, low=0.0, high=1.0)
  state = update(state, jnp.array([0.2, 0.7]), jnp.array([0, 1]))
  for _ in range(26):
    state = merge(state, state)
  for _ in range(3):
    state = update(state, jnp.array([0.2]), jnp.array([1]))
  positive = np.asarray(state.positive.high, np.float64) + state.positive.low
  np.testing.assert_array_equal(positive, [3, 2**26])


def test_only_equals_merge():
  with pytest.raises(ConfigError, match="only equal bins merge; got 8 on"):
    StreamingAUC.init(num_bins=8).merge(StreamingAUC.init(num_bins=4))
  with pytest.raises(ConfigError, match="only equal options merge"):
    StreamingMeans.init().merge(StreamingMeans.init(from_logits=True))
  with pytest.raises(ConfigError, match="only equal options merge"):
    StreamingCalibration.init(resolution=8).merge(StreamingCalibration.init())


def test_wrong_options():
  with pytest.raises(ConfigError, match="low must be below high"):
    StreamingAUC.init(low=1.0, high=1.0)
  with pytest.raises(ConfigError, match="num_bins must lie in"):
    StreamingAUC.init(num_bins=0)
  with pytest.raises(ConfigError, match="must divide the resolution 6000"):
    StreamingCalibration.init().curve(num_bins=7)
