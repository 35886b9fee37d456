"""The command line: `COMMANDS` by name.

Those about an index of items stand in `recjax.index_commands`, most others in
modules of their own, the flags that commands share in `recjax.command_flags`.
"""

import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from absl import flags, logging
from rich import console

from recjax import (
  ab_command,
  command_flags,
  compare_command,
  diff_command,
  errors,
  explain_command,
  files,
  front_command,
  gin_config,
  index_commands,
  launch,
  named_run,
  planning,
  ranking_experiment,
  reproduce_command,
  roots,
  sample_size_command,
  sweep_command,
  workbench,
)
from recjax.command_flags import (
  data_flags,
  gin_flags,
  parse,
  process_flags,
  required,
  workdir_flag,
)
from recjax.data import data_plots, describe, example_plots, first_rows
from recjax.data.describe_examples import describe_examples
from recjax.data.prepare import prepare, prepare_examples
from recjax.runs import labels, report, results_tables
from recjax.runs.record import RunRecord
from recjax.sweeps import folder, sweep_report
from recjax.train import ahead, topologies


def _start_processes(values: dict[str, Any]) -> None:
  if values["num_cpu_devices"]:
    jax.config.update("jax_num_cpu_devices", values["num_cpu_devices"])
  if values["coordinator"]:
    jax.distributed.initialize(
      values["coordinator"],
      values["num_processes"],
      values["process_id"],
    )


def _print_notes(notes: Iterable[str]) -> None:
  for note in notes:
    print(f"note: {note}")


def train(arguments: Sequence[str]) -> None:
  """Trains what a gin file names, or goes on with it."""
  values, _, bindings = parse(
    "train", arguments, gin_flags, workdir_flag, data_flags, process_flags
  )
  workdir = required(values, "workdir", "train")
  if not values["gin_file"]:
    raise errors.ConfigError(
      "recjax train needs --gin_file, such as runs/sasrec_planted.gin."
    )
  _start_processes(values)
  run = named_run.read_run(values["gin_file"], bindings)
  record = RunRecord(workdir)
  if jax.process_index() == 0:
    run.take_up(record)
  if record.is_finished():
    if jax.process_index() == 0:
      print(f"{workdir} is finished; nothing to do.")
      result = record.read_result()
      _print_notes(result.get("notes") or ())
      print(labels.result_line(result))
    return
  result = run.train(record, values["data_dir"], values["cache_dir"])
  if jax.process_index() == 0:
    report.print_report([workdir])
    _print_notes(result.get("notes") or ())
    print(f"record {workdir}")
    print(labels.result_line(result))


def evaluate(arguments: Sequence[str]) -> None:
  """Judges the best parameters of a workdir, maybe under another protocol."""
  values, _, bindings = parse(
    "evaluate", arguments, gin_flags, workdir_flag, data_flags
  )
  workdir = required(values, "workdir", "evaluate")
  settings = roots.experiment_of(workdir, values["gin_file"], bindings)
  tested = launch.evaluate(
    settings, workdir, values["data_dir"], values["cache_dir"]
  )
  protocol_hash = tested.protocol.hash()
  print(f"protocol {tested.protocol.describe()}")
  if tested.floor:
    print(f"floor {labels.metrics_line(tested.floor, {}, protocol_hash)}")
  bias = getattr(tested, "sampled_bias", None)
  for line in bias.lines() if bias else ():
    print(f"bias {line}")
  _print_notes(getattr(tested, "notes", ()))
  print(labels.metrics_line(tested.metrics, tested.intervals, protocol_hash))


def make_report(arguments: Sequence[str]) -> None:
  """Makes tables and plots from the records of runs."""

  def define(values: flags.FlagValues) -> None:
    for name, default, help_text in (
      ("out", "report", "The folder of report.md and report.html."),
      ("metric", "", "Of a sweep: the test metric that is reported."),
      ("published", None, "published.toml: numbers to stand beside."),
      ("results", None, "results.json to update from the records."),
      ("readme", None, "README.md whose table of all results is renewed."),
      ("results_page", None, "docs/results.md, renewed likewise."),
    ):
      flags.DEFINE_string(name, default, help_text, flag_values=values)

  values, workdirs, _ = parse("report", arguments, define)
  if not workdirs:
    raise errors.ConfigError("recjax report needs one or more workdirs.")
  if folder.is_sweep(workdirs[0]):
    _report_sweep(workdirs, values)
    return
  report.print_report(workdirs)
  paths = report.make_report(workdirs, values["out"])
  print(f"{paths.markdown}\n{paths.html}")
  if values["published"]:
    toml = pathlib.Path(values["published"])
    results = pathlib.Path(values["results"] or toml.with_name("results.json"))
    readme = values["readme"]
    # The README beside experiments/ shows all of them.
    shows_all = (
      readme and (pathlib.Path(readme).parent / "experiments").is_dir()
    )
    results_tables.publish(
      toml, workdirs, results, None if shows_all else readme
    )
    print(results)
    experiments = results.parent.parent
    if shows_all:
      rows = results_tables.load_all_results(experiments)
      results_tables.update_readme(readme, rows)
    if values["results_page"]:
      results_tables.update_results_page(experiments, values["results_page"])


def _report_sweep(workdirs: Sequence[str], values: dict[str, Any]) -> None:
  if len(workdirs) > 1 or values["published"]:
    raise errors.ConfigError(
      f"{workdirs[0]} is a sweep, which has a report of its own: name it alone,"
      f" or the runs in it as {workdirs[0]}/trials."
    )
  sweep_report.print_report(workdirs[0], metric=values["metric"])
  for path in sweep_report.write_report(
    workdirs[0], values["out"], metric=values["metric"]
  ):
    print(path)


def describe_data(arguments: Sequence[str]) -> None:
  """Prepares and describes a data set of gin/datasets."""

  def define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
      "out", None, "The folder of the plots.", flag_values=values
    )
    help_text = "Describes the first so many rows of labelled examples alone."
    flags.DEFINE_integer("rows", None, help_text, flag_values=values)

  values, names, bindings = parse(
    "data", arguments, gin_flags, data_flags, define
  )
  gin_files = [f"datasets/{name}.gin" for name in names]
  gin_files += values["gin_file"]
  if not gin_files:
    raise errors.ConfigError(
      "recjax data needs the NAME of a file in gin/datasets, or --gin_file."
    )
  gin_config.parse(gin_files, bindings)
  settings = roots.construct_root()
  if isinstance(settings, ranking_experiment.RankingExperiment):
    _describe_examples(settings.source, values)
  elif values["rows"] is not None:
    raise errors.ConfigError("recjax data: --rows is for labelled examples.")
  else:
    _describe_interactions(settings, values)


def _describe_examples(source: Any, values: dict[str, Any]) -> None:
  if values["rows"] is None:
    split = prepare_examples(source, values["data_dir"], values["cache_dir"])
  else:
    split = first_rows.read_first_rows(
      source, values["data_dir"], values["rows"]
    )
  summary = describe_examples(split)
  console.Console().print(*summary.tables())
  out = pathlib.Path(values["out"] or f"data-{source.name}")
  print(example_plots.save_example_plot(summary, out / "examples.png"))


def _describe_interactions(settings: Any, values: dict[str, Any]) -> None:
  interactions = prepare(
    settings.source, values["data_dir"], values["cache_dir"]
  )
  summary = describe.describe(interactions)
  console.Console().print(*summary.tables())
  split = workbench.split_data(
    settings.splitter, interactions, values["data_dir"]
  )
  print(f"split {split.name}")
  print("\n".join(f"  {line}" for line in split.leakage.lines()))
  out = pathlib.Path(values["out"] or f"data-{interactions.name}")
  for save, name in (
    (data_plots.save_popularity_plot, "popularity.png"),
    (data_plots.save_history_length_plot, "history_length.png"),
  ):
    save(interactions, out / name)
    print(out / name)


def plan(arguments: Sequence[str]) -> None:
  """Tells where the tables of a run would lie, and what a step would cost."""

  def define(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
      "topology",
      [],
      "A slice of TPUs, such as v5e:4x4, for which the training step is"
      " compiled and weighed; no TPU is needed. May be repeated.",
      flag_values=values,
    )
    flags.DEFINE_string(
      "out", None, "A JSON file of what was found.", flag_values=values
    )

  values, _, bindings = parse("plan", arguments, gin_flags, data_flags, define)
  if not values["gin_file"]:
    raise errors.ConfigError("recjax plan needs --gin_file.")
  names = values["topology"]
  if names and not ahead.is_child():
    for name in names:
      topologies.parse_topology(name)
    found = ahead.run_child(
      ["-m", "recjax.cli", "plan", *arguments],
      on_outcome=lambda outcome: print(f"{outcome.describe()}\n"),
    )
    if values["out"]:
      rows = [outcome.to_dict() for outcome in found]
      files.write_json_atomically(values["out"], rows)
    return
  try:
    gin_config.parse(values["gin_file"], bindings)
    settings = roots.construct_root()
    places = values["data_dir"], values["cache_dir"]
    if names:
      planning.compile_ahead(settings, names, *places)
      return
  except (errors.ConfigError, errors.DataError) as error:
    if not names:
      raise
    ahead.send_error(error)  # It is the parent's to tell.
    return
  found = planning.plan_tables(settings, *places)
  print(found.describe())
  if values["out"]:
    files.write_json_atomically(values["out"], found.to_dict())


COMMANDS = {
  "plan": plan,
  "train": train,
  "evaluate": evaluate,
  "report": make_report,
  "compare": compare_command.compare,
  "diff": diff_command.diff,
  "explain": explain_command.explain,
  "front": front_command.front,
  "ab": ab_command.ab,
  "sample_size": sample_size_command.sample_size,
  "sweep": sweep_command.sweep,
  "reproduce": reproduce_command.reproduce,
  "data": describe_data,
  "index": index_commands.index,
  "query": index_commands.query,
  "export": index_commands.export,
}


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit status."""
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  logging.set_verbosity(logging.WARNING)
  if not arguments or arguments[0] in ("-h", "--help", "help"):
    print(command_flags.USAGE)
    return 0
  command = arguments[0]
  try:
    errors.check_choice("the command of recjax", command, COMMANDS)
    COMMANDS[command](arguments[1:])
  except (
    errors.ConfigError,
    errors.DataError,
    errors.RunError,
    OSError,
  ) as error:
    print(f"recjax: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt as error:
    print(f"recjax: {str(error) or 'interrupted.'}", file=sys.stderr)
    return 130  # 128 and the number of the signal, as shells have it.
  return 0


if __name__ == "__main__":
  sys.exit(main())
