"""`recjax ab`: the analysis of an A/B test from a table of its units."""

import math
from collections.abc import Sequence
from typing import Any

from absl import flags

from recjax.ab_report import AbReport
from recjax.command_flags import (
  check_outs,
  parse,
  refuse_bindings,
  required,
)
from recjax.data.ab_units import read_units
from recjax.errors import ConfigError, check_choice
from recjax.evaluation.ab_looks import over_time
from recjax.evaluation.ab_test import effects
from recjax.evaluation.ab_values import Measured
from recjax.evaluation.sample_ratio import sample_ratio

_SUFFIXES = (".json", ".md", ".png")


def ab(arguments: Sequence[str]) -> None:
  """Compares the arms of an A/B test: sizes, metrics, and looks on the way."""
  values, names, bindings = parse("ab", arguments, _flags)
  refuse_bindings("ab", bindings, "reads no gin")
  if len(names) != 1:
    raise ConfigError(
      "recjax ab needs one table, in Parquet or CSV; got"
      f" {len(names)}. See docs/statistics.md."
    )
  check_outs(values["out"], _SUFFIXES)
  if not values["order"] and (values["planned_units"] or values["looks"]):
    raise ConfigError("recjax ab: looks are taken in the order of --order.")
  if not values["metric"]:
    raise ConfigError("recjax ab needs --metric, such as --metric=clicks.")
  report = _analyse(names[0], values)
  report.print()
  for out in values["out"]:
    report.write(out)
    print(out)


def _flags(values: flags.FlagValues) -> None:
  for name, help_text in (
    ("arm", "The column of arms."),
    ("control", "The arm that the others are compared with."),
    ("unit", "The column of what was dealt to arms, such as users: the rows of"
     " a unit are summed. By default each row is a unit."),
    ("order", "The column of when a unit came: looks on the way are told, with"
     " intervals that hold at all of them."),
  ):  # fmt: skip
    flags.DEFINE_string(name, "", help_text, flag_values=values)
  for name, help_text in (
    ("metric", "A column, of which means are compared, or a ratio of two, such"
     " as clicks/impressions; may be repeated."),
    ("before", "A column of what was known of a unit before the test, for"
     " CUPED; may be repeated."),
    ("share", "The planned share of an arm, such as A=9; may be repeated. Equal"
     " by default."),
    ("out", "A file of what was found, .json, .md or .png; may be repeated."),
  ):  # fmt: skip
    flags.DEFINE_multi_string(name, [], help_text, flag_values=values)
  flags.DEFINE_float(
    "alpha", 0.05, "Intervals are of the level 1 - alpha.", flag_values=values
  )
  flags.DEFINE_integer(
    "looks", None, "Looks on the way, with --order; 20 by default.",
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_integer(
    "planned_units", 0, "Units of the control and an arm at the planned end,"
    " where the intervals over time are narrowest; those there are by default.",
    flag_values=values,
  )  # fmt: skip


def _analyse(path: str, values: dict[str, Any]) -> AbReport:
  metrics = list(dict.fromkeys(values["metric"]))
  before = list(dict.fromkeys(values["before"]))
  units = read_units(
    path,
    metrics,
    arm=required(values, "arm", "ab"),
    control=required(values, "control", "ab"),
    before=before,
    unit=values["unit"],
    order=values["order"],
  )
  known = units.before if before else None
  measured = [Measured(name, *units.metrics[name], known) for name in metrics]
  seen = []
  if units.order is not None:
    seen = over_time(
      measured,
      units.arm,
      units.order,
      num_looks=20 if values["looks"] is None else values["looks"],
      planned_units=values["planned_units"],
      alpha=values["alpha"],
    )
  return AbReport(
    path,
    units.arms,
    tuple(units.counts.tolist()),
    sample_ratio(units.counts, _shares(values["share"], units.arms)),
    tuple(effects(measured, units.arm, alpha=values["alpha"])),
    tuple(seen),
    values["alpha"],
  )


def _shares(
  texts: Sequence[str], arms: Sequence[str]
) -> tuple[float, ...] | None:
  """The planned share of each arm; None where they are equal."""
  found = {}
  for text in texts:
    name, _, number = text.rpartition("=")
    check_choice("the arm of --share, given as ARM=NUMBER,", name, arms)
    try:
      found[name] = float(number)
    except ValueError:
      found[name] = math.nan
    if not 0 < found[name] < math.inf:
      raise ConfigError(
        f"--share must be ARM=NUMBER with a positive number; got {text!r}."
      )
  if found and len(found) < len(arms):
    missing = [name for name in arms if name not in found]
    raise ConfigError(
      f"--share must tell all arms, or none; {missing[0]!r} is missing."
    )
  return tuple(found[name] for name in arms) if found else None
