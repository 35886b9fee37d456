"""`recjax diff`: what two finished runs differ in, and their metrics."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table
import rich.text
from absl import flags
from rich import console

from recjax import files, gin_config
from recjax.command_flags import (
  AS_RECORDED,
  check_outs,
  parse,
  refuse_bindings,
)
from recjax.errors import ConfigError, RunError
from recjax.runs import labels, tables
from recjax.runs.collection import Run, load_runs
from recjax.runs.record import plain
from recjax.runs.run_diff import Change, Difference, RunDiff, diff_runs

_SUFFIXES = (".json", ".md")
_WIDTH = 120  # Of tables where there is no terminal to fit.
_NOT_COMPARED = (
  "Data or protocol differ, so the metrics are of different things and are not"
  " set side by side."
)
_TOUCHING = (
  "B - A of one run each; * where their 95% intervals do not touch. `recjax"
  " compare` tests differences over seeds, rows and users."
)
_DIFFERENCES = ("kind", "name", "A", "B")
_CHANGES = ("slice", "metric", "A", "B", "B - A", "")


def diff(arguments: Sequence[str]) -> None:
  """Tells what two runs differ in: settings, data, code, and metrics."""

  def define(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
      "out", [], "A file of what was found, .json or .md; may be repeated.",
      flag_values=values,
    )  # fmt: skip

  values, workdirs, bindings = parse("diff", arguments, define)
  refuse_bindings("diff", bindings, AS_RECORDED)
  if len(workdirs) != 2:
    raise ConfigError(
      f"recjax diff needs the workdirs of two runs; got {len(workdirs)}."
    )
  check_outs(values["out"], _SUFFIXES)
  a, b = (_run(workdir) for workdir in workdirs)
  found = diff_runs(a, b, (_settings(a), _settings(b)))
  _print(a, b, found)
  for out in values["out"]:
    _write(pathlib.Path(out), a, b, found)
    print(out)


def _run(workdir: str) -> Run:
  runs, failures = load_runs([workdir])
  if len(runs) == 1 and not failures:
    return runs[0]
  if failures:
    raise RunError(f"{failures[0].workdir}: {failures[0].reason}")
  raise RunError(f"{workdir} holds {len(runs)} runs; name one of them.")


def _settings(run: Run) -> dict[str, str]:
  """Bindings by the shortest name that tells them apart."""
  found = gin_config.bindings(run.config_text)
  short = {name: ".".join(name.split(".")[-2:]) for name in found}
  names = list(short.values())
  return {
    short[name] if names.count(short[name]) == 1 else name: value
    for name, value in found.items()
  }


def _difference_cells(each: Difference) -> list[tables.Cell]:
  show = lambda value: "–" if value is None else str(value)
  texts = (each.kind, each.name, show(each.a), show(each.b))
  return [tables.Cell(text) for text in texts]


def _change_cells(each: Change) -> list[tables.Cell]:
  number = lambda text: tables.Cell(text, is_number=True)
  change = "–" if each.change is None else f"{each.change:+.5f}"
  return [
    tables.Cell(each.where or "all"),
    tables.Cell(labels.metric_label(each.metric)),
    number(labels.number(each.a)),
    number(labels.number(each.b)),
    number(change),
    tables.Cell("*" if each.apart else ""),
  ]


def _parts(found: RunDiff) -> list[tuple[Sequence[str], list, str]]:
  """Header, rows and closing sentence of each table."""
  differences = [_difference_cells(each) for each in found.differences]
  lead = "" if differences else "The runs were made alike."
  parts = [(_DIFFERENCES, differences, lead)]
  changes = [_change_cells(each) for each in found.changes]
  closing = _TOUCHING if found.is_comparable else _NOT_COMPARED
  if any(each.kind == "protocol" for each in found.differences):
    closing += " `recjax explain` says what the protocols' difference means."
  return [*parts, (_CHANGES, changes, closing)]


def _print(a: Run, b: Run, found: RunDiff) -> None:
  out = console.Console()
  if not out.is_terminal:
    out.width = max(out.width, _WIDTH)
  for name, run in (("A", a), ("B", b)):
    out.print(f"{name}: {run.workdir}", markup=False, soft_wrap=True)
  for header, rows, closing in _parts(found):
    if rows:
      shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
      for place, name in enumerate(header):
        is_number = any(row[place].is_number for row in rows)
        shown.add_column(
          name, justify="right" if is_number else "left", overflow="fold"
        )
      for row in rows:
        shown.add_row(*(rich.text.Text(cell.text) for cell in row))
      out.print(shown)
    if closing:
      out.print(closing, markup=False, soft_wrap=True)


def _write(path: pathlib.Path, a: Run, b: Run, found: RunDiff) -> None:
  if path.suffix == ".json":
    facts: dict[str, Any] = {
      "a": str(a.workdir),
      "b": str(b.workdir),
      "is_comparable": found.is_comparable,
      "differences": [dataclasses.asdict(x) for x in found.differences],
      "changes": [
        dataclasses.asdict(x) | {"change": x.change} for x in found.changes
      ],
    }
    files.write_json_atomically(path, plain(facts))
    return
  lines = ["# Difference of two runs", "", f"- A: {a.workdir}"]
  lines += [f"- B: {b.workdir}"]
  for header, rows, closing in _parts(found):
    if rows:
      lines += ["", *tables.markdown_rows(header, rows)]
    if closing:
      lines += ["", closing]
  files.write_text_atomically(path, "\n".join(lines) + "\n")
