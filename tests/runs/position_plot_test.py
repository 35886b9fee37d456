"""What the plot draws, read back from the figure."""

import numpy as np

from recjax.runs.position_plot import (
  FoundCurve,
  plot_propensities,
  propensity_figure,
)

VALUES, STDERR = np.array([1.0, 0.6, 0.3]), np.array([0.0, 0.1, 0.05])
TRUTH = np.array([1.0, 0.5, 1 / 3])


def test_the_curve_with_its_intervals_and_the_truth(tmp_path):
  found = FoundCurve(VALUES, STDERR, TRUTH, "swap intervention")
  (axis,) = propensity_figure(found).axes
  lines = {line.get_label(): line for line in axis.lines}
  np.testing.assert_array_equal(lines["planted"].get_ydata(), TRUTH)
  (container,) = axis.containers
  np.testing.assert_array_equal(container.lines[0].get_xydata()[:, 1], VALUES)
  (bars,) = container.lines[2]
  ends = np.array([segment[:, 1] for segment in bars.get_segments()])
  expected = np.stack([VALUES - 1.96 * STDERR, VALUES + 1.96 * STDERR], 1)
  np.testing.assert_allclose(ends, expected, atol=1e-4)
  texts = [text.get_text() for text in axis.get_legend().get_texts()]
  assert texts == ["planted", "swap intervention"]
  path = tmp_path / "propensities.png"
  plot_propensities(found, path)
  assert path.read_bytes().startswith(b"\x89PNG")
  told = found.to_dict()
  assert told["values"] == [1.0, 0.6, 0.3] and told["stderr"] == [0, 0.1, 0.05]
  np.testing.assert_allclose(
    told["mean_absolute_error"], (0.1 + 1 / 3 - 0.3) / 3
  )


def test_what_is_not_known_is_not_drawn():
  found = FoundCurve(VALUES, None, None, "regression EM")
  (axis,) = propensity_figure(found).axes
  assert len(axis.lines) == 1 and axis.containers[0].lines[2] == ()
  told = found.to_dict()
  assert told["truth"] is None and told["mean_absolute_error"] is None
