"""`recjax explain`: what the protocols of runs differ in, and what it means."""

import dataclasses
import pathlib
import string
from collections.abc import Sequence
from typing import Any

from absl import flags
from rich import console

from recjax import files
from recjax.command_flags import (
  AS_RECORDED,
  check_outs,
  parse,
  refuse_bindings,
)
from recjax.errors import ConfigError, RunError
from recjax.runs.collection import Run, load_runs
from recjax.runs.protocol_differences import (
  explain_protocols,
  explanation_lines,
)
from recjax.runs.record import plain

_SUFFIXES = (".json", ".md")
_LEAD = (
  "Each field is told by itself; numbers of different protocols never share a"
  " column."
)
_ALIKE = "The runs have one protocol: on the same data their numbers compare."


def explain(arguments: Sequence[str]) -> None:
  """Explains in sentences what the protocols of runs differ in."""

  def define(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
      "out", [], "A file of what is printed, .json or .md; may be repeated.",
      flag_values=values,
    )  # fmt: skip

  values, workdirs, bindings = parse("explain", arguments, define)
  refuse_bindings("explain", bindings, AS_RECORDED)
  if not workdirs:
    raise ConfigError("recjax explain needs the workdirs of two or more runs.")
  check_outs(values["out"], _SUFFIXES)
  runs, failures = load_runs(workdirs)
  notes = [f"{each.workdir}: {each.reason}" for each in failures]
  if len(runs) < 2:
    raise RunError("\n".join([f"{len(runs)} finished runs; two tell.", *notes]))
  protocols = _protocols(runs)
  data = {
    (run.result["dataset"], run.result["data_fingerprint"]) for run in runs
  }
  if len(data) > 1:
    names = ", ".join(f"{name} ({key[:12]})" for name, key in sorted(data))
    notes.append(f"the data differ, too: {names}.")
  _print(protocols, notes)
  for out in values["out"]:
    _write(pathlib.Path(out), protocols, notes)
    print(out)


def _protocols(runs: Sequence[Run]) -> list[list[Run]]:
  """The runs of each protocol, in the order in which they were given."""
  found: dict[str, list[Run]] = {}
  for run in runs:
    found.setdefault(run.result["protocol_hash"], []).append(run)
  return list(found.values())


def _name(place: int) -> str:
  """A, B, ..., Z, P27, P28, ..."""
  letters = string.ascii_uppercase
  return letters[place] if place < len(letters) else f"P{place + 1}"


def _heads(protocols: Sequence[Sequence[Run]]) -> list[str]:
  heads = []
  for place, runs in enumerate(protocols):
    first = runs[0].result
    text = first.get("protocol_text") or ""
    head = f"{_name(place)} {first['protocol_hash']}"
    heads.append(head + (f": {text}" if text else ""))
  return heads


def _print(protocols: Sequence[Sequence[Run]], notes: Sequence[str]) -> None:
  out = console.Console()
  say = lambda text: out.print(text, markup=False, soft_wrap=True)
  for head, runs in zip(_heads(protocols), protocols):
    say(head)
    for run in runs:
      say(f"  {run.workdir}")
  for place, lines in _differences(protocols):
    say(f"\nA and {_name(place)}")
    for line in lines:
      say(f"- {line}")
  say(f"\n{_LEAD}" if len(protocols) > 1 else _ALIKE)
  for note in notes:
    say(f"NOTE {note}")


def _differences(
  protocols: Sequence[Sequence[Run]],
) -> list[tuple[int, list[str]]]:
  """Of each protocol but the first, its lines beside the first."""
  told = [runs[0].result["protocol"] for runs in protocols]
  return [
    (place, explanation_lines(told[0], other, ("A", _name(place))))
    for place, other in enumerate(told)
    if place
  ]


def _write(
  path: pathlib.Path,
  protocols: Sequence[Sequence[Run]],
  notes: Sequence[str],
) -> None:
  if path.suffix == ".json":
    files.write_json_atomically(path, plain(_facts(protocols, notes)))
    return
  lines = ["# Protocols", ""]
  for head, runs in zip(_heads(protocols), protocols):
    lines.append(f"- {head}")
    lines += [f"  - {run.workdir}" for run in runs]
  for place, told in _differences(protocols):
    lines += ["", f"## A and {_name(place)}", "", *(f"- {x}" for x in told)]
  lines += ["", _LEAD if len(protocols) > 1 else _ALIKE]
  for note in notes:
    lines += ["", f"Note: {note}"]
  files.write_text_atomically(path, "\n".join(lines) + "\n")


def _facts(
  protocols: Sequence[Sequence[Run]], notes: Sequence[str]
) -> dict[str, Any]:
  first = protocols[0][0].result["protocol"]
  return {
    "protocols": [
      {
        "name": _name(place),
        "hash": runs[0].result["protocol_hash"],
        "protocol": runs[0].result["protocol"],
        "workdirs": [str(run.workdir) for run in runs],
        "differences": [
          dataclasses.asdict(each)
          for each in explain_protocols(first, runs[0].result["protocol"])
        ],
      }
      for place, runs in enumerate(protocols)
    ],
    "notes": list(notes),
  }
