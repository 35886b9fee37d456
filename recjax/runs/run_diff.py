"""What two runs differ in, and how their test metrics differ.

What a run was is compared by name: settings, data, protocol, code, packages and
machine. Metrics are compared only where data and protocol are the same; else
what differs there is the answer.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from recjax.runs.collection import Run
from recjax.runs.slice_files import load_slices

_DATA = ("dataset", "data_fingerprint", "features_fingerprint")
_CODE = ("commit", "dirty")
_MACHINE = (
  "device",
  "num_devices",
  "num_processes",
  "operating_system",
)


@dataclasses.dataclass(frozen=True)
class Difference:
  """One thing that two runs have otherwise.

  Attributes:
    kind: "settings", "data", "protocol", "code", "packages" or "machine".
    name: of the thing.
    a: what one run has; None if it has no such thing.
    b: what the other has.
  """

  kind: str
  name: str
  a: Any
  b: Any


@dataclasses.dataclass(frozen=True)
class Change:
  """A test metric of both runs.

  Attributes:
    where: the slice, such as "user=new"; "" is all rows or users.
    metric: its name.
    a: of one run; None if it has no such metric.
    b: of the other.
    apart: whether the 95% intervals of the runs do not touch; None where one
      is unknown. Intervals that touch prove nothing: `recjax compare` tests.
  """

  where: str
  metric: str
  a: float | None
  b: float | None
  apart: bool | None = None

  @property
  def change(self) -> float | None:
    """What b has more than a; None if one has no such metric."""
    return None if self.a is None or self.b is None else self.b - self.a


@dataclasses.dataclass(frozen=True)
class RunDiff:
  """All that differs.

  Attributes:
    differences: in the order of their kinds.
    changes: of all metrics, first of all rows, then of slices; empty where
      data or protocol differ.
  """

  differences: tuple[Difference, ...]
  changes: tuple[Change, ...]

  @property
  def is_comparable(self) -> bool:
    """Whether data and protocol are the same."""
    names = {
      (each.kind, each.name)
      for each in self.differences
      if each.kind in ("data", "protocol")
    }
    return not names - {("data", "features_fingerprint")}


def diff_runs(
  a: Run, b: Run, settings: tuple[Mapping[str, str], Mapping[str, str]]
) -> RunDiff:
  """Compares two finished runs.

  Args:
    a: one run.
    b: the other.
    settings: the bindings of each, by name, as gin spells them.
  """
  both = lambda kind, one, two: _differing(kind, one, two)
  pick = lambda record, names: {
    name: record[name] for name in names if record.get(name) is not None
  }
  differences = [
    *both("settings", *settings),
    *both("data", pick(a.result, _DATA), pick(b.result, _DATA)),
    *both("protocol", a.result["protocol"], b.result["protocol"]),
    *both("code", pick(a.env, _CODE), pick(b.env, _CODE)),
    *both("packages", *(run.env.get("versions") or {} for run in (a, b))),
    *both("machine", pick(a.env, _MACHINE), pick(b.env, _MACHINE)),
  ]
  found = RunDiff(tuple(differences), ())
  if not found.is_comparable:
    return found
  changes = _changes("", a.result, b.result)
  tables = [_slices(run) for run in (a, b)]
  for feature in {**tables[0], **tables[1]}:
    rows = [_by_value(table.get(feature)) for table in tables]
    for value in {**rows[0], **rows[1]}:
      one, two = (side.get(value, {}) for side in rows)
      changes += _changes(f"{feature}={value}", one, two)
  return dataclasses.replace(found, changes=tuple(changes))


def _differing(
  kind: str, a: Mapping[str, Any], b: Mapping[str, Any]
) -> list[Difference]:
  return [
    Difference(kind, name, a.get(name), b.get(name))
    for name in {**a, **b}
    if a.get(name) != b.get(name)
  ]


def _slices(run: Run) -> dict[str, Any]:
  """Rows of slices by what they slice: in the result, or beside it."""
  return (run.result.get("slices") or {}) | load_slices(run.workdir)


def _by_value(rows: Any) -> dict[str, dict[str, Any]]:
  """The records of slices by the value, or the span, that they share."""
  return {str(row.get("value", row.get("slice"))): row for row in rows or ()}


def _changes(
  where: str, a: Mapping[str, Any], b: Mapping[str, Any]
) -> list[Change]:
  metrics = [side.get("metrics") or {} for side in (a, b)]
  intervals = [side.get("intervals") or {} for side in (a, b)]
  found = []
  for name in {**metrics[0], **metrics[1]}:
    of_a, of_b = (side.get(name) for side in intervals)
    apart = None
    if of_a and of_b and None not in (*of_a, *of_b):
      apart = of_a[1] < of_b[0] or of_b[1] < of_a[0]
    one, two = (side.get(name) for side in metrics)
    found.append(Change(where, name, one, two, apart))
  return found
