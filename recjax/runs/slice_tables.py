"""Slices, exposure and groups of a run as tables of a report."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from recjax.errors import RunError
from recjax.runs import html_page, labels, tables
from recjax.runs.collection import Run
from recjax.runs.slice_files import load_slices

_COUNTS = {"num_users": "users", "num_items": "items", "num_targets": "targets"}
_SHARES = {
  "share_of_items": "of items",
  "share_of_targets": "of targets",
  "share_of_exposure": "of exposure",
  "exposure_to_items": "exposure / items",
  "exposure_to_targets": "exposure / targets",
}


@dataclasses.dataclass(frozen=True)
class SliceTables:
  """What a report shows of the slices of a run.

  Attributes:
    slices: rows by what they slice, as slices/test.json holds them.
    parts: (title, header, rows) of each table.
    problem: why there are none, or "".
  """

  slices: Mapping[str, Sequence[Mapping[str, Any]]]
  parts: tuple[tuple[str, tuple[str, ...], tuple[tables.Row, ...]], ...]
  problem: str = ""

  @property
  def metric(self) -> str:
    """The metric that stands for the run; there must be slices."""
    rows = (row for rows in self.slices.values() for row in rows)
    return labels.headline({name for row in rows for name in row["metrics"]})

  def markdown(self) -> list[str]:
    """Lines of Markdown: each table opens on a click."""
    lines = ["", self.problem] if self.problem else []
    for title, header, rows in self.parts:
      cells = [row.cells for row in rows]
      summary = html_page.escape(title)
      lines += ["", f"<details><summary>{summary}</summary>", ""]
      lines += [*tables.markdown_rows(header, cells), "", "</details>"]
    return lines

  def html(self) -> str:
    """Pieces of the page: each table opens on a click."""
    parts = [f"<p>{html_page.escape(self.problem)}</p>"] * bool(self.problem)
    parts += [
      html_page.folded(title, html_page.table(header, rows))
      for title, header, rows in self.parts
    ]
    return "".join(parts)


def slice_tables(run: Run) -> SliceTables:
  """The tables of a run; none where nothing was sliced.

  Args:
    run: a finished run. A broken slices/test.json is told in the report.
  """
  try:
    slices = load_slices(run.workdir)
  except RunError as error:
    return SliceTables({}, (), str(error))
  parts = [_slices(rows) for rows in slices.values() if rows]
  lists = run.result.get("lists") or {}
  for feature, rows in (lists.get("providers") or {}).items():
    parts.append(_providers(feature, rows))
  for feature, metrics in (lists.get("user_groups") or {}).items():
    parts += [_groups(feature, name, rows) for name, rows in metrics.items()]
  return SliceTables(slices, tuple(parts))


def _number(text: str, note: str = "") -> tables.Cell:
  return tables.Cell(text, note, is_number=True)


def _slices(rows: Sequence[Mapping[str, Any]]):
  """One table of slices: counts, then metrics with their intervals."""
  first = rows[0]
  by = str(first.get("by", "training events")).replace("_", " ")
  metrics = _shown({name for row in rows for name in row["metrics"]})
  counts = [key for key in _COUNTS if first.get(key) is not None]
  header = (
    by,
    *(_COUNTS[key] for key in counts),
    *map(labels.metric_label, metrics),
  )
  lines = []
  for row in rows:
    cells = [tables.Cell(str(row["slice"]))]
    cells += [_number(f"{row[key]:,}") for key in counts]
    for name in metrics:
      ends = row["intervals"].get(name)
      note = f"[{', '.join(map(labels.number, ends))}]" if ends else ""
      cells.append(_number(labels.number(row["metrics"].get(name)), note))
    lines.append(tables.Row(tuple(cells)))
  return f"{str(first['of']).capitalize()} by {by}", header, tuple(lines)


def _shown(names: set[str]) -> list[str]:
  """At one cut-off how right the run is, and all there is of lists."""
  ordered = sorted(names, key=labels.metric_order)
  if not ordered:
    return []
  cutoff = labels.headline(ordered).partition("@")[2]
  return [
    name
    for name in ordered
    if labels.is_of_lists(name) or name.partition("@")[2] in ("", cutoff)
  ]


def _providers(feature: str, rows: Sequence[Mapping[str, Any]]):
  header = (feature.replace("_", " "), *_SHARES.values())
  lines = tuple(
    tables.Row(
      (
        tables.Cell(str(row["value"])),
        *(_number(labels.number(row.get(key))) for key in _SHARES),
      )
    )
    for row in rows
  )
  return f"Exposure by {header[0]}", header, lines


def _groups(feature: str, metric: str, rows: Sequence[Mapping[str, Any]]):
  label = labels.metric_label(metric)
  by = feature.replace("_", " ")
  lines = tuple(
    tables.Row(
      (
        tables.Cell(
          str(row["value"]), "" if row["compared"] else "too few to compare"
        ),
        _number(f"{row['num_users']:,}"),
        _number(labels.number(row["mean"])),
      )
    )
    for row in rows
  )
  return f"{label} by {by}", (by, "users", label), lines
