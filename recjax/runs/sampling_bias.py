"""What sampling did to the metrics of runs: a table beside their protocol's.

From `sampled_bias` of result.json, which a test among sampled candidates has:
each metric among the draws, in the whole catalogue with the same weights, and
as estimated from the draws. Of older runs, from what `recjax evaluate` left in
sampled_bias/test-HASH.json.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from recjax.runs import collection, labels, tables
from recjax.runs.record import read_json

_HEADER = ("run", "data set", "metric", "sampled", "full", "bias", "corrected")
_SAMPLED = ("uniform", "popularity", "given_lists")
_MAX_LINES = 12  # In a terminal.
_LEAD = (
  "Sampled metrics can reverse the order of models (Krichene and Rendle, 2020);"
  " compare models by the full ranking. Bias is sampled - full, of the same"
  " weights and users."
)
_CORRECTED = (
  "Corrected is what the draws alone tell of the full ranking, by the estimator"
  " `{}`; its interval knows of chance, and not of what the estimator assumes."
)


@dataclasses.dataclass(frozen=True)
class BiasTable:
  """The bias of the runs of one protocol.

  Attributes:
    header: of the columns.
    rows: one a run and metric.
    notes: sentences below.
  """

  header: tuple[str, ...]
  rows: tuple[tables.Row, ...]
  notes: tuple[str, ...]

  def lines(self) -> list[str]:
    """One line a row, few enough for a terminal, and the notes."""
    found = []
    for row in self.rows[:_MAX_LINES]:
      run, data, metric, *numbers = (cell.text for cell in row.cells)
      parts = zip(self.header[3:], numbers)
      text = ", ".join(f"{name} {number}" for name, number in parts)
      found.append(f"{metric} of {run} on {data}: {text}")
    if len(self.rows) > _MAX_LINES:
      found.append(f"... and {len(self.rows) - _MAX_LINES} more in the report")
    return [*found, *self.notes]


def bias_table(table: tables.ProtocolTable) -> BiasTable | None:
  """The table of a protocol; None where nothing is sampled.

  Args:
    table: the runs of one protocol.
  """
  parts = [
    tuple(group for group in part if _records(group))
    for part in table.by_data()
  ]
  parts = [part for part in parts if part]
  notes = [
    f"{run.workdir} does not tell the bias of its metrics:"
    f" `recjax evaluate --workdir={run.workdir}` measures it."
    for group in table.groups
    if not _records(group) and _is_sampled(group)
    for run in group.runs
    if _record(run) is None
  ]
  if not parts:
    return BiasTable(_HEADER, (), (_LEAD, *notes)) if notes else None
  rows = [
    _row(group, metric)
    for part in parts
    for group in part
    for metric in table.metrics
    if _has(group, metric, "sampled")
  ]
  notes = _notes([group for part in parts for group in part]) + notes
  for part in parts:
    notes += _orders(part, table.metrics)
  return BiasTable(_HEADER, tuple(rows), tuple(notes))


def _is_sampled(group: collection.Group) -> bool:
  candidates = group.first["protocol"].get("candidates") or {}
  return candidates.get("kind") in _SAMPLED


def _record(run: collection.Run) -> dict[str, Any] | None:
  """What a run tells of its bias: in its result, or beside it."""
  if found := run.result.get("sampled_bias"):
    return found
  name = f"test-{run.result['protocol_hash']}.json"
  path = run.workdir / "sampled_bias" / name
  return read_json(path) if path.exists() else None


def _records(group: collection.Group) -> list[dict[str, Any]]:
  """What each seed tells; nothing where one of them tells nothing."""
  found = [_record(run) for run in group.runs]
  known = [record for record in found if record is not None]
  return known if len(known) == len(found) else []


def _values(
  group: collection.Group, metric: str, name: str
) -> list[tuple[float | None, Any]]:
  """(value, interval) of each seed; "corrected" is that of the headline."""
  found = []
  for record in _records(group):
    row = record["metrics"].get(metric) or {}
    if name == "corrected":
      own = (row.get("corrected") or {}).get(record["headline"]) or {}
      found.append((own.get("value"), own.get("interval")))
    else:
      found.append((row.get(name), row.get(f"{name}_interval")))
  return found


def _has(group: collection.Group, metric: str, name: str) -> bool:
  return all(value is not None for value, _ in _values(group, metric, name))


def _estimate(
  group: collection.Group, metric: str, name: str
) -> collection.Estimate | None:
  found = _values(group, metric, name)
  if not _has(group, metric, name):
    return None
  values = [value for value, _ in found]
  return collection.estimate_of(values, found[0][1])  # pyright: ignore


def _row(group: collection.Group, metric: str) -> tables.Row:
  first = group.first
  bias = tables.estimate_cell(_estimate(group, metric, "bias"))
  if _has(group, metric, "bias") and not bias.text.startswith("-"):
    bias = dataclasses.replace(bias, text=f"+{bias.text}")
  return tables.Row(
    (
      tables.Cell(first["name"], first["config_hash"]),
      tables.Cell(first["dataset"], first["data_fingerprint"][:8]),
      tables.Cell(labels.metric_label(metric)),
      tables.estimate_cell(group.estimate(metric)),
      tables.estimate_cell(_estimate(group, metric, "full")),
      bias,
      tables.estimate_cell(_estimate(group, metric, "corrected")),
    )
  )


def _notes(groups: Sequence[collection.Group]) -> list[str]:
  """What the columns are, each thing said once."""
  records = [record for group in groups for record in _records(group)]
  notes = [_LEAD]
  full = {
    f"Full is protocol {record['full_protocol_hash']}:"
    f" {record['full_protocol_text']}."
    for record in records
    if record.get("full_protocol_hash")
  }
  notes += sorted(full)
  headlines = {
    record["headline"]
    for record in records
    if any(row.get("corrected") for row in record["metrics"].values())
  }
  notes += [_CORRECTED.format(name) for name in sorted(headlines)]
  blind = [record["blind_below"] for record in records]
  if headlines and (known := [each for each in blind if each]):
    notes.append(
      f"Ranks below {max(known):.0f}, the items in a pool for each draw, look"
      " alike to the draws: corrected values at cut-offs below that are mostly"
      " what the estimator assumes."
    )
  why_not = {record["not_corrected"] for record in records} - {""}
  return notes + [f"Not corrected: {why}." for why in sorted(why_not)]


def _orders(
  groups: Sequence[collection.Group], metrics: Sequence[str]
) -> list[str]:
  """Whether the order of the runs agrees, one sentence a metric."""
  found = []
  for metric in metrics:
    known = [group for group in groups if _has(group, metric, "full")]
    if len(known) < 2:
      continue
    text = (
      f"Order of the {len(known)} runs on {known[0].first['dataset']} by"
      f" {labels.metric_label(metric)}, sampled and full:"
      f" {_agreement(known, metric, 'sampled')}"
    )
    if all(_has(group, metric, "corrected") for group in known):
      text += f"; corrected and full: {_agreement(known, metric, 'corrected')}"
    found.append(f"{text}.")
  return found


def _agreement(
  groups: Sequence[collection.Group], metric: str, name: str
) -> str:
  """Kendall's tau between the means of the runs, and what it says."""
  means = [
    [_estimate(group, metric, key) for group in groups]
    for key in (name, "full")
  ]
  one, two = ([each.mean for each in row if each] for row in means)
  found: Any = scipy.stats.kendalltau(one, two)
  tau = float(found.statistic)
  if np.isnan(tau):
    return "all runs are equal"
  same = "the same" if tau > 1 - 1e-9 else "not the same"
  return f"{same} (Kendall's tau {tau:+.2f})"
