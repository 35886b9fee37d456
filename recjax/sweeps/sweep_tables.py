"""What a sweep found, as tables of cells for any format."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

from recjax.metrics.names import better
from recjax.runs import labels
from recjax.runs.tables import Cell
from recjax.sweeps import effects as effects_lib
from recjax.sweeps.effects import BOTH, SEEDS, USERS, Effect
from recjax.sweeps.folder import OPEN
from recjax.sweeps.marginals import Interaction, Marginal
from recjax.sweeps.results import Combined, SweepResults
from recjax.sweeps.spec import SEARCHES

_ASKED = {
  BOTH: (
    "Over seeds and users, the tests (Fisher's fiducial) ask whether new"
    " trainings would differ for new users."
  ),
  SEEDS: (
    "Over seeds, the tests (Student's paired) ask whether new trainings would"
    " differ on these rows."
  ),
  USERS: (
    "Over users alone, with one seed, the tests (Student's paired) ask whether"
    " these very models differ for new users: two trainings of one config may"
    " well do. Such p-values are not corrected, and no finding."
  ),
}


@dataclasses.dataclass(frozen=True)
class Table:
  """A table with its words.

  Attributes:
    title: above it.
    header: of the columns.
    rows: the cells.
    note: below it.
  """

  title: str
  header: tuple[str, ...]
  rows: tuple[tuple[Cell, ...], ...]
  note: str = ""


def interval_of_seeds(values: np.ndarray) -> tuple[float, float] | None:
  """Student's 95% interval of the mean; None of fewer than two seeds."""
  if len(values) < 2:
    return None
  half = float(scipy.stats.t.ppf(0.975, len(values) - 1))
  half *= float(values.std(ddof=1)) / math.sqrt(len(values))
  mean = float(values.mean())
  return mean - half, mean + half


def _number(text: str, note: str = "", *, is_best: bool = False) -> Cell:
  return Cell(text, note, is_number=True, is_best=is_best)


def _span(ends: tuple[float, float] | None, sign: str = "") -> str:
  if ends is None or not all(map(math.isfinite, ends)):
    return "–"
  return f"[{ends[0]:{sign}.4f}, {ends[1]:{sign}.4f}]"


def _value(value: float) -> str:
  return "undefined" if math.isnan(value) else labels.number(value)


def _mean_cell(row: Combined, metric: str, *, is_best: bool = False) -> Cell:
  values = row.numbers(metric)
  note = _span(interval_of_seeds(values))
  if len(values) == 1:
    run = next(iter(row.runs.values()))
    ends = run.result["intervals"].get(metric)
    note = _span(None if ends is None else (ends[0], ends[1]))
  return _number(_value(row.mean(metric)), note, is_best=is_best)


def _best(values: Sequence[float], metric: str) -> int | None:
  """The place of the best value; None where there is none, or no better."""
  signed = better(metric) * np.array(values)
  if not better(metric) or np.isnan(signed).all():
    return None
  return int(np.nanargmax(signed))


EFFECT_HEADER = (
  "difference",
  "95% interval",
  "tested over",
  "p",
  "p (Holm)",
  "p (BH)",
  "effect size",
)


def effect_cells(effect: Effect | None, *, instead: str) -> list[Cell]:
  """The columns EFFECT_HEADER of one row.

  Args:
    effect: of the row.
    instead: what stands there where there is none.
  """
  if effect is None:
    return [_number(instead)] + [_number("–")] * (len(EFFECT_HEADER) - 1)
  return [
    _number(f"{effect.difference:+.4f}"),
    _number(_span(effect.interval, "+")),
    Cell(effect.over),
    _number(labels.p_value(effect.p_value)),
    _number(
      labels.p_value(effect.p_holm), is_best=effect.p_holm < effects_lib.ALPHA
    ),
    _number(labels.p_value(effect.p_bh)),
    _number(f"{effect.effect_size:+.2f}"),
  ]


def factor_table(results: SweepResults) -> Table:
  """A row for each combination, against the baseline."""
  owners: dict[tuple[str, ...], Combined] = {}
  for row in results.rows:
    owners.setdefault(row.keys, row)
  effects = effects_lib.corrected(
    [
      _effect(results, row) if owners[row.keys] is row else None
      for row in results.rows
    ]
  )
  metric = results.metric
  best = _best([row.mean(metric) for row in results.rows], metric)
  rows = []
  for place, (row, gain) in enumerate(zip(results.rows, effects)):
    instead = "reference" if row is results.base else "not tested"
    if owners[row.keys] is not row:
      instead = f"= {owners[row.keys].name}"
    rows.append(
      (
        Cell(row.name),
        _mean_cell(row, metric, is_best=place == best),
        *effect_cells(gain, instead=instead),
        _number(str(len(row.seeds))),
        _number(labels.duration(row.wall_secs())),
      )
    )
  label = labels.metric_label(metric)
  header = ("settings", label, *EFFECT_HEADER, "seeds", "time a run")
  return Table("Combinations", header, tuple(rows), _note(results, effects))


def _effect(results: SweepResults, row: Combined) -> Effect | None:
  """Against the baseline, by the seeds that both have."""
  base = results.base
  if base is None or row is base:
    return None
  seeds = tuple(seed for seed in row.seeds if seed in base.seeds)
  if not seeds:
    return None
  return effects_lib.effect(
    results.values(row, seeds), results.values(base, seeds)
  )


def _note(results: SweepResults, effects: Sequence[Effect | None]) -> str:
  text = (
    "Intervals of means are Student's over seeds (of one seed: the bootstrap"
    " over users)."
  )
  if results.base is None:
    return (
      f"{text} The baseline {results.baseline!r} has no run in the table, so"
      " nothing is tested."
    )
  tested = _tested_text(effects)
  if not tested:
    return (
      f"{text} Nothing was tested: a test needs two seeds in common with the"
      " baseline, or one and values of users; and something that differs."
    )
  return f"{text} Differences are from {results.baseline!r}. {tested}"


def _tested_text(effects: Sequence[Effect | None]) -> str:
  """What the tests of a table ask, of how many, and what they can see."""
  known = [each for each in effects if each is not None]
  if not known:
    return ""
  overs = {each.over for each in known}
  parts = ["Intervals of differences are not corrected."]
  if overs != {USERS}:
    parts = [
      "Intervals of differences are not corrected; p-values are, over the rows"
      " of the table, by Holm's rule and by Benjamini and Hochberg's."
    ]
  parts += [text for over, text in _ASKED.items() if over in overs]
  most = max(known, key=lambda each: each.num_seeds)
  users = f" and {most.num_users:,} users" if most.num_users > 1 else ""
  seeds = f"{most.num_seeds} seed{'' if most.num_seeds == 1 else 's'}"
  parts.append(f"There are {seeds}{users}.")
  left_out = max(each.num_left_out for each in known)
  if left_out:
    parts.append(
      f"Up to {left_out:,} users without a value are left out of a test."
    )
  seen = effects_lib.sees(effects)
  if seen is not None:
    num_apart = sum(e.over == most.over for e in known)
    num_apart -= len(effects_lib.alike(effects))
    but = ""
    if num_apart:
      rows = "row that varies" if num_apart == 1 else "rows that vary"
      but = f", without {num_apart} {rows} over ten times as much,"
    parts.append(
      f"By the mean of the rows' variances{but} a difference of {seen:.4f} is"
      " found with a power of 80%."
    )
  return " ".join(parts)


def by_validation(results: SweepResults, metric: str) -> list[Combined]:
  """The rows by a validation metric, the best first, undefined ones last."""
  sign = better(metric) or 1

  def place(row: Combined) -> tuple[bool, float]:
    value = row.validation(metric)
    return math.isnan(value), 0.0 if math.isnan(value) else -sign * value

  return sorted(results.rows, key=place)


def search_table(results: SweepResults) -> Table:
  """Combinations by their validation metric, the best first."""
  select = results.select
  ordered = by_validation(results, select)
  factors = list(results.rows[0].levels)
  rows = [
    (
      *(Cell(row.levels[name]) for name in factors),
      _number(
        _value(row.validation(select)),
        is_best=place == 0 and math.isfinite(row.validation(select)),
      ),
      _mean_cell(row, results.metric),
      _number(str(len(row.seeds))),
      _number(labels.duration(row.wall_secs())),
    )
    for place, row in enumerate(ordered)
  ]
  of_validation = f"validation {labels.metric_label(select)}"
  of_test = f"test {labels.metric_label(results.metric)}"
  header = (*factors, of_validation, of_test, "seeds", "time a run")
  note = (
    "The validation metric alone chooses. The test metric of the chosen row is"
    " a number; those of the other rows must choose nothing."
  )
  return Table("Trials by validation", header, tuple(rows), note)


def metrics_table(results: SweepResults) -> Table:
  """All test metrics of all combinations."""
  metrics = results.metrics
  rows = [
    (Cell(row.name), *(_mean_cell(row, metric) for metric in metrics))
    for row in results.rows
  ]
  header = ("settings", *map(labels.metric_label, metrics))
  note = (
    "Means with Student's 95% interval over seeds (of one seed: the bootstrap"
    " over users); none is tested here."
  )
  return Table("All test metrics", header, tuple(rows), note)


def marginal_table(results: SweepResults, found: Sequence[Marginal]) -> Table:
  """What each level of each factor does, whatever the others are."""
  rows, last = [], None
  for each in found:
    instead = "reference" if each.factor != last else "not tested"
    last = each.factor
    rows.append(
      (
        Cell(each.factor),
        Cell(each.level),
        _number(_value(each.mean)),
        *effect_cells(each.effect, instead=instead),
      )
    )
  note = (
    "Averaged over the levels of all other factors, against the first level of"
    f" the factor; {_seeds_text(results)}"
    f" {_tested_text([each.effect for each in found])}"
  )
  label = labels.metric_label(results.metric)
  header = ("factor", "level", label, *EFFECT_HEADER)
  return Table("Marginal effects", header, tuple(rows), note)


def interaction_table(
  results: SweepResults, found: Sequence[Interaction]
) -> Table:
  """Where the effect of one factor depends on another."""
  rows = tuple(
    (
      Cell(" x ".join(each.factors)),
      Cell(f"{a}, {b}"),
      *effect_cells(effect, instead="not tested"),
    )
    for each in found
    for (a, b), effect in each.contrasts.items()
  )
  effects = [e for each in found for e in each.contrasts.values()]
  note = (
    "How much more both levels do together than each alone, against the first"
    f" levels; {_seeds_text(results)} {_tested_text(effects)}"
  )
  return Table(
    "Interactions", ("factors", "levels", *EFFECT_HEADER), rows, note
  )


def _seeds_text(results: SweepResults) -> str:
  seeds = ", ".join(map(str, results.common_seeds))
  return f"of the seeds that all combinations have finished: {seeds}."


def missing_table(results: SweepResults) -> Table | None:
  """What is in no table; None where all is.

  Those that were not carried out yet are one row.
  """
  if not results.missing:
    return None
  waiting = [each for each in results.missing if each.state == OPEN]
  rows: list[tuple[Cell, ...]] = [
    (
      Cell(each.combination),
      _number("all" if each.seed is None else str(each.seed)),
      Cell(each.state),
      Cell(each.reason),
      Cell(each.key),
    )
    for each in results.missing
    if each.state != OPEN
  ]
  if waiting:
    num = f"{len(waiting)} trial{'' if len(waiting) == 1 else 's'}"
    cells = (num, "", OPEN, waiting[0].reason, "")
    rows.append(tuple(map(Cell, cells)))
  header = ("settings", "seed", "state", "why", "trial")
  return Table("Not in the tables", header, tuple(rows))


def is_search(results: SweepResults) -> bool:
  """Whether validation chooses among the combinations."""
  return results.sweep["shape"] in SEARCHES
