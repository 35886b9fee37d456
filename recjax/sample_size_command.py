"""`recjax sample_size`: how many units an A/B test needs, or what it sees."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table
from absl import flags
from rich import console

from recjax import files
from recjax.command_flags import check_outs, parse
from recjax.data.ab_units import read_units
from recjax.errors import ConfigError, check_range
from recjax.evaluation import sample_size as sizes
from recjax.evaluation.ratio_metrics import linearized
from recjax.runs.record import plain

_AROUND = (0.5, 0.75, 1.0, 1.5, 2.0)


@dataclasses.dataclass(frozen=True)
class _Metric:
  """What is known of a metric before the test.

  Attributes:
    mean: of the control; NaN where it is not told.
    stddev: of the values of units within an arm; None of a rate.
    unexplained: the share of the variance that CUPED leaves.
  """

  mean: float
  stddev: float | None
  unexplained: float

  def allows(self, effect: float) -> bool:
    """Whether a rate and this difference make a rate."""
    return self.stddev is not None or 0 <= self.mean + effect <= 1

  def num(self, effect: float, **options: float) -> int:
    """Units of the control that find a difference."""
    if self.stddev is not None:
      stddev = self.stddev * math.sqrt(self.unexplained)
      return sizes.sample_size_of_means(effect, stddev, **options)
    num = sizes.sample_size_of_rates(self.mean, self.mean + effect, **options)
    return math.ceil(num * self.unexplained)

  def smallest(self, num: int, **options: float) -> float:
    """The difference that so many units of the control find."""
    if self.stddev is not None:
      stddev = self.stddev * math.sqrt(self.unexplained)
      return sizes.smallest_difference_of_means(num, stddev, **options)
    num = math.floor(num / self.unexplained)
    return sizes.smallest_difference_of_rates(num, self.mean, **options)


def sample_size(arguments: Sequence[str]) -> None:
  """Tells the units that find an effect, or the effect that units find."""
  values, names, bindings = parse("sample_size", arguments, _flags)
  for text in (*names, *(f"--gin.{binding}" for binding in bindings)):
    raise ConfigError(
      f"recjax sample_size takes flags alone; got {text!r}. See `recjax"
      " sample_size --help`."
    )
  if values["out"]:
    check_outs([values["out"]], (".json",))
  metric = _metric(values)
  check_range("--tests", values["tests"], 1)
  check_range("--alpha", values["alpha"], 1e-12, 1 - 1e-12)
  options = {
    "ratio": values["ratio"],
    "alpha": values["alpha"] / values["tests"],
    "power": values["power"],
  }
  if values["units"] is not None:
    _only_one(values, ("units", "effect", "lift"))
    effects = [metric.smallest(values["units"], **options)]
  else:
    asked = _effect(values, metric)
    metric.num(asked, **options)  # Says if it can not be.
    effects = [
      asked * scale for scale in _AROUND if metric.allows(asked * scale)
    ]
  rows = [_row(metric, effect, values["units"], options) for effect in effects]
  _print(rows, values, options)
  if values["out"]:
    found = {"mean": metric.mean, "stddev": metric.stddev, **options}
    found |= {"rows": rows}
    files.write_json_atomically(values["out"], plain(found))
    print(values["out"])


def _flags(values: flags.FlagValues) -> None:
  for name, help_text in (
    ("rate", "A rate of the control, such as a conversion of .05 a user."),
    ("mean", "Or a mean of the control."),
    ("stddev", "With a mean, or with --effect alone: of the values of units."),
    ("effect", "The difference that shall be found."),
    ("lift", "Or the same as a share of the rate or mean: .02 is 2%."),
  ):
    flags.DEFINE_float(name, None, help_text, flag_values=values)
  for name, default, help_text in (
    ("ratio", 1.0, "Units of the other arm for each of the control."),
    ("alpha", 0.05, "The rate of false alarms."),
    ("power", 0.8, "The chance to find the difference."),
    ("reduction", 0.0, "The share of the variance that CUPED takes off."),
  ):
    flags.DEFINE_float(name, default, help_text, flag_values=values)
  flags.DEFINE_integer(
    "units", None, "Units of the control: tells the smallest difference that"
    " they find.", flag_values=values,
  )  # fmt: skip
  flags.DEFINE_integer(
    "tests", 1, "How many metrics and arms will be tested at once.",
    flag_values=values,
  )  # fmt: skip
  for name, help_text in (
    ("pilot", "A table of past units, Parquet or CSV, that tells mean and"
     " standard deviation of --metric."),
    ("metric", "Of the pilot: a column, or a ratio, clicks/impressions say."),
    ("unit", "Of the pilot: the column of units, whose rows are summed."),
    ("out", "A .json file of what is printed."),
  ):  # fmt: skip
    flags.DEFINE_string(name, "", help_text, flag_values=values)


def _only_one(values: dict[str, Any], names: Sequence[str]) -> None:
  given = [name for name in names if values[name] not in (None, "")]
  if len(given) != 1:
    which = " and ".join(f"--{name}" for name in given) or "none"
    raise ConfigError(
      "recjax sample_size needs one of"
      f" {', '.join(f'--{name}' for name in names)}; got {which}."
    )


def _metric(values: dict[str, Any]) -> _Metric:
  check_range("--reduction", values["reduction"], 0.0, 1 - 1e-9)
  unexplained = 1 - values["reduction"]
  if values["pilot"]:
    _only_one(values, ("pilot", "rate", "mean", "stddev"))
    if not values["metric"]:
      raise ConfigError("recjax sample_size: --pilot needs --metric.")
    name = values["metric"]
    units = read_units(values["pilot"], [name], unit=values["unit"])
    found, per = units.metrics[name]
    found = found if per is None else linearized(found, per)
    if len(found) < 2:
      raise ConfigError("recjax sample_size: --pilot needs two units or more.")
    return _Metric(float(found.mean()), float(found.std(ddof=1)), unexplained)
  for name in ("metric", "unit"):
    if values[name]:
      raise ConfigError(f"recjax sample_size: --{name} is one of a --pilot.")
  _only_one(values, ("rate", "stddev"))
  if values["rate"] is not None:
    _only_one(values, ("rate", "mean"))
    check_range("--rate", values["rate"], 1e-12, 1 - 1e-12)
    return _Metric(values["rate"], None, unexplained)
  mean = math.nan if values["mean"] is None else values["mean"]
  return _Metric(mean, values["stddev"], unexplained)


def _effect(values: dict[str, Any], metric: _Metric) -> float:
  _only_one(values, ("effect", "lift", "units"))
  if values["effect"] is not None:
    return values["effect"]
  if not metric.mean > 0:
    raise ConfigError(
      "recjax sample_size: --lift is a share of a positive --rate or --mean;"
      f" got a mean of {metric.mean}. Give --mean, or --effect."
    )
  return values["lift"] * metric.mean


def _row(
  metric: _Metric, effect: float, units: int | None, options: dict[str, float]
) -> dict[str, float | int]:
  num = metric.num(effect, **options) if units is None else units
  other = math.ceil(num * options["ratio"])
  return {
    "effect": effect,
    "lift": effect / metric.mean if metric.mean > 0 else math.nan,
    "control": num,
    "treatment": other,
    "all": num + other,
  }


def _print(
  rows: Sequence[dict[str, Any]],
  values: dict[str, Any],
  options: dict[str, float],
) -> None:
  out = console.Console()
  shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
  for name in ("difference", "lift", "control", "other arm", "both"):
    shown.add_column(name, justify="right")
  for row in rows:
    lift = "–" if math.isnan(row["lift"]) else f"{row['lift']:+.2%}"
    nums = (f"{row[name]:,}" for name in ("control", "treatment", "all"))
    shown.add_row(f"{row['effect']:+.4g}", lift, *nums)
  out.print(shown)
  alpha = f"alpha {options['alpha']:.3g}"
  if values["tests"] > 1:
    alpha += f" ({values['alpha']:g} over {values['tests']} tests)"
  power = f"a power of {100 * options['power']:g}%"
  out.print(
    f"Units that find the difference with {power}, two-sided, {alpha}.",
    markup=False,
    soft_wrap=True,
  )
