"""`recjax reproduce`: the ledger of published numbers, and its runs."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.console
from absl import flags

from recjax import files, reproduction
from recjax.command_flags import (
  check_outs,
  data_flags,
  parse,
  required,
  workdir_flag,
)
from recjax.errors import ConfigError, RunError
from recjax.reproduction import Budget, Places, Reproduction
from recjax.runs import labels, ledger_tables
from recjax.runs.ledger import Ledger, find_experiments, load_ledger
from recjax.runs.record import plain

_WIDTH = 100  # Of tables where there is no terminal to fit.


def _flags(values: flags.FlagValues) -> None:
  for name, help_text in (
    ("list", "Lists the published numbers beside ours, and trains nothing."),
    ("json", "With --list: prints JSON."),
    ("all", "All recipes whose data are at hand, the cheapest first."),
    ("smoke", "Three tiny steps of each recipe; nothing is compared."),
    ("update", "Writes the results into results.json and the pages made of"
     " it."),
  ):  # fmt: skip
    flags.DEFINE_boolean(name, False, help_text, flag_values=values)
  flags.DEFINE_float(
    "budget", None, "With --all: minutes; no run is started after them.",
    flag_values=values,
  )  # fmt: skip
  for name, help_text in (
    ("out", "With --list: a .json file of the ledger."),
    ("experiments", "The folder of published.toml files; experiments/ of the"
     " checkout by default."),
  ):  # fmt: skip
    flags.DEFINE_string(name, None, help_text, flag_values=values)


def reproduce(arguments: Sequence[str]) -> None:
  """Lists published numbers beside ours, or makes ours again."""
  values, names, bindings = parse(
    "reproduce", arguments, workdir_flag, data_flags, _flags
  )
  _check(values, names, bindings)
  budget = Budget() if values["budget"] is None else Budget(values["budget"])
  experiments = find_experiments(values["experiments"])
  ledger = load_ledger(experiments)
  if values["list"]:
    listed = ledger.only(dict.fromkeys(names or ledger.names))
    _list(listed, values, in_detail=bool(names))
    return
  places = Places(
    required(values, "workdir", "reproduce"),
    values["data_dir"],
    values["cache_dir"],
  )
  chosen = [
    reproduction.make_reproduction(ledger, name, places)
    for name in dict.fromkeys(names or _reproducible(ledger))
  ]
  if values["smoke"]:
    _smoke(chosen, bindings, skip=values["all"])
    return
  show = lambda each: _show(each, experiments, values["update"])
  if values["all"]:
    failed = reproduction.train_all(chosen, budget, _tell, show)
    if failed:
      raise RunError(
        f"{len(failed)} of {len(chosen)} recipes failed:\n" + "\n".join(failed)
      )
    return
  for each in chosen:
    reproduction.train_seeds(each, budget, _tell)
    show(each)


def _check(
  values: dict[str, Any], names: Sequence[str], bindings: Sequence[str]
) -> None:
  """Raises ConfigError where flags do not go together."""
  if not names and not values["all"] and not values["list"]:
    raise ConfigError(
      "recjax reproduce needs the NAME of a recipe, --all or --list."
    )
  for other, needed in (
    ("json", "list"),
    ("out", "list"),
    ("budget", "all"),
  ):
    if values[other] not in (None, False) and not values[needed]:
      raise ConfigError(f"recjax reproduce: --{other} goes with --{needed}.")
  for one, other in (
    ("list", "all"),
    ("list", "smoke"),
    ("list", "update"),
    ("smoke", "update"),
    ("smoke", "budget"),
  ):
    if values[one] and values[other] not in (None, False):
      raise ConfigError(
        f"recjax reproduce: --{one} and --{other} do not go together."
      )
  if names and values["all"]:
    raise ConfigError("recjax reproduce: give names or --all, and not both.")
  if bindings and not values["smoke"]:
    raise ConfigError(
      f"recjax reproduce takes recipes as they are; --gin.{bindings[0]} goes"
      " with `recjax train`, or with --smoke."
    )


def _tell(text: str) -> None:
  print(text, flush=True)


def _reproducible(ledger: Ledger) -> list[str]:
  return [
    name for name in ledger.names if ledger.of(name)[0].recipe is not None
  ]


def _list(ledger: Ledger, values: dict[str, Any], *, in_detail: bool) -> None:
  out = values["out"]
  if out is not None:
    check_outs([out], [".json"])
  places = Places("", values["data_dir"], values["cache_dir"])
  ledger = reproduction.check_ledger(ledger, places)
  facts = plain(ledger.to_dict())
  if values["json"]:
    print(json.dumps(facts, indent=2, ensure_ascii=False))
  else:
    console = _console()
    for part in ledger_tables.overview(ledger):
      console.print(part, markup=False, highlight=False)
    lines = [ledger_tables.details(entry) for entry in ledger.entries]
    for line in sum(lines if in_detail else [], []):
      console.print(line, markup=False, highlight=False)
  if out is not None:
    files.write_json_atomically(out, facts)
    if not values["json"]:
      print(out)


def _console() -> rich.console.Console:
  console = rich.console.Console()
  if not console.is_terminal:
    console.width = max(console.width, _WIDTH)
  return console


def _smoke(
  chosen: Sequence[Reproduction], bindings: Sequence[str], *, skip: bool
) -> None:
  """Three steps of each; `skip` leaves those without data out."""
  for each in chosen:
    missing = each.check().missing_data if skip else ""
    if missing:
      print(f"{each.name}: left out, data not at hand: {missing}")
      continue
    result = each.smoke(bindings)
    print(f"{each.name}: {result['num_steps']} steps, not to be compared")
    print(labels.result_line(result), flush=True)


def _show(each: Reproduction, experiments: pathlib.Path, update: bool) -> None:
  """Prints published numbers and ours, and writes ours where asked."""
  rows = each.rows()
  if not rows:
    return
  console = _console()
  console.print(ledger_tables.beside_published(each.entries, rows))
  for line in ledger_tables.remarks(each.entries, rows):
    console.print(line, markup=False, highlight=False)
  if update and len(each.finished_seeds()) < len(each.recipe.seeds):
    print(f"{each.name}: results.json stays as it is, for seeds are missing.")
  elif update:
    for path in reproduction.update(each, experiments):
      print(path)
