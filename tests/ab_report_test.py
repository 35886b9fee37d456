"""The report of an A/B test: narrow and wide terminals, rows, curves."""

import io

import numpy as np
import pytest
import rich.console

from recjax.ab_report import AbReport
from recjax.evaluation.ab_looks import over_time
from recjax.evaluation.ab_test import effects
from recjax.evaluation.ab_values import Measured
from recjax.evaluation.sample_ratio import sample_ratio


@pytest.fixture(scope="module")
def report():
  random = np.random.default_rng(0)
  arm = random.integers(0, 3, 3000)
  known = random.normal(size=(3000, 1))
  metrics = [
    Measured(
      "revenue in euros", 5 + random.normal(size=3000) + arm, None, known
    ),
    Measured("x", 1e-7 * random.normal(size=3000)),
  ]
  counts = np.bincount(arm)
  return AbReport(
    "units.csv",
    ("control", "blue", "red"),
    tuple(counts.tolist()),
    sample_ratio(counts),
    tuple(effects(metrics, arm, alpha=0.1)),
    tuple(over_time(metrics, arm, np.arange(3000), alpha=0.1)),
    0.1,
  )


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_number_is_cut_short(report, width):
  out = io.StringIO()
  report.print(
    rich.console.Console(
      file=out, width=width, force_terminal=True, color_system=None
    )
  )
  text = out.getvalue()
  assert "…" not in text and "Intervals are of 90%" in text
  assert ("sees  CUPED" in text) == (width >= 120)


def test_small_numbers_keep_their_digits(report):
  row = report.effects[2]
  assert row.metric == "x" and 0 < row.smallest < 1e-7
  out = io.StringIO()
  report.print(rich.console.Console(file=out, width=200))
  assert f"{row.smallest:.4g}" in out.getvalue()


def test_the_picture_has_the_rows_and_their_looks(report):
  first, *others = report.figure().axes
  ticks = [text.get_text() for text in first.get_yticklabels()]
  assert ticks == [
    "revenue in euros: blue", "revenue in euros: red", "x: blue", "x: red"
  ]  # fmt: skip
  assert len(others) == 4
  for axis, each in zip(others, report.seen):
    line = axis.get_lines()[0]
    np.testing.assert_array_equal(line.get_xdata(), each.num_units)
    np.testing.assert_array_equal(line.get_ydata(), each.looks.difference)
