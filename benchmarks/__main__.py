"""Runs every benchmark by itself, one after another, and prints a table."""

import json
import subprocess
import sys

from rich import console, table

RUNS = (
  ("sasrec_training_epoch", "--dataset", "ml1m"),
  ("sasrec_training_epoch", "--dataset", "beauty"),
  ("full_catalogue_evaluation",),
  ("embedding_step", "--peer", "torch"),
  ("embedding_step", "--peer", "dense"),
  ("embedding_step", "--peer", "million", "--rows", "20000000"),
  ("dlrm_step", "--optimizer", "adagrad"),
  ("dlrm_step", "--optimizer", "sgd"),
  ("deepfm_frappe_epoch",),
  ("criteo_reading",),
  ("mmoe_step", "--peer", "dense"),
  ("mmoe_step", "--peer", "torch_batched"),
  ("two_tower_epoch",),
  ("exact_search",),
  ("ann_search",),
  ("bootstrap",),
  ("sweep_workers",),
)
COLUMNS = ("name", "ratio", "ours", "peer", "unit", "peer_name", "device")


def run(module: str, *arguments: str) -> dict[str, object] | None:
  """Runs a benchmark, passes on what it prints and reads its last line."""
  command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
  print("$", " ".join(command[1:]), flush=True)
  last = ""
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout is not None
    for line in process.stdout:
      print(line, end="", flush=True)
      last = line.strip() or last
  if process.returncode:
    print(f"benchmarks.{module} failed with {process.returncode}.")
    return None
  return json.loads(last)


def main() -> int:
  lines = [run(*arguments) for arguments in RUNS]
  shown = table.Table(*COLUMNS)
  for line in lines:
    if line is not None:
      shown.add_row(*(str(line[column]) for column in COLUMNS))
  console.Console().print(shown)
  return 1 if None in lines else 0


if __name__ == "__main__":
  sys.exit(main())
