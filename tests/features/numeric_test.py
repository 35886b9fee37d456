"""Transforms against scikit-learn and NumPy."""

import numpy as np
import pytest
from sklearn import preprocessing

from recjax.errors import DataError
from recjax.features import numeric
from recjax.features.raw_columns import Place
from recjax.features.specs import Bucketized, Numeric

PLACE = Place("age", "years", 5)
_rng = np.random.default_rng(0)
TRAIN = np.round(_rng.lognormal(1, 1, 3000), 1) - 2.0
TEST = np.round(_rng.lognormal(1, 1.5, 500), 1) - 3.0


def fitted(spec, values=TRAIN, blocks=7):
  fit, row = numeric.NumericFit(spec), 0
  for block in np.array_split(values, blocks):
    fit.add(block, row)
    row += len(block)
  return fit.finish()


def encoded(spec, values=TEST, train=TRAIN):
  found = fitted(spec, train).encode(values, PLACE)
  assert found.dtype == np.float32
  return found


@pytest.mark.parametrize(
  ("transform", "peer"),
  [
    ("min_max", preprocessing.MinMaxScaler()),
    ("z_score", preprocessing.StandardScaler()),
    (
      "quantile",
      preprocessing.QuantileTransformer(n_quantiles=1000, subsample=None),
    ),
  ],
)
def test_transforms_are_those_of_scikit_learn(transform, peer):
  peer.fit(TRAIN[:, None])
  expected = peer.transform(TEST[:, None])[:, 0]
  found = encoded(Numeric("age", transform=transform))
  np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_the_other_transforms():
  np.testing.assert_array_equal(
    encoded(Numeric("age")), TEST.astype(np.float32)
  )
  expected = [np.log(1 + value) if value > 0 else 0.0 for value in TEST]
  found = encoded(Numeric("age", transform="log"))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_statistics_do_not_depend_on_blocks_and_are_stable():
  values = TRAIN + 1e9  # A naive sum of squares fails here.
  for blocks in (1, 13):
    encoder = fitted(Numeric("age", transform="z_score"), values, blocks)
    np.testing.assert_allclose(encoder.mean, values.mean(), rtol=1e-15)
    np.testing.assert_allclose(encoder.std, values.std(), rtol=1e-9)


@pytest.mark.parametrize("transform", ["min_max", "z_score", "quantile", "log"])
def test_missing_values_are_filled_before_the_transform(transform):
  holes = np.where(np.arange(len(TRAIN)) % 3 == 0, np.nan, TRAIN)
  known = holes[~np.isnan(holes)]
  asked = np.array([np.nan, 1.5])
  for fill, value in ((1.5, 1.5), ("mean", known.mean())):
    spec = Numeric("age", transform=transform, fill=fill)
    found = encoded(spec, asked, holes)
    plain = encoded(spec, np.array([value, 1.5]), known)
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)


def test_missing_values_can_be_refused():
  spec = Numeric("age", fill="error")
  message = "feature 'age': row 6 of column 'years' holds None, and fill='err"
  with pytest.raises(DataError, match=message):
    encoded(spec, np.array([1.0, np.nan]))


@pytest.mark.parametrize("transform", ["min_max", "z_score", "quantile"])
def test_a_constant_column(transform):
  spec = Numeric("age", transform=transform)
  found = encoded(spec, np.array([3.0]), np.full(10, 3.0))
  assert found.tolist() == [0.5 if transform == "quantile" else 0.0]


@pytest.mark.parametrize("transform", ["min_max", "z_score", "quantile", "log"])
def test_a_column_without_any_value(transform):
  spec = Numeric("age", transform=transform)
  assert np.isfinite(
    encoded(spec, np.array([np.nan]), np.full(4, np.nan))
  ).all()


def test_too_large_for_float32():
  with pytest.raises(DataError, match="row 5 .* too large for float32"):
    encoded(Numeric("age"), np.array([1e39]))


def test_given_boundaries():
  spec = Bucketized("age", boundaries=(0, 18, 65))
  asked = np.array([-1, 0, 17.9, 18, 64, 65, 99, np.nan])
  assert encoded_ids(spec, asked).tolist() == [1, 2, 2, 3, 3, 4, 4, 0]
  assert fitted(spec).num_ids == 5


def encoded_ids(spec, values):
  encoder = fitted(spec)
  found = encoder.encode(values, PLACE)
  assert found.dtype == np.int32 and encoder.collision_rate == 0
  return found


def test_quantile_intervals_are_even():
  values = _rng.normal(size=4000)
  encoder = fitted(Bucketized("age", num_quantiles=8), values)
  counts = np.bincount(encoder.encode(values, PLACE))
  assert counts.tolist() == [0] + [500] * 8
  # Ties: nine of ten rows are 0.
  few = np.where(np.arange(1000) % 10 == 0, values[:1000], 0.0)
  assert fitted(Bucketized("age", num_quantiles=8), few).num_ids < 10


def test_intervals_of_equal_width_between_the_ends():
  values = np.array([0.0, 1.0, 2.5, 7.4, 7.5, 10.0, np.nan])
  encoder = fitted(Bucketized("age", num_intervals=4), values)
  np.testing.assert_array_equal(encoder.boundaries, [2.5, 5.0, 7.5])
  assert encoder.num_ids == 5
  same = fitted(Bucketized("age", num_intervals=4), np.array([3.0, 3.0]))
  assert len(same.boundaries) == 1


def test_the_reservoir_is_a_uniform_sample_whatever_the_blocks():
  values = np.arange(40_000.0)
  values[::4] = np.nan
  samples = []
  for blocks in (1, 9, 400):
    reservoir, row = numeric.Reservoir(2000), 0
    for block in np.array_split(values, blocks):
      reservoir.add(block, row)
      row += len(block)
    samples.append(reservoir.values)
  np.testing.assert_array_equal(samples[0], samples[1])
  np.testing.assert_array_equal(samples[0], samples[2])
  sample = samples[0]
  assert len(np.unique(sample)) == 2000 and not np.isnan(sample).any()
  # Mean of uniform numbers below 40,000: deviation 40,000 / sqrt(12 * 2000).
  assert abs(sample.mean() - 20_000) < 4 * 258


def test_log_square():
  values = np.array([-3.7, -1, 0, 1, 2, 2.5, 3, 100, 5000, np.nan])
  expected = [
    np.nan if np.isnan(x) else int(np.log(x) ** 2) if x > 2 else int(x)
    for x in np.nan_to_num(values, nan=0)[:-1]
  ]
  np.testing.assert_array_equal(numeric.log_square(values), [*expected, np.nan])
