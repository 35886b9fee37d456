"""Reading text in Criteo's format: our source beside pyarrow's CSV reader.

    python -m benchmarks.criteo_reading [--rows N] [--folder DIR] [--rounds R]

`PlantedCriteo` writes a file once, 250 bytes a row. Ours is what every run
reads: `Criteo.blocks`, which can go on behind each block, checks the labels
and makes them float32. The peers are `pyarrow.csv.read_csv`, which holds the
whole file in memory, and `pyarrow.csv.open_csv`, which like ours holds a block
and forgets it, each with pyarrow's own size of a block and with 4 MiB; the
fastest is told. What was read is compared before it is timed.

All read the file in turn, R times, after once that fills the page cache. The
ratio is one of seconds, ours over theirs, so that 1.43 stands for 70% of the
rows a second. `dealt_out` is the same ratio with a tenth of the rows dealt out
for validation and another for test, which pyarrow does not do.
"""

import argparse
import functools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
from pyarrow import csv

from recjax.data.sources import criteo, planted_criteo
from recjax.runs import environment

# As large as what one thread of ours takes at a time.
PEER_BLOCK_BYTES = 4 << 20

Run = Callable[[], Iterator[pa.Table]]


def make_ours(path: pathlib.Path, share: float) -> Run:
  """Our source; `share` of the rows for validation and as much for test."""
  source = criteo.Criteo(
    str(path), validation_fraction=share, test_fraction=share
  )

  def run() -> Iterator[pa.Table]:
    for block in source.blocks(path.parent):
      yield from block.parts.values()

  return run


def make_peers(path: pathlib.Path) -> dict[str, Run]:
  """The ways in which pyarrow reads a file."""
  names = list(criteo.COLUMNS)
  default = csv.ReadOptions(column_names=names)
  large = csv.ReadOptions(column_names=names, block_size=PEER_BLOCK_BYTES)
  options = (
    csv.ParseOptions(delimiter="\t", quote_char=False),
    csv.ConvertOptions(
      column_types=criteo.LAYOUT.types,
      strings_can_be_null=True,
      null_values=[""],
    ),
  )

  def whole(reading: csv.ReadOptions) -> Iterator[pa.Table]:
    yield csv.read_csv(path, reading, *options)

  def in_blocks(reading: csv.ReadOptions) -> Iterator[pa.Table]:
    with csv.open_csv(path, reading, *options) as reader:
      for batch in reader:
        yield pa.Table.from_batches([batch])

  return {
    "read_csv": functools.partial(whole, default),
    "read_csv(4 MiB)": functools.partial(whole, large),
    "open_csv": functools.partial(in_blocks, default),
    "open_csv(4 MiB)": functools.partial(in_blocks, large),
  }


def check_same(ours: Run, theirs: Run) -> None:
  """Raises AssertionError unless both read the same rows."""
  found, expected = (pa.concat_tables(run()) for run in (ours, theirs))
  assert found.equals(expected.cast(found.schema)), "what was read differs"


def measure(
  path: pathlib.Path, num_rows: int, rounds: int
) -> dict[str, object]:
  """Reads the file in turn; what the last line tells."""
  ours, peers = make_ours(path, 0.0), make_peers(path)
  check_same(ours, peers["read_csv"])
  runs = {"ours": ours, "dealt_out": make_ours(path, 0.1), **peers}
  secs: dict[str, list[float]] = {name: [] for name in runs}
  for number in range(rounds + 1):
    for name, run in runs.items():
      start = time.perf_counter()
      read = sum(table.num_rows for table in run())
      taken = time.perf_counter() - start
      assert read == num_rows, f"{name} read {read} of {num_rows} rows"
      if number:  # The first round fills caches.
        secs[name].append(taken)
    if number:
      rates = (f"{name} {num_rows / secs[name][-1] / 1e6:.2f}" for name in runs)
      print(f"round {number}, million rows a second: {', '.join(rates)}")
  peer = min(peers, key=lambda name: statistics.median(secs[name]))

  def ratio(name: str) -> float:
    pairs = zip(secs[name], secs[peer], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 4)

  return {
    "name": "criteo_reading",
    "ratio": ratio("ours"),
    "ours": round(statistics.median(secs["ours"]), 3),
    "peer": round(statistics.median(secs[peer]), 3),
    "unit": f"s/{num_rows:,} rows",
    "peer_name": f"pyarrow {pa.__version__}, {peer}",
    "device": environment.device_text(),
    "dealt_out": ratio("dealt_out"),
    "rows": num_rows,
    "rounds": rounds,
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rows", type=int, default=1 << 20)
  parser.add_argument("--folder", help="keeps the file there")
  parser.add_argument("--rounds", type=int, default=7)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(args.folder or scratch, "planted_criteo")
    source = planted_criteo.PlantedCriteo(num_rows=args.rows)
    (path,) = source.write(folder.absolute(), rows_per_file=args.rows)
    print(f"{args.rows:,} rows, {path.stat().st_size:,} bytes")
    print(json.dumps(measure(path, args.rows, args.rounds)))


if __name__ == "__main__":
  main()
