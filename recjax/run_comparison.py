"""Which of several groups of runs differ: over seeds, over rows, over users.

Each answers another question. Over seeds: would a training with other random
numbers differ? Over rows and over users: would these very models differ on
other rows, or other users? Over seeds and users: would new trainings differ for
new users? Where both sides have several seeds in common, rows
and users see the mean of the seeds' values, never an ensemble of their scores.
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float

from recjax import progress
from recjax.errors import DataError, RunError, check_choice
from recjax.evaluation.crossed_design import CrossedTest, smallest_difference
from recjax.evaluation.delong import delong_test
from recjax.evaluation.paired_users import (
  UserComparison,
  compare_users,
  compare_values,
)
from recjax.evaluation.significance import compare, holm
from recjax.runs.collection import Group, Run
from recjax.runs.comparable import (
  check_comparable,
  group_names,
  shared_metrics,
)
from recjax.runs.predictions import Predictions, load_predictions
from recjax.runs.record import RunRecord

OVERS = ("seeds", "rows", "users (t)", "users (Wilcoxon)", "seeds and users")
_USERS = "users"  # Where there is no test, once for both.


@dataclasses.dataclass(frozen=True)
class Finding:
  """What one test says of one pair and metric.

  Attributes:
    a: name of one group.
    b: of the other.
    metric: such as "auc/click".
    over: one of OVERS: Student's paired test over seeds, DeLong's over rows,
      two paired tests over users, and one over both from two seeds on;
      "users" where there is none.
    num: how many seeds, rows or users; 0 where there is no test.
    mean_a: the metric of one group.
    mean_b: of the other.
    difference: mean_a - mean_b; None where there is no test.
    interval: its 95% interval: Student's over seeds, DeLong's over rows, the
      bootstrap over users, and that of `crossed_test` over both.
    p_value: two-sided; None where there is no test.
    p_holm: corrected for all tests of the kind; see `significance.holm`.
    note: what is left out, or why there is no test.
  """

  a: str
  b: str
  metric: str
  over: str
  num: int = 0
  mean_a: float | None = None
  mean_b: float | None = None
  difference: float | None = None
  interval: tuple[float, float] | None = None
  p_value: float | None = None
  p_holm: float | None = None
  note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class RunComparison:
  """Compares groups of runs, each with each.

  Attributes:
    groups: two at least, of the same data and protocol.
    user: the column that tells users; "" takes the one that the metric names,
      or the first of the protocol.
    notes: sentences on what could not be tested; filled by `find`.
  """

  groups: Sequence[Group]
  user: str = ""
  notes: list[str] = dataclasses.field(default_factory=list)
  _read: dict[pathlib.Path, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if len(self.groups) < 2:
      names = ", ".join(group_names(self.groups)) or "no finished run"
      raise RunError(
        "a comparison needs runs of two configs that differ in more than the"
        f" seed; got {names}."
      )
    check_comparable(self.groups)

  def find(self, metrics: Sequence[str]) -> list[Finding]:
    """All tests of all pairs, corrected.

    Args:
      metrics: of `shared_metrics`.

    Raises:
      ConfigError: a metric that not all runs have.
      DataError: runs of the same data hold other test rows.
    """
    for metric in metrics:
      known = shared_metrics(self.groups)
      check_choice("--metric, which all runs have,", metric, known)
    named = list(zip(group_names(self.groups), self.groups))
    pairs = list(itertools.combinations(named, 2))
    findings: list[Finding] = []
    total = len(pairs) * len(metrics)
    with progress.progress_bar("comparing", total, unit="pairs") as bar:
      for ((a, first), (b, second)), metric in itertools.product(
        pairs, metrics
      ):
        blank = Finding(a, b, metric, "")
        findings += self._pair(blank, first, second)
        bar.advance()
    return _corrected(findings)

  def _pair(self, blank: Finding, a: Group, b: Group) -> list[Finding]:
    over_seeds, over_rows, over_users = (
      dataclasses.replace(blank, over=over) for over in (*OVERS[:2], _USERS)
    )
    pairs = _by_seed(a, b)
    if not pairs:
      note = f"no seed in common: {a.seeds} and {b.seeds}"
      return [
        dataclasses.replace(finding, note=note)
        for finding in (over_seeds, over_rows, over_users)
      ]
    found = [_over_seeds(over_seeds, pairs, a, b)]
    for blank, test in (
      (over_rows, self._over_rows),
      (over_users, self._over_users),
    ):
      try:
        found += test(blank, pairs)
      except _NoTestError as error:
        found.append(dataclasses.replace(blank, note=str(error)))
      except RunError as error:  # A run lacks what is needed.
        if str(error) not in self.notes:
          self.notes.append(str(error))
        found.append(dataclasses.replace(blank, note="see the notes"))
    return found

  # -- Rows and users ---------------------------------------------------------

  def _over_rows(
    self, finding: Finding, pairs: list[tuple[Run, Run]]
  ) -> list[Finding]:
    metric, _, task = finding.metric.partition("/")
    if metric != "auc":
      raise _NoTestError("DeLong's test is for the AUC")
    a, b = self._scores(pairs, task)
    known = self._predictions(pairs[0][0])
    if known.tasks[task].kind != "binary":
      raise _NoTestError("the labels are not 0 and 1")
    label, weight = known.tasks[task].label, self._weight(pairs[0][0])
    found = delong_test(a, b, label, weight)
    if math.isnan(found.p_value):
      raise _NoTestError("undefined: fewer than two rows of a class")
    return [
      dataclasses.replace(
        finding,
        num=found.num_rows,
        mean_a=found.auc_a,
        mean_b=found.auc_b,
        difference=found.difference,
        interval=found.interval,
        p_value=found.p_value,
        note=_seeds_note(pairs),
      )
    ]

  def _over_users(
    self, blank: Finding, pairs: list[tuple[Run, Run]]
  ) -> list[Finding]:
    kept = self._values_of_users(blank.metric, pairs)
    if kept is None:
      kept = self._aucs_of_users(blank.metric, pairs)
    note = _seeds_note(pairs)
    if kept.num_left_out:
      note += f"; {kept.num_left_out:,} users without a value left out"
    tests = [
      dataclasses.replace(
        blank,
        over=over,
        num=kept.t.num_users,
        mean_a=kept.mean_a,
        mean_b=kept.mean_b,
        difference=test.difference,
        interval=test.interval,
        p_value=test.p_value,
        note=note,
      )
      for over, test in zip(
        OVERS[2:], (kept.t, kept.wilcoxon, kept.crossed), strict=True
      )
      if test is not None
    ]
    if kept.crossed is not None:
      tests[-1] = dataclasses.replace(
        tests[-1], note=_design_note(kept.crossed, len(pairs), tests[-1].num)
      )
    return tests

  def _values_of_users(
    self, metric: str, pairs: list[tuple[Run, Run]]
  ) -> UserComparison | None:
    """By the values of each user that runs of ranked lists keep.

    Users for whom a metric of lists is undefined in any run are left out.
    """
    runs = [run for pair in pairs for run in pair]
    path = pathlib.Path("per_user") / "test.npz"
    if not any((run.workdir / path).exists() for run in runs):
      return None
    tables = [self._per_user(run) for run in runs]
    for run, table in zip(runs, tables):
      if metric not in table:
        raise _NoTestError("no values of users")
      if not np.array_equal(table["user_id"], tables[0]["user_id"]):
        raise DataError(_other_rows(runs[0], run, "users"))
    values = np.stack([table[metric] for table in tables])
    known = ~np.isnan(values).any(axis=0)
    if not known.any():
      raise _NoTestError("no user has a value")
    values = values[:, known]
    return compare_values(values[0::2], values[1::2], int((~known).sum()))

  def _aucs_of_users(
    self, metric: str, pairs: list[tuple[Run, Run]]
  ) -> UserComparison:
    metric, _, task = metric.partition("/")
    metric, _, column = metric.partition("@")
    if metric not in ("auc", "gauc"):
      raise _NoTestError("users are compared by AUC")
    first = pairs[0][0]
    a, b = self._scores(pairs, task)
    known = self._predictions(first)
    column = self.user or column or next(iter(known.groups), "")
    if not column:
      raise _NoTestError("the protocol names no column of users")
    check_choice("--user, a column of groups,", column, known.groups)
    if known.tasks[task].kind != "binary":
      raise _NoTestError("the labels are not 0 and 1")
    user, label = known.groups[column].codes, known.tasks[task].label
    try:
      return compare_users(a, b, label, user, self._weight(first))
    except DataError as error:
      raise _NoTestError(str(error)) from error

  def _scores(
    self, pairs: list[tuple[Run, Run]], task: str
  ) -> tuple[Float[np.ndarray, "seed row"], Float[np.ndarray, "seed row"]]:
    """Of each side, a row of scores a seed; all of the same rows."""
    first = pairs[0][0]
    known = self._predictions(first)
    if task not in known.tasks:
      raise _NoTestError("no scores of rows are kept of it")
    label = known.tasks[task].label
    sides: tuple[list, list] = ([], [])
    for pair in pairs:
      for side, run in zip(sides, pair):
        of_task = self._predictions(run).tasks.get(task)
        if of_task is None or not np.array_equal(
          of_task.label, label, equal_nan=True
        ):
          raise DataError(_other_rows(first, run, "test rows"))
        side.append(of_task.score)
    return np.stack(sides[0]), np.stack(sides[1])

  def _weight(self, run: Run) -> Float[np.ndarray, " row"] | None:
    ignored = run.result["protocol"].get("weights") == "none"
    return None if ignored else self._predictions(run).weight

  def _predictions(self, run: Run) -> Predictions:
    if run.workdir not in self._read:
      names = ("test", f"test-{run.result['protocol_hash']}")
      found = load_predictions(run.workdir, names)
      if found.data_fingerprint != run.result["data_fingerprint"]:
        raise RunError(
          f"{run.workdir}: its predictions are of other data than its result:"
          f" {found.data_fingerprint[:12]} and"
          f" {run.result['data_fingerprint'][:12]}. `recjax evaluate"
          f" --workdir={run.workdir}` tells what the data give today."
        )
      self._read[run.workdir] = found
    return self._read[run.workdir]

  def _per_user(self, run: Run) -> dict[str, np.ndarray]:
    key = run.workdir / "per_user"
    if key not in self._read:
      self._read[key] = RunRecord(run.workdir).load_per_user("test")
    return self._read[key]


class _NoTestError(Exception):
  """There is no such test of this metric, and why."""


def _other_rows(a: Run, b: Run, what: str) -> str:
  return (
    f"{a.workdir} and {b.workdir} hold other {what}, though their data have the"
    " same fingerprint: `recjax evaluate --workdir` writes them anew."
  )


def _by_seed(a: Group, b: Group) -> list[tuple[Run, Run]]:
  """The runs of the seeds that both have."""
  of_a, of_b = (
    {run.result["seed"]: run for run in group.runs} for group in (a, b)
  )
  return [(of_a[seed], of_b[seed]) for seed in of_a if seed in of_b]


def _seeds_note(pairs: list[tuple[Run, Run]]) -> str:
  return "one seed" if len(pairs) == 1 else f"mean of {len(pairs)} seeds"


def _design_note(test: CrossedTest, num_seeds: int, num_users: int) -> str:
  seen = smallest_difference(test.components, num_seeds, num_users)
  return (
    f"{num_seeds} seeds; sees {seen:.2g} with a power of 80%; effect size"
    f" {test.effect_size:.2g}"
  )


def _over_seeds(
  finding: Finding, pairs: list[tuple[Run, Run]], a: Group, b: Group
) -> Finding:
  values = np.array(
    [[run.result["metrics"][finding.metric] for run in pair] for pair in pairs],
    np.float64,  # None, for NaN in JSON, is NaN again.
  )
  if np.isnan(values).any():
    return dataclasses.replace(finding, note="undefined for some seed")
  gains = values[:, 0] - values[:, 1]
  left_out = len(a.runs) + len(b.runs) - 2 * len(pairs)
  note = f"{left_out} runs of other seeds left out" if left_out else ""
  finding = dataclasses.replace(
    finding,
    num=len(pairs),
    mean_a=float(values[:, 0].mean()),
    mean_b=float(values[:, 1].mean()),
    difference=float(gains.mean()),
    note=note,
  )
  if len(pairs) == 1:
    note = "; ".join(part for part in ("one seed", note) if part)
    return dataclasses.replace(finding, note=note)
  test = compare(values[:, 0], values[:, 1], test="t")
  half = scipy.stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1)
  half = float(half) / math.sqrt(len(gains))
  mean = float(gains.mean())
  return dataclasses.replace(
    finding, interval=(mean - half, mean + half), p_value=test.p_value
  )


def _corrected(findings: list[Finding]) -> list[Finding]:
  """With Holm's correction inside each kind of test."""
  found = list(findings)
  for over in OVERS:
    places = [
      place
      for place, finding in enumerate(found)
      if finding.over == over and finding.p_value is not None
    ]
    p_values = np.array([found[place].p_value for place in places], np.float64)
    for place, p in zip(places, holm(p_values)):
      found[place] = dataclasses.replace(found[place], p_holm=float(p))
  return found
