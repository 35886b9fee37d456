"""Tables of runs: one for each protocol, for Markdown, HTML and terminals."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from recjax.metrics.names import better
from recjax.runs import collection, labels


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell: its text, a smaller note beside it, and how it stands out.

  Attributes:
    text: what the cell says.
    note: said more quietly, such as an interval.
    is_number: whether it is set to the right.
    is_best: whether it is the best of its data set and metric, where it is
      known which is better.
  """

  text: str
  note: str = ""
  is_number: bool = False
  is_best: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of cells; a reference row is a floor or an optimum, not a run."""

  cells: tuple[Cell, ...]
  is_reference: bool = False


@dataclasses.dataclass(frozen=True)
class ProtocolTable:
  """The runs of one protocol. Other protocols never share its columns.

  Attributes:
    protocol_hash: of all runs in the table.
    text: the protocol in a line, or empty.
    fields: the protocol written out.
    header: of the columns.
    rows: runs by data set, each followed by its floor.
    groups: what the rows are of.
    metrics: names of the metric columns.
  """

  protocol_hash: str
  text: str
  fields: tuple[tuple[str, str], ...]
  header: tuple[str, ...]
  rows: tuple[Row, ...]
  groups: tuple[collection.Group, ...]
  metrics: tuple[str, ...]

  def by_data(self) -> list[tuple[collection.Group, ...]]:
    """The groups of each data set (by fingerprint)."""
    return _by_data(self.groups)


def protocol_tables(
  groups: Sequence[collection.Group],
) -> list[ProtocolTable]:
  """One table a protocol hash."""
  by_hash: dict[str, list[collection.Group]] = {}
  for group in groups:
    by_hash.setdefault(group.first["protocol_hash"], []).append(group)
  return [_protocol_table(key, found) for key, found in by_hash.items()]


def _by_data(
  groups: Sequence[collection.Group],
) -> list[tuple[collection.Group, ...]]:
  found: dict[tuple[str, str], list[collection.Group]] = {}
  for group in groups:
    key = group.first["dataset"], group.first["data_fingerprint"]
    found.setdefault(key, []).append(group)
  return [tuple(part) for part in found.values()]


def _protocol_table(
  protocol_hash: str, groups: Sequence[collection.Group]
) -> ProtocolTable:
  metrics = tuple(
    sorted(
      {name for group in groups for name in group.first["metrics"]},
      key=labels.metric_order,
    )
  )
  header = (
    "run",
    "data set",
    "model",
    "seeds",
    *map(labels.metric_label, metrics),
    "time a run",
    "device",
  )
  rows = []
  for part in _by_data(groups):
    rows += [_run_row(group, part, metrics) for group in part]
    rows += _reference_rows(part, metrics, len(header))
  texts = {group.first.get("protocol_text") or "" for group in groups}
  return ProtocolTable(
    protocol_hash,
    min(texts, key=len),
    _shared_fields(groups),
    header,
    tuple(rows),
    tuple(groups),
    metrics,
  )


def _shared_fields(
  groups: Sequence[collection.Group],
) -> tuple[tuple[str, str], ...]:
  """The fields of the protocol; those that are not hashed may differ."""
  protocols = [run.result["protocol"] for group in groups for run in group.runs]
  return tuple(
    (name.replace("_", " "), _field_text(value))
    for name, value in protocols[0].items()
    if value not in ("", None)
    and all(protocol.get(name) == value for protocol in protocols)
  )


def _field_text(value: Any) -> str:
  if isinstance(value, list):
    return ", ".join(map(str, value))
  if isinstance(value, dict):
    return ", ".join(f"{key}: {_field_text(v)}" for key, v in value.items())
  return value if isinstance(value, str) else json.dumps(value)


def estimate_cell(
  estimate: collection.Estimate | None, *, is_best: bool = False
) -> Cell:
  """A metric: mean +- std over seeds, or a value with its interval."""
  if estimate is None:
    return Cell("–", is_number=True)
  text, note = labels.number(estimate.mean), ""
  if estimate.std is not None:
    text += f" ± {labels.number(estimate.std)}"
    note = f"n = {estimate.num_seeds}"
  elif estimate.low is not None:
    note = f"[{labels.number(estimate.low)}, {labels.number(estimate.high)}]"
  return Cell(text, note, is_number=True, is_best=is_best)


def _run_row(
  group: collection.Group,
  rivals: Sequence[collection.Group],
  metrics: Sequence[str],
) -> Row:
  first = group.first
  cells = [
    Cell(first["name"], first["config_hash"]),
    Cell(first["dataset"], first["data_fingerprint"][:8]),
    Cell(first["model"]),
    Cell(", ".join(map(str, group.seeds))),
  ]
  for metric in metrics:
    estimate = group.estimate(metric)
    others = [rival.estimate(metric) for rival in rivals]
    sign = better(metric)
    means = [sign * other.mean for other in others if other is not None]
    is_best = (sign != 0 and len(means) > 1) and (
      estimate is not None and sign * estimate.mean == max(means)
    )
    cells.append(estimate_cell(estimate, is_best=is_best))
  devices = {run.result["device"] for run in group.runs}
  cells.append(Cell(labels.duration(group.wall_secs), is_number=True))
  device = " / ".join(sorted(set(map(labels.short_device, devices))))
  cells.append(Cell(device))
  return Row(tuple(cells))


def _reference_rows(
  groups: Sequence[collection.Group], metrics: Sequence[str], width: int
) -> list[Row]:
  """The floor (and the optimum) of a data set; once if the runs agree."""
  rows = []
  for key, name in (
    ("floor", labels.floor_label(groups[0].first)),
    ("bayes_optimal", "Bayes optimum"),
  ):
    seen: list[tuple[str, ...]] = []
    for group in groups:
      texts = tuple(labels.number(group.mean(key, m)) for m in metrics)
      if set(texts) <= {"–"} or texts in seen:
        continue
      seen.append(texts)
      cells = [
        Cell(name),
        Cell(group.first["dataset"]),
        Cell(""),
        Cell(""),
        *(Cell(text, is_number=True) for text in texts),
      ]
      cells += [Cell("")] * (width - len(cells))
      rows.append(Row(tuple(cells), is_reference=True))
  return rows


def markdown_rows(
  header: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> list[str]:
  """The lines of a Markdown table, one a row whatever its cells hold."""
  numbers = [any(row[i].is_number for row in rows) for i in range(len(header))]
  lines = [
    f"| {' | '.join(map(_in_a_cell, header))} |",
    f"|{'|'.join(' ---: ' if right else ' --- ' for right in numbers)}|",
  ]
  for row in rows:
    texts = []
    for cell in row:
      text = f"**{cell.text}**" if cell.is_best else cell.text
      text = f"{text} {cell.note}" if cell.note else text
      texts.append(_in_a_cell(text))
    lines.append(f"| {' | '.join(texts)} |")
  return lines


def _in_a_cell(text: str) -> str:
  """`text` in a line, and its bars escaped."""
  line = " ".join(text.splitlines())
  # Backslashes before a bar are escaped with it: they would escape each other.
  return re.sub(r"(\\*)\|", r"\1\1\\|", line)
