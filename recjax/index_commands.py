"""The commands about an index of items: `recjax index | query | export`."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from rich import console, table

from recjax import files
from recjax.command_flags import (
  data_flags,
  gin_flags,
  parse,
  refuse_bindings,
  required,
  workdir_flag,
)
from recjax.errors import ConfigError, check_range
from recjax.evaluation.candidates import AllItems
from recjax.evaluation.index_quality import IndexQuality, index_quality
from recjax.evaluation.search_speed import Frontier, Timing
from recjax.index_answers import Asked, answer
from recjax.index_building import (
  KINDS,
  build_index,
  judged_k,
  parse_config,
  tune_index,
)
from recjax.index_queries import Names, item_values, known_users, request_set
from recjax.opened_run import OpenedRun, open_run
from recjax.retrieval.exact_index import ExactIndexConfig
from recjax.retrieval.index_inputs import items_fingerprint
from recjax.retrieval.saved_index import load_index
from recjax.runs import environment, labels, retrieval_plots
from recjax.runs.embedding_export import VectorTable, export_vectors
from recjax.runs.record import RunRecord, plain


def _refuse(command: str, positional: Sequence[str], bindings: Sequence[str]):
  """Raises ConfigError for what a command would not look at."""
  for text in positional:
    raise ConfigError(
      f"recjax {command} takes flags alone; got {text!r}. See `recjax"
      f" {command} --help`."
    )
  refuse_bindings(command, bindings, "takes the run as it was trained")


def _open(values: dict[str, Any], command: str) -> OpenedRun:
  workdir = required(values, "workdir", command)
  places = values["data_dir"], values["cache_dir"]
  return open_run(workdir, *places, command=command)


# --- recjax index ------------------------------------------------------------


def index(arguments: Sequence[str]) -> None:
  """Builds an index of the items of a run, and tells what it costs."""

  def define(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
      "kind", "scann", list(KINDS), "What is built.", flag_values=values
    )
    flags.DEFINE_float(
      "wanted_recall",
      0.95,
      "Takes the fastest settings of the search with this recall of exact"
      " search; 0 takes them from gin. For scann and faiss.",
      flag_values=values,
    )

  values, rest, bindings = parse(
    "index", arguments, gin_flags, workdir_flag, data_flags, define
  )
  _refuse("index", rest, ())
  kind, wanted = values["kind"], values["wanted_recall"]
  check_range("--wanted_recall", wanted, 0, 1)
  config = parse_config(kind, values["gin_file"], bindings)
  run = _open(values, "index")
  vectors = run.item_vectors()
  exact = ExactIndexConfig().make_index(checkpoint=run.checkpoint)
  exact.build(vectors, run.item_ids)
  built = build_index(config(len(vectors)), run, vectors)
  frontier = None
  if wanted:
    built, frontier = tune_index(built, exact, run, wanted)
  eval_set = run.bench.eval_set("test")
  protocol = dataclasses.replace(run.bench.protocol, candidates=AllItems())
  k = judged_k(len(vectors))
  quality = index_quality(
    exact,
    built,
    run.bench.user_vectors(run.weights, eval_set),
    eval_set,
    protocol,
    num_items=len(vectors),
    recall_at=(10, k),
    timing=Timing(k=k),
  )
  folder = run.workdir / "index"
  built.save(folder / kind)
  quality_path = folder / f"quality_{kind}.json"
  report = _report(kind, run.checkpoint, quality, frontier)
  files.write_json_atomically(quality_path, plain(report))
  _print_quality(quality, frontier, run.bench.data_name)
  print(f"index {folder / kind}\nquality {quality_path}")
  path = run.workdir / "plots" / f"recall_qps_{kind}.png"
  path.unlink(missing_ok=True)  # It may be of an older index.
  if frontier is not None:
    _plot(frontier, quality, path, f"{run.bench.data_name}: {kind}")
    print(f"plot {path}")


def _report(
  kind: str, checkpoint: str, quality: IndexQuality, frontier: Frontier | None
) -> dict[str, Any]:
  return {
    "kind": kind,
    "checkpoint": checkpoint,
    **quality.to_dict(),
    "frontier": None if frontier is None else frontier.to_dict(),
    "device": environment.device_text(),
    "versions": environment.package_versions(),
  }


def _print_quality(
  quality: IndexQuality, frontier: Frontier | None, data_name: str
) -> None:
  sides = [quality.exact, quality.approximate]
  if quality.approximate.kind == "exact":
    sides = sides[1:]
  print(
    f"{data_name}: {quality.num_items:,} items of {quality.dim} dimensions,"
    f" {quality.num_queries:,} queries"
  )
  shown = table.Table()
  shown.add_column("")
  for side in sides:
    shown.add_column(side.kind, justify="right")
  for name in quality.exact.metrics:
    cells = [labels.number(side.metrics[name]) for side in sides]
    shown.add_row(labels.metric_label(name), *cells)
  for name in quality.exact.recall:
    cells = [labels.number(side.recall[name]) for side in sides]
    shown.add_row(f"{name} of exact search", *cells)
  for name in quality.exact.overlap:
    cells = [labels.number(side.overlap[name]) for side in sides]
    shown.add_row(f"{name} with exact lists", *cells)
  for name in quality.exact.speed.latency_ms:
    cells = [f"{side.speed.latency_ms[name]:.3f}" for side in sides]
    shown.add_row(f"latency {name} (ms)", *cells)
  for name, cells in (
    ("queries a second", [f"{s.speed.queries_per_sec:,.0f}" for s in sides]),
    ("built in (s)", [f"{s.build_secs:.2f}" for s in sides]),
    ("memory (MB)", [f"{s.memory_bytes / 1e6:,.2f}" for s in sides]),
  ):
    shown.add_row(name, *cells)
  console.Console().print(shown)
  print(f"protocol {quality.protocol.describe()}")
  exact, other = (side.speed.queries_per_sec for side in
                  (quality.exact, quality.approximate))  # fmt: skip
  if len(sides) > 1 and exact > 1.1 * other:
    print(
      f"NOTE exact search answers {exact / other:.1f} times as many queries a"
      " second here: so few items need no other index."
    )
  if frontier is not None:
    _print_frontier(frontier)


def _print_frontier(frontier: Frontier) -> None:
  chosen = frontier.chosen
  settings = ", ".join(f"{k}={v}" for k, v in chosen.settings.items())
  recall = f"recall@{frontier.k} {chosen.recall:.4f}"
  if frontier.reached:
    print(f"chosen for recall {frontier.wanted_recall:g}: {settings} ({recall},"
          f" {frontier.held_out_recall:.4f} on other queries)")  # fmt: skip
  else:
    print(
      f"NOTE no setting reached recall {frontier.wanted_recall:g}; {settings}"
      f" has the highest, {recall}. `recjax index --kind=exact` has all."
    )


def _plot(
  frontier: Frontier, quality: IndexQuality, path: pathlib.Path, title: str
) -> None:
  pair = lambda point: (point.recall, point.queries_per_sec)
  retrieval_plots.plot_recall_qps(
    path,
    [pair(point) for point in frontier.tried],
    [pair(point) for point in frontier.frontier],
    exact_qps=frontier.exact_queries_per_sec,
    chosen=pair(frontier.chosen),
    wanted_recall=frontier.wanted_recall,
    kind=quality.approximate.kind,
    k=frontier.k,
    title=title,
  )


# --- recjax query ------------------------------------------------------------


def query(arguments: Sequence[str]) -> None:
  """Recommends items to users, and finds the neighbours of items."""

  def define(values: flags.FlagValues) -> None:
    for name, help_text in (
      ("user", "A user as the source names them; may be repeated."),
      ("item", "An item, by id or title, whose neighbours are shown."),
    ):
      flags.DEFINE_multi_string(name, [], help_text, flag_values=values)
    flags.DEFINE_integer("k", 10, "How many items.", flag_values=values)
    flags.DEFINE_enum(
      "index", None, list(KINDS), "Which index is asked; by default the first"
      " that was built.", flag_values=values,
    )  # fmt: skip

  values, *rest = parse("query", arguments, workdir_flag, data_flags, define)
  _refuse("query", *rest)
  if not values["user"] and not values["item"]:
    raise ConfigError("recjax query needs --user or --item.")
  workdir = pathlib.Path(required(values, "workdir", "query"))
  RunRecord(workdir).read_config_hash()  # Says so if there is no run.
  folder = _index_folder(workdir, values["index"])
  run = _open(values, "query")
  asked = Asked(
    run.bench,
    run.weights,
    load_index(folder, expected_checkpoint=run.checkpoint),
    values["k"],
  )
  answer(asked, values["user"], values["item"])


def _index_folder(workdir: pathlib.Path, kind: str | None) -> pathlib.Path:
  built = [name for name in KINDS if (workdir / "index" / name).is_dir()]
  if kind in built or (kind is None and built):
    return workdir / "index" / (kind or built[0])
  others = f" (built are: {', '.join(built)})" if built else ""
  flag = f" --kind={kind}" if kind else ""
  raise ConfigError(
    f"{workdir} has no {kind + ' ' if kind else ''}index{others}: build it with"
    f" `recjax index --workdir={workdir}{flag}`."
  )


# --- recjax export -----------------------------------------------------------


def export(arguments: Sequence[str]) -> None:
  """Writes the vectors of items, and draws their space."""

  def define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
      "out", None, "The folder of the files.", flag_values=values
    )
    flags.DEFINE_boolean(
      "users", False, "Writes the vectors of users, too.", flag_values=values
    )
    flags.DEFINE_string(
      "colour_by", None, "A column of the items, such as genres, that colours"
      " the plot; training counts by default.", flag_values=values,
    )  # fmt: skip

  values, *rest = parse("export", arguments, workdir_flag, data_flags, define)
  _refuse("export", *rest)
  out = pathlib.Path(required(values, "out", "export"))
  run = _open(values, "export")
  bench = run.bench
  counts = np.asarray(bench.counts)[1 : len(run.item_ids) + 1]
  colour, colour_name = np.log10(1 + counts), "log10(1 + training events)"
  if values["colour_by"]:
    colour_name = values["colour_by"]
    colour = item_values(bench.interactions, colour_name)
  names = Names.of_items(bench.interactions)
  items = VectorTable(
    "items",
    "item_id",
    run.item_ids,
    run.item_vectors(),
    {"raw_id": names.raw_id, "name": names.name, "train_count": counts},
  )
  tables = (items, _user_table(run)) if values["users"] else (items,)
  origin = {
    "checkpoint": run.checkpoint,
    "items_fingerprint": items_fingerprint(items.vectors, items.ids),
    "data": bench.data_name,
    "data_fingerprint": bench.data_fingerprint,
    "similarity": "dot",
    "versions": environment.package_versions(),
  }
  for path in export_vectors(out, tables, origin):
    print(path)
  plot = out / "item_space.png"
  retrieval_plots.plot_item_space(
    plot,
    items.vectors,
    colour,
    counts,
    names.name.tolist(),
    colour_name=colour_name,
    title=f"{bench.data_name}: the space of the items",
  )
  print(plot)


def _user_table(run: OpenedRun) -> VectorTable:
  """All users with an event, after all that is known of them."""
  interactions = run.bench.interactions
  ids = known_users(interactions)
  vectors = run.bench.user_vectors(run.weights, request_set(interactions, ids))
  raw = Names.of_users(interactions).raw_id
  return VectorTable("users", "user_id", ids, vectors, {"raw_id": raw[ids - 1]})
