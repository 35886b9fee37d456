import pathlib

import numpy as np
import pytest

from recjax.data.prepare import ExampleSource
from recjax.data.sources.planted_tasks import PlantedTasks
from recjax.errors import ConfigError

HERE = pathlib.Path()


def columns(part, num):
  return np.stack([part.column(f"x_{i}") for i in range(num)], axis=1)


@pytest.mark.parametrize("p", [-1.0, 0.0, 0.3, 1])
def test_weights(p):
  weights = PlantedTasks(num_features=7, correlation=p, scale=2.5).weights
  np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 2.5)
  np.testing.assert_allclose(weights[0] @ weights[1] / 2.5**2, p, atol=1e-12)


def test_labels_by_hand():
  source = PlantedTasks(
    20, 3, 4, 5, 0.7, 1.5, (1.0, 2.0), (0.5, -1.0), noise_stddev=0
  )
  split = source.read(HERE)
  assert [len(p) for p in (split.train, split.validation, split.test)] == [
    20,
    3,
    4,
  ]
  names = ["x_0", "x_1", "x_2", "x_3", "x_4", "first", "second"]
  for part in (split.train, split.validation, split.test):
    assert part.table.column_names == names and part.label == "first"
    for row in part.table.to_pylist():
      x = [row[f"x_{i}"] for i in range(5)]
      for label, weights in zip(("first", "second"), source.weights):
        s = sum(w * v for w, v in zip(weights, x))
        y = s + np.sin(1.0 * s + 0.5) + np.sin(2.0 * s - 1.0)
        np.testing.assert_allclose(row[label], y, atol=1e-5)
  assert source.label_columns == ("first", "second")
  assert source.mask_columns == () and source.files(HERE) == ()
  assert isinstance(source, ExampleSource)


@pytest.mark.parametrize("p", [-0.8, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.4, 1.0])
def test_label_correlation_against_quadrature(p, scale):
  source = PlantedTasks(correlation=p, scale=scale, noise_stddev=0.3)
  nodes, weights = np.polynomial.hermite_e.hermegauss(80)
  weights = weights / weights.sum()
  f = lambda s: (
    s + sum(np.sin(a * s + b) for a, b in zip(source.alphas, source.betas))
  )
  a, b = np.meshgrid(nodes, nodes, indexing="ij")
  mass = np.outer(weights, weights)
  first = f(scale * a)
  second = f(scale * (p * a + np.sqrt(1 - p**2) * b))
  mean = np.sum(mass * first)
  cov = np.sum(mass * first * second) - mean**2
  variance = np.sum(mass * first**2) - mean**2 + 0.3**2
  np.testing.assert_allclose(
    source.label_correlation, cov / variance, atol=1e-10
  )


@pytest.mark.parametrize("p", [0.0, 0.5, 0.9, 1.0])
def test_measured_correlation_and_noise(p):
  source = PlantedTasks(20_000, 0, 0, num_features=10, correlation=p)
  train = source.read(HERE).train
  labels = np.stack([train.labels, train.column("second")], axis=1)
  x = columns(train, 10)
  measured = np.corrcoef(labels.T)[0, 1]
  # A deviation is at most 1 / sqrt(rows).
  assert abs(measured - source.label_correlation) < 4 / np.sqrt(20_000)
  assert np.abs(np.corrcoef(x.T) - np.eye(10)).max() < 5 / np.sqrt(20_000)
  assert abs(x.std() - 1) < 0.01
  noise = labels - source.means(x.astype(np.float64))
  assert np.all(np.abs(noise.std(axis=0) - 0.1) < 5 * 0.1 / np.sqrt(40_000))
  assert abs(np.corrcoef(noise.T)[0, 1]) < 4 / np.sqrt(20_000)


def test_the_dial_grows_and_moves_the_second_label_alone():
  sources = [
    PlantedTasks(50, 5, 5, 6, correlation=p) for p in (0.0, 0.5, 0.9, 1.0)
  ]
  found = [source.label_correlation for source in sources]
  assert found == sorted(found) and found[-1] > 0.98
  low, high = (source.read(HERE).train for source in (sources[0], sources[2]))
  np.testing.assert_array_equal(columns(low, 6), columns(high, 6))
  np.testing.assert_array_equal(low.labels, high.labels)
  assert np.all(low.column("second") != high.column("second"))


def test_the_same_seed_gives_the_same_rows():
  one, two, three = (
    PlantedTasks(30, 10, 10, 4, seed=seed).read(HERE) for seed in (3, 3, 4)
  )
  assert one.fingerprint == two.fingerprint != three.fingerprint
  assert not np.array_equal(one.validation.labels, one.test.labels)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"correlation": 1.1}, "correlation must lie"),
    ({"num_features": 1}, "num_features must lie"),
    ({"num_train": 0}, "num_train must lie"),
    ({"alphas": (1.0,)}, "must be as many; got 1 and 5"),
    ({"betas": (np.nan,) * 5}, "betas must lie"),
    ({"noise_stddev": -1}, "noise_stddev must lie"),
  ],
)
def test_bad_settings(options, message):
  with pytest.raises(ConfigError, match=message):
    PlantedTasks(**options)
