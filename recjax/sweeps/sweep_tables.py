"""What a sweep found, as tables of cells for any format."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

from recjax.runs import labels
from recjax.runs.tables import Cell
from recjax.sweeps.effects import (
  BOTH,
  SEEDS,
  USERS,
  Effect,
  corrected,
  effect,
)
from recjax.sweeps.folder import OPEN
from recjax.sweeps.marginals import Interaction, Marginal
from recjax.sweeps.results import Combined, SweepResults
from recjax.sweeps.spec import SEARCHES
from recjax.train.loop import LESS_IS_BETTER

_ASKED = {
  BOTH: (
    "Tests are over seeds and users at once (crossed random effects): they ask"
    " whether new trainings would differ for new users."
  ),
  SEEDS: (
    "Tests are over seeds (Student's paired): they ask whether new trainings"
    " would differ on these rows."
  ),
  USERS: (
    "Tests are over users (Student's paired, of the mean over seeds): they ask"
    " whether these trained models would differ for new users, and say nothing"
    " of other seeds."
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


def less_is_better(metric: str) -> bool:
  """Whether a smaller value is better."""
  return metric.partition("/")[0] in LESS_IS_BETTER


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


def _p(value: float) -> str:
  if math.isnan(value):
    return "–"
  return "<.0001" if value < 1e-4 else f"{value:.2g}"


def _mean_cell(row: Combined, metric: str, *, is_best: bool = False) -> Cell:
  values = row.numbers(metric)
  note = _span(interval_of_seeds(values))
  if len(values) == 1:
    run = next(iter(row.runs.values()))
    ends = run.result["intervals"].get(metric)
    note = _span(None if ends is None else (ends[0], ends[1]))
  return _number(labels.number(float(values.mean())), note, is_best=is_best)


EFFECT_HEADER = (
  "difference",
  "95% interval",
  "p",
  "p (Holm)",
  "p (BH)",
  "effect size",
  "design sees",
)


def effect_cells(effect: Effect | None, *, is_reference: bool) -> list[Cell]:
  """The columns EFFECT_HEADER of one row."""
  if effect is None:
    text = "reference" if is_reference else "not tested"
    return [Cell(text, is_number=True)] + [_number("–")] * 6
  return [
    _number(f"{effect.difference:+.4f}"),
    _number(_span(effect.interval, "+")),
    _number(_p(effect.p_value)),
    _number(_p(effect.p_holm), is_best=effect.p_holm < 0.05),
    _number(_p(effect.p_bh)),
    _number(f"{effect.effect_size:+.2f}"),
    _number(f"{effect.sees:.4f}"),
  ]


def factor_table(results: SweepResults) -> Table:
  """A row for each combination, against the first."""
  effects = corrected([_effect(results, row) for row in results.rows])
  means = [row.numbers(results.metric).mean() for row in results.rows]
  choose = np.nanargmin if less_is_better(results.metric) else np.nanargmax
  best = int(choose(means))
  label = labels.metric_label(results.metric)
  rows = []
  for place, (row, gain) in enumerate(zip(results.rows, effects)):
    rows.append(
      (
        Cell(row.name),
        _mean_cell(row, results.metric, is_best=place == best),
        *effect_cells(gain, is_reference=place == 0),
        _number(str(len(row.seeds))),
        _number(labels.duration(row.wall_secs())),
      )
    )
  header = ("settings", label, *EFFECT_HEADER, "seeds", "time a run")
  return Table("Combinations", header, tuple(rows), _note(results, effects))


def _effect(results: SweepResults, row: Combined) -> Effect | None:
  """Against the first row, by the seeds that both have."""
  first = results.rows[0]
  seeds = tuple(seed for seed in row.seeds if seed in first.seeds)
  if row is first or not seeds:
    return None
  return effect(results.values(row, seeds), results.values(first, seeds))


def _note(results: SweepResults, effects: Sequence[Effect | None]) -> str:
  known = [each for each in effects if each is not None]
  text = (
    f"Differences are from {results.rows[0].name!r}. Intervals of means are"
    " Student's over seeds (of one seed: the bootstrap over users); those of"
    " differences are not corrected. p-values are corrected over the rows of"
    " the table, by Holm's rule and by Benjamini and Hochberg's."
  )
  if not known:
    return (
      f"{text} Nothing was tested: no combination has a seed in common with the"
      " first, or all have one seed and no values of users."
    )
  most = max(known, key=lambda each: each.num_seeds)
  asked = " ".join(
    _ASKED[over] for over in _ASKED if over in {e.over for e in known}
  )
  users = f" and {most.num_users:,} users" if most.over != SEEDS else ""
  seeds = f"{most.num_seeds} seed{'' if most.num_seeds == 1 else 's'}"
  return (
    f"{text} {asked} Here {seeds}{users}. 'Design sees' is the smallest"
    " difference that this design finds with a power of 80%, at a level"
    " corrected by Bonferroni's rule."
  )


def search_table(results: SweepResults) -> Table:
  """Combinations by their validation metric, the best first."""
  select = results.select
  sign = -1 if less_is_better(select) else 1
  ordered = sorted(results.rows, key=lambda r: -sign * r.validation(select))
  factors = list(results.rows[0].levels)
  label = labels.metric_label(results.metric)
  rows = []
  for place, row in enumerate(ordered):
    rows.append(
      (
        *(Cell(row.levels[name]) for name in factors),
        _number(labels.number(row.validation(select)), is_best=place == 0),
        _mean_cell(row, results.metric),
        _number(str(len(row.seeds))),
        _number(labels.duration(row.wall_secs())),
      )
    )
  select_label = f"validation {labels.metric_label(select)}"
  header = (*factors, select_label, f"test {label}", "seeds", "time a run")
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
  note = "Means with Student's 95% interval over seeds; none is tested here."
  return Table("All test metrics", header, tuple(rows), note)


def marginal_table(results: SweepResults, found: Sequence[Marginal]) -> Table:
  """What each level of each factor does, whatever the others are."""
  label = labels.metric_label(results.metric)
  rows = tuple(
    (
      Cell(each.factor),
      Cell(each.level),
      _number(labels.number(each.mean)),
      *effect_cells(each.effect, is_reference=True),
    )
    for each in found
  )
  note = (
    "Averaged over the levels of all other factors, against the first level of"
    " the factor; p-values are corrected over the rows of this table."
  )
  header = ("factor", "level", label, *EFFECT_HEADER)
  return Table("Marginal effects", header, rows, note)


def interaction_table(found: Sequence[Interaction]) -> Table:
  """Where the effect of one factor depends on another."""
  rows = tuple(
    (
      Cell(" x ".join(each.factors)),
      Cell(f"{a}, {b}"),
      *effect_cells(effect, is_reference=False),
    )
    for each in found
    for (a, b), effect in each.contrasts.items()
  )
  note = (
    "How much more both levels do together than each alone, against the first"
    " levels; p-values are corrected over the rows of this table."
  )
  return Table(
    "Interactions", ("factors", "levels", *EFFECT_HEADER), rows, note
  )


def missing_table(results: SweepResults) -> Table | None:
  """The trials that are in no table; None where all are.

  Those that were not carried out yet are one row.
  """
  if not results.missing:
    return None
  waiting = [each for each in results.missing if each.state == OPEN]
  rows = [
    (
      Cell(each.trial.combination),
      _number(str(each.trial.seed)),
      Cell(each.state),
      Cell(each.reason),
      Cell(each.trial.key),
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
