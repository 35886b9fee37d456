"""The ledger in a terminal: all cells, one cell, a new result beside it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.box
import rich.table
import rich.text

from recjax.runs import labels
from recjax.runs.ledger import OUTSIDE, WITHIN, Entry, Ledger

_STYLES = {WITHIN: "green", OUTSIDE: "bold red"}
_PLACES = 4


def overview(ledger: Ledger) -> Iterable[str | rich.table.Table]:
  """A table for each experiment, under its paper; the reasons; the counts."""
  for folder in dict.fromkeys(entry.folder for entry in ledger.entries):
    found = [entry for entry in ledger.entries if entry.folder == folder]
    yield f"{folder.name}: {found[0].paper}"
    yield _cells_table(found)
    yield from _notes(found)
  counts = [f"{num} {status}" for status, num in ledger.counts.items() if num]
  yield f"{len(ledger.entries)} published numbers: {', '.join(counts)}."


def _table(columns: Mapping[str, str]) -> rich.table.Table:
  """A table whose first column wraps; {name: how it is justified}."""
  shown = rich.table.Table(
    box=rich.box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
  )
  for number, (name, justify) in enumerate(columns.items()):
    shown.add_column(
      name,
      justify=justify,  # pyright: ignore[reportArgumentType]
      no_wrap=number > 0,
      overflow="fold",
    )
  return shown


def _cells_table(entries: Sequence[Entry]) -> rich.table.Table:
  shown = _table(
    {
      "name, source": "left",
      "metric": "left",
      "published": "right",
      "ours": "right",
      "95%": "right",
      "status": "left",
      "time": "right",
    }
  )
  source = ""
  for entry in entries:
    row = entry.row or {}
    name = rich.text.Text(entry.cell.key[0])
    if entry.cell.source != source:  # It holds until another one is named.
      source = entry.cell.source
      name.append(f"\n{source}", style="dim")
    minutes = entry.minutes_a_seed
    num = len(entry.recipe.seeds) if entry.recipe else 1
    time = "" if minutes is None else labels.duration(60 * minutes)
    shown.add_row(
      name,
      labels.metric_label(entry.cell.metric),
      _plain(entry.cell.published),
      labels.number(row.get("measured")),
      _interval(row.get("ci95")),
      rich.text.Text(entry.status, style=_STYLES.get(entry.status, "yellow")),
      f"{num} x {time}" if time and num > 1 else time,
    )
  return shown


def _plain(value: float) -> str:
  """A published number with the digits it has, four at the least."""
  text = f"{value:.6f}".rstrip("0")
  return text + "0" * (_PLACES - len(text.partition(".")[2]))


def _interval(ends: Sequence[float | None] | None) -> str:
  low, high = ends or (None, None)
  return "" if low is None else f"[{labels.number(low)}, {labels.number(high)}]"


def _notes(entries: Sequence[Entry]) -> list[str]:
  """What is to be told of some cells, each sentence once."""
  of_text: dict[str, list[str]] = {}
  for entry in entries:
    problem = "" if entry.check is None else entry.check.problem
    for text in (problem, entry.why):
      if text:
        of_text.setdefault(text, []).append(entry.cell.key[0])
  return [
    f"{', '.join(dict.fromkeys(names))}: {text}"
    for text, names in of_text.items()
  ]


def details(entry: Entry) -> list[str]:
  """Lines on one cell: all that the ledger knows of it."""
  facts = entry.to_dict()
  recipe = entry.recipe
  if recipe is not None:
    files = recipe.files_from_checkout(entry.folder)
    facts["gin files"] = ", ".join(files)
    facts["bindings"] = ", ".join(recipe.bindings)
  if facts["wall_secs"] is not None:
    facts["wall_secs"] = f"{facts['wall_secs']:.1f}"
  left_out = ("name", "metric", "recipe", "experiment")
  title = f"{facts['name']}, {labels.metric_label(entry.cell.metric)}"
  shown = [
    f"  {key.replace('_', ' ')}: {_text(value)}"
    for key, value in facts.items()
    if key not in left_out and value not in (None, "", [])
  ]
  return [title, *shown]


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return "yes" if value else "no"
  return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def beside_published(
  entries: Sequence[Entry], rows: Sequence[Mapping[str, Any]]
) -> rich.table.Table:
  """New results beside the published numbers and those of results.json.

  Args:
    entries: the cells of a recipe.
    rows: as of results.json, of the same cells.
  """
  shown = _table(
    {
      "name": "left",
      "metric": "left",
      "published": "right",
      "ours": "right",
      "95%": "right",
      "within": "left",
      "seeds": "right",
      "in results.json": "right",
    }
  )
  of_key = {entry.cell.key: entry for entry in entries}
  for row in rows:
    entry = of_key[row["name"], row["metric"]]
    within = row["within"]
    shown.add_row(
      row["name"],
      labels.metric_label(row["metric"]),
      _plain(row["published"]),
      labels.number(row["measured"]),
      _interval(row["ci95"]),
      rich.text.Text(
        "yes" if within else "no", style=_STYLES[WITHIN if within else OUTSIDE]
      ),
      str(len(row["seeds"])),
      labels.number((entry.row or {}).get("measured")),
    )
  return shown


def remarks(
  entries: Sequence[Entry], rows: Sequence[Mapping[str, Any]]
) -> list[str]:
  """What to know of new results beside those of results.json."""
  found = []
  of_key = {entry.cell.key: entry for entry in entries}
  for row in rows:
    entry = of_key[row["name"], row["metric"]]
    old = entry.row or row
    if row["data_fingerprint"] != old["data_fingerprint"]:
      found.append(
        "The data are not those of results.json (fingerprint "
        f"{row['data_fingerprint'][:8]}, there {old['data_fingerprint'][:8]})."
      )
    if row["protocol_hash"] != old["protocol_hash"]:
      found.append(
        f"The protocol is not that of results.json ({row['protocol_hash']}, "
        f"there {old['protocol_hash']})."
      )
    if row["config_hash"] != old["config_hash"]:
      found.append(
        "Settings were added or changed since results.json was written "
        f"(config {row['config_hash']}, there {old['config_hash']})."
      )
    missing = set(entry.recipe.seeds if entry.recipe else ()) - set(
      row["seeds"]
    )
    if missing:
      seeds = ", ".join(map(str, sorted(missing)))
      found.append(f"Without the seeds {seeds}, which are not finished.")
    if not row["within"]:
      label = f"{row['name']} ({labels.metric_label(row['metric'])})"
      reason = entry.cell.why or "published.toml does not say why."
      found.append(f"{label} is outside its bounds: {reason}")
  return list(dict.fromkeys(found))
