"""The tables of READMEs and docs/results.md, made from results.json."""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recjax import errors, files
from recjax.runs import labels, published, tables

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


def markdown_table(results: Sequence[Mapping[str, Any]]) -> str:
  """A Markdown table for each protocol, which stands above it.

  Args:
    results: rows of results.json.
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
  return "\n\n".join(parts) + "\n"


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


def load_all_results(experiments: files.PathLike) -> list[dict[str, Any]]:
  """The rows of all results.json in the folders of `experiments`."""
  paths = sorted(pathlib.Path(experiments).glob("*/results.json"))
  return [row for path in paths for row in published.load_results(path)]


def results_page(experiments: files.PathLike) -> str:
  """The text of docs/results.md, from experiments/*/results.json."""
  lines = [
    "# Results",
    "",
    "Made from `experiments/*/results.json`, which hold the numbers of real "
    "runs; do not edit. Intervals are of 95%: the bootstrap over users for one "
    "seed, Student's t for several. Numbers of different protocols are never "
    "put in one column.",
    "",
  ]
  for path in sorted(pathlib.Path(experiments).glob("*/results.json")):
    rows = published.load_results(path)
    lines += [f"## {path.parent.name}", ""]
    source = path.parent / "published.toml"
    if source.exists():
      paper = published.load_published(source)
      lines += [f"{paper.paper} {paper.link}".strip(), ""]
    lines += [markdown_table(rows)]
    commands = dict.fromkeys(row.get("command", "") for row in rows)
    if any(commands):
      lines += ["```", *(command for command in commands if command), "```", ""]
  return "\n".join(lines).rstrip("\n") + "\n"


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
    update_readme(readme, results)
  return rows
