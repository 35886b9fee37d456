"""Training from disk: planted text in Criteo's format, all the way to the AUC.

    python -m benchmarks.criteo_from_disk [N [DIR]] [--gin_file FILE]
      [--gin.NAME=VALUE ...]

Four processes, one after the other, each of which tells its time and the most
memory it ever held (VmHWM of /proc/self/status):

- generate: `PlantedCriteo.write`, N rows of text from a known logistic model;
- convert: the text is read by `Criteo`, features are fitted, and all rows are
  encoded into shards (`prepare_stream`);
- train: `recjax.launch.train` with the settings of the gin file, from raw data
  to result.json, on the shards;
- judge: the test rows are scored by the trained model and by the true logits.

The last line is JSON. `auc_gap` is the AUC of the true logits less that of the
model, both on the labels of the test rows. `expected_auc_gap` is the same in
expectation over labels (see `expected_auc`), which takes the noise of the
labels away; and no model can be better than 0 there.

What is done is kept in DIR: a second call goes on where the first stopped. N
rows need about 250 bytes of text each and 110 of shards.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import time
from typing import Any

import numpy as np

STAGES = ("generate", "convert", "train", "judge")
GIN_FILE = "runs/lr_planted_criteo.gin"
VALIDATION, TEST = 0.02, 0.1


def planted(rows: int) -> Any:
  """The process; its rows are written in one part."""
  from recjax.data.sources.planted_criteo import PlantedCriteo

  return PlantedCriteo(rows, validation=0, test=0)


def source(options: argparse.Namespace) -> Any:
  """The written text, of which rows are dealt out at random."""
  from recjax.data.sources.criteo import Criteo

  return Criteo(
    str(options.folder.absolute() / "text"),
    validation_fraction=VALIDATION,
    test_fraction=TEST,
    name="planted_criteo_text",
  )


def experiment(options: argparse.Namespace) -> Any:
  """The settings of the gin file, for the written text."""
  from recjax import gin_config, ranking_experiment

  bindings = [binding.removeprefix("--gin.") for binding in options.gin]
  gin_config.parse([options.gin_file], bindings)
  settings = gin_config.construct(ranking_experiment.RankingExperiment)
  return dataclasses.replace(settings, source=source(options))


def generate(options: argparse.Namespace) -> dict[str, Any]:
  """Writes the text."""
  paths = planted(options.rows).write(options.folder / "text")
  return {"text_bytes": sum(path.stat().st_size for path in paths)}


def convert(options: argparse.Namespace) -> dict[str, Any]:
  """Fits the features and encodes all rows."""
  parts = experiment(options).open(".", options.folder / "cache").parts
  split = parts.split
  shards = [
    shard["bytes"]
    for examples in (split.train, split.validation, split.test)
    for shard in examples.shards.values()
  ]
  return {
    "training_rows": len(split.train),
    "test_rows": len(split.test),
    "row_bytes": split.train.row_bytes,
    "shard_bytes": sum(shards),
    "num_ids": sum(
      split.features.num_ids(name) for name in split.features.categorical
    ),
  }


def train(options: argparse.Namespace) -> dict[str, Any]:
  """Trains from the shards, and tests."""
  from recjax import launch
  from recjax.runs.record import RunRecord

  settings = experiment(options)
  record = RunRecord(options.folder / "run")
  cache = options.folder / "cache"
  start = time.perf_counter()
  result = launch.train(settings, record, ".", cache_dir=cache)
  secs = time.perf_counter() - start
  return {
    "num_steps": result["num_steps"],
    "best_step": result["best_step"],
    "metrics": result["metrics"],
    "intervals": result["intervals"],
    "rows_per_sec": result["num_steps"] * settings.batch_size / secs,
  }


def judge(options: argparse.Namespace) -> dict[str, Any]:
  """The AUC of the model and that of the truth, on the same rows."""
  from recjax import launch
  from recjax.data.sources.planted_criteo import expected_auc
  from recjax.metrics.auc import auc_metric

  bench = experiment(options).open(".", options.folder / "cache")
  process, raw = planted(options.rows), source(options)
  tables = (b.parts["test"] for b in raw.blocks(".") if "test" in b.parts)
  pairs = [(process.logits(t), t.column("label").to_numpy()) for t in tables]
  truth, raw_label = (np.concatenate(column) for column in zip(*pairs))
  label = bench.parts.labels("test")
  np.testing.assert_array_equal(label, raw_label)  # The same rows.
  weights = launch.best_weights(bench.task, options.folder / "run")
  score = bench.scores(weights, "test").astype(np.float64)
  found = {
    "auc": float(auc_metric(score, label)),
    "planted_auc": float(auc_metric(truth, label)),
    "expected_auc": expected_auc(score, truth),
    "expected_planted_auc": expected_auc(truth, truth),
  }
  found["auc_gap"] = found["planted_auc"] - found["auc"]
  found["expected_auc_gap"] = (
    found["expected_planted_auc"] - found["expected_auc"]
  )
  return found


def peak_bytes() -> int:
  """The most memory that this process ever held."""
  status = pathlib.Path("/proc/self/status").read_text("ascii")
  found = re.search(r"VmHWM:\s+(\d+) kB", status)
  assert found is not None, "this kernel does not tell the peak of memory"
  return 1024 * int(found[1])


def run_stage(options: argparse.Namespace) -> None:
  """One of the four, in this process; the result goes into a file."""
  start = time.perf_counter()
  found = globals()[options.stage](options)
  found["secs"] = time.perf_counter() - start
  found["rows_per_sec"] = found.get(
    "rows_per_sec", options.rows / found["secs"]
  )
  found["peak_gib"] = peak_bytes() / 2**30
  text = json.dumps(found, indent=2)
  (options.folder / f"{options.stage}.json").write_text(text)
  print(options.stage, text, flush=True)


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
  parser.add_argument(
    "folder",
    nargs="?",
    type=pathlib.Path,
    default=pathlib.Path("/tmp/planted_criteo"),
  )
  parser.add_argument("--gin_file", default=GIN_FILE)
  parser.add_argument("--stage", choices=STAGES, help="this one alone")
  options, options.gin = parser.parse_known_args()
  wrong = [flag for flag in options.gin if not flag.startswith("--gin.")]
  if wrong:
    parser.error(f"unknown: {' '.join(wrong)}")
  options.folder.mkdir(parents=True, exist_ok=True)
  if options.stage:
    run_stage(options)
    return 0
  found = {}
  for stage in STAGES:
    command = [sys.executable, "-m", "benchmarks.criteo_from_disk"]
    command += [*sys.argv[1:], f"--stage={stage}"]
    subprocess.run(command, check=True)
    found[stage] = json.loads((options.folder / f"{stage}.json").read_text())
  print(json.dumps({"name": "criteo_from_disk", "rows": options.rows, **found}))
  return 0


if __name__ == "__main__":
  sys.exit(main())
