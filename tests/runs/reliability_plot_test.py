"""What the plots draw, read back from the figures."""

import numpy as np
import pytest
import scipy.stats

from recjax.metrics.calibration import reliability_curve
from recjax.metrics.roc import roc_curve
from recjax.runs import reliability_plot

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def curve():
  rng = np.random.default_rng(0)
  p = rng.beta(1, 5, 2000)
  label = rng.random(2000) < p
  return reliability_curve(p, label, num_bins=10)


def legend_of(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_wilson_interval_is_that_of_scipy():
  rate, num = np.array([0.0, 0.1, 0.5, 1.0]), np.array([5.0, 30, 100, 7])
  low, high = reliability_plot.wilson_interval(rate, num)
  for i in range(4):
    test = scipy.stats.binomtest(round(rate[i] * num[i]), int(num[i]))
    expected = test.proportion_ci(method="wilson")
    assert low[i] == pytest.approx(expected.low, abs=1e-6)
    assert high[i] == pytest.approx(expected.high, abs=1e-6)


def test_reliability(curve):
  figure = reliability_plot.reliability_figure(curve, title="run: test")
  above, below = figure.axes
  used = curve.weight > 0
  assert 5 < used.sum() < 10  # Empty bins are left out.
  diagonal, points = above.get_lines()[:2]
  np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
  np.testing.assert_allclose(points.get_xdata(), curve.prediction[used])
  np.testing.assert_allclose(points.get_ydata(), curve.label[used])
  bars = above.containers[0].lines[2][0].get_segments()
  low, high = reliability_plot.wilson_interval(
    curve.label[used], curve.weight[used]
  )
  np.testing.assert_allclose(
    [[bar[0][1], bar[1][1]] for bar in bars], np.stack([low, high], 1)
  )
  gap = np.abs(curve.prediction - curve.label) @ curve.weight / 2000
  assert legend_of(above) == ["calibrated", f"ECE {gap:.4f}"]
  heights = [bar.get_height() for bar in below.patches]
  np.testing.assert_allclose(heights, curve.weight[used] / 2000)
  np.testing.assert_allclose(
    [bar.get_x() for bar in below.patches], curve.low[used]
  )
  assert above.get_title(loc="left") == "run: test"
  assert above.get_ylabel() and below.get_xlabel()


def test_axes_end_where_small_rates_do():
  rng = np.random.default_rng(1)
  p = rng.beta(1, 200, 5000)
  curve = reliability_curve(
    p, rng.random(5000) < p, num_bins=5, binning="equal_mass"
  )
  above, below = reliability_plot.reliability_figure(curve).axes
  assert 0.005 < above.get_ylim()[1] < 0.1
  assert above.get_ylim() == below.get_xlim()
  constant = reliability_curve(
    np.full(9, 0.2), np.arange(9) < 2, binning="equal_mass"
  )
  _, below = reliability_plot.reliability_figure(constant).axes
  assert [bar.get_width() > 0 for bar in below.patches] == [True]


def test_nothing_to_draw():
  curve = reliability_curve(np.zeros(0), np.zeros(0))
  above, _ = reliability_plot.reliability_figure(curve).axes
  assert legend_of(above)[1] == "ECE 0.0000"


def test_roc():
  rng = np.random.default_rng(2)
  label = rng.random(200) < 0.5
  one = roc_curve(rng.normal(size=200) + label, label)
  none = roc_curve(rng.normal(size=200), np.zeros(200))
  figure = reliability_plot.roc_figure(
    {"DeepFM": one, "LR": one, "broken": none}, aucs={"DeepFM": 0.98314}
  )
  (axes,) = figure.axes
  lines = axes.get_lines()
  np.testing.assert_array_equal(lines[1].get_xdata(), one.false_positive_rate)
  np.testing.assert_array_equal(lines[1].get_ydata(), one.true_positive_rate)
  assert legend_of(axes) == [
    "chance (AUC .5)",
    "DeepFM (AUC 0.9831)",
    "LR",
    "broken: undefined, one class only",
  ]
  colours = {line.get_color() for line in lines}
  assert len(colours) == 4


def test_files(curve, tmp_path):
  reliability_plot.plot_reliability(curve, tmp_path / "a/reliability.png")
  roc = roc_curve(np.arange(4.0), np.array([0, 1, 0, 1]))
  reliability_plot.plot_roc({"test": roc}, tmp_path / "a/roc.png")
  assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
    "reliability.png",
    "roc.png",
  ]
  for path in (tmp_path / "a").iterdir():
    assert path.read_bytes().startswith(PNG)
