"""The tables of READMEs and docs/results.md, made from the ledger."""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recjax import errors, files
from recjax.runs import labels, ledger, published, tables
from recjax.runs.ledger import Entry
from recjax.runs.published import PublishedCell

_HEADER = (
  "run",
  "data set",
  "metric",
  "published",
  "ours",
  "95% interval",
  "within",
  "seeds",
  "time a run",
  "device",
)
_HEADER_WITHOUT = (
  "run",
  "data set",
  "model",
  "metric",
  "published",
  "status",
  "why",
)


def markdown_table(results: Sequence[Mapping[str, Any]]) -> str:
  """A Markdown table for each protocol, which stands above it.

  Args:
    results: rows of results.json; where one has a `why`, see `explained`, it
      stands below.
  """
  if not results:
    return "No results yet.\n"
  by_hash: dict[str, list[Mapping[str, Any]]] = {}
  for row in results:
    by_hash.setdefault(row["protocol_hash"], []).append(row)
  parts = []
  for protocol_hash, rows in by_hash.items():
    lines = tables.markdown_rows(_HEADER, [_cells(row) for row in rows])
    # Of one hash, but the words may differ in the metrics that are listed.
    text = min((str(row.get("protocol", "")) for row in rows), key=len)
    parts.append(f"Protocol `{protocol_hash}`: {text}\n\n" + "\n".join(lines))
    parts += _reasons(rows)
  return "\n\n".join(parts) + "\n"


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Why some rows lie outside the bounds, each reason once."""
  of_reason: dict[str, list[str]] = {}
  for row in rows:
    if row.get("why"):
      label = f"{row['name']} ({labels.metric_label(row['metric'])})"
      of_reason.setdefault(row["why"], []).append(label)
  return [
    f"Outside the bounds: {', '.join(names)}. {why}"
    for why, names in of_reason.items()
  ]


def explained(
  results: Sequence[Mapping[str, Any]], cells: Iterable[PublishedCell]
) -> list[dict[str, Any]]:
  """The rows, with the `why` of the cells that lie outside their bounds."""
  reasons = {cell.key: cell.why for cell in cells}
  return [
    dict(row)
    if row.get("within")
    else {**row, "why": reasons.get((row["name"], row["metric"]), "")}
    for row in results
  ]


def _cells(row: Mapping[str, Any]) -> list[tables.Cell]:
  low, high = row.get("ci95") or (None, None)
  if row.get("range"):
    allowed = " to ".join(map(_short, row["range"]))
  else:
    allowed = f"± {_short(row.get('tolerance'))}"
  interval = "–"
  if low is not None:
    interval = f"[{labels.number(low)}, {labels.number(high)}]"
  within = "yes" if row.get("within") else "**no**"
  return [
    tables.Cell(str(row["name"])),
    tables.Cell(str(row.get("dataset", ""))),
    tables.Cell(labels.metric_label(row["metric"])),
    tables.Cell(
      _short(row["published"]), f"({row.get('source', '')})", is_number=True
    ),
    tables.Cell(labels.number(row["measured"]), is_number=True),
    tables.Cell(interval, is_number=True),
    tables.Cell(within, f"({allowed})"),
    tables.Cell(", ".join(map(str, row.get("seeds", ())))),
    tables.Cell(labels.duration(row.get("wall_secs")), is_number=True),
    tables.Cell(labels.short_device(str(row.get("device", "")))),
  ]


def _short(value: float | int | None) -> str:
  """The number as the paper printed it."""
  return "–" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def _split(path: files.PathLike, marker: str) -> tuple[str, str, str]:
  """The text before, between and after the marks, which go with the ends."""
  begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
  try:
    text = pathlib.Path(path).read_text("utf-8")
  except OSError as error:
    raise errors.ConfigError(f"{path} can not be read: {error}.") from error
  found = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", text, re.DOTALL)
  if found is None:
    raise errors.ConfigError(
      f"{path} has no place for the table: put the lines {begin} and {end}."
    )
  return text[: found.start(1)], found[1], text[found.end(1) :]


def update_readme(
  path: files.PathLike,
  results: Sequence[Mapping[str, Any]],
  marker: str = "results",
) -> None:
  """Puts the table between `<!-- results:begin -->` and `:end`.

  Args:
    path: of a Markdown file.
    results: rows of results.json.
    marker: the word in the marks.

  Raises:
    ConfigError: the file has no marks.
  """
  before, _, after = _split(path, marker)
  text = f"{before}\n{markdown_table(results)}{after}"
  files.write_text_atomically(path, text)


def readme_is_current(
  path: files.PathLike,
  results: Sequence[Mapping[str, Any]],
  marker: str = "results",
) -> bool:
  """Whether `update_readme` would leave the file as it is."""
  return _split(path, marker)[1] == f"\n{markdown_table(results)}"


def load_rows(folder: files.PathLike) -> list[dict[str, Any]]:
  """The rows of an experiment's results.json, `explained`.

  Raises:
    ConfigError: a file is wrong, or a row belongs to no cell.
  """
  path = pathlib.Path(folder) / "results.json"
  if not path.exists():
    return []
  cells = [entry.cell for entry in ledger.load_entries(folder)]
  return explained(published.load_results(path), cells)


def load_all_results(experiments: files.PathLike) -> list[dict[str, Any]]:
  """`load_rows` of all folders of `experiments`."""
  paths = sorted(pathlib.Path(experiments).glob("*/results.json"))
  return [row for path in paths for row in load_rows(path.parent)]


def results_page(experiments: files.PathLike) -> str:
  """The text of docs/results.md, from the ledger of `experiments`."""
  whole = ledger.load_ledger(experiments)
  counts = [f"{num} {status}" for status, num in whole.counts.items() if num]
  lines = [
    "# Results",
    "",
    "Made from `experiments/*/published.toml`, the published numbers we claim, "
    "and `experiments/*/results.json`, which hold the numbers of real runs; do "
    "not edit. Intervals are of 95%: the bootstrap over users for one seed, "
    "Student's t for several. Numbers of different protocols are never put in "
    "one column.",
    "",
    f"{len(whole.entries)} published numbers: {', '.join(counts)}.",
    "",
  ]
  for folder in dict.fromkeys(entry.folder for entry in whole.entries):
    lines += _experiment_lines(folder, whole.entries)
  lines += _lines_without_result(whole.entries)
  return "\n".join(lines).rstrip("\n") + "\n"


def _experiment_lines(
  folder: pathlib.Path, entries: Sequence[Entry]
) -> list[str]:
  """Paper, tables and commands of an experiment that has results."""
  found = [each for each in entries if each.folder == folder and each.row]
  if not found:
    return []
  first = found[0]
  lines = [f"## {folder.name}", "", f"{first.paper} {first.link}".strip(), ""]
  lines.append(markdown_table(load_rows(folder)))
  commands = dict.fromkeys(each.command for each in found if each.command)
  return lines + ["```", *commands, "```", ""]


def _lines_without_result(entries: Sequence[Entry]) -> list[str]:
  """The cells that nothing has been run for, and why."""
  rows = [
    [
      tables.Cell(entry.cell.key[0]),
      tables.Cell(entry.cell.dataset),
      tables.Cell(entry.cell.model),
      tables.Cell(labels.metric_label(entry.cell.metric)),
      tables.Cell(
        _short(entry.cell.published), f"({entry.cell.source})", is_number=True
      ),
      tables.Cell(entry.status),
      tables.Cell(entry.why),
    ]
    for entry in entries
    if entry.row is None
  ]
  if not rows:
    return []
  lead = "Published numbers that we have none beside yet."
  shown = tables.markdown_rows(_HEADER_WITHOUT, rows)
  return ["## Without a result", "", lead, "", *shown, ""]


def update_results_page(
  experiments: files.PathLike, path: files.PathLike
) -> None:
  """Writes `results_page` to `path`."""
  files.write_text_atomically(path, results_page(experiments))


def publish(
  published_toml: files.PathLike,
  workdirs: Iterable[files.PathLike],
  results_json: files.PathLike,
  readme: files.PathLike | None = None,
) -> list[dict[str, Any]]:
  """Puts the numbers of finished runs beside the published ones.

  Args:
    published_toml: the cells.
    workdirs: of runs, or folders that hold some.
    results_json: updated; rows of other cells stay.
    readme: its table is updated, if given.

  Returns:
    The rows of the runs given.

  Raises:
    ConfigError: see `published.collect`; or none of the runs is of a cell.
  """
  cells = published.load_published(published_toml)
  rows = published.collect(cells, workdirs)
  if not rows:
    names = sorted({cell.run for cell in cells.cells})
    raise errors.ConfigError(
      f"no finished run is called by a cell of {published_toml}: "
      f"{', '.join(names)}."
    )
  results = published.update_results(results_json, rows)
  if readme is not None:
    update_readme(readme, explained(results, cells.cells))
  return rows
