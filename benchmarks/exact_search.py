"""Exact search: blocks and two selections in JAX against FAISS's flat index.

    python -m benchmarks.exact_search [--items N] [--dim D] [--queries Q]
      [--k K] [--threads T] [--rounds R]

Q queries against N random vectors under the inner product. Both take the same
T threads: this process is bound to T cores before either is loaded. Both find
the same items; where scores differ by rounding alone two may change places.
They search in turn, R times; the median ratio of the pairs is told.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np


def bind_to_cores(threads: int) -> None:
  """Binds this process to the last cores that it may use."""
  cores = sorted(os.sched_getaffinity(0))
  if threads > len(cores):
    raise SystemExit(f"--threads={threads}, but there are {len(cores)} cores")
  os.sched_setaffinity(0, cores[-threads:])


def make_runs(
  vectors: np.ndarray, queries: np.ndarray, k: int, threads: int
) -> dict[str, Callable[[], np.ndarray]]:
  """A search of each; it returns the ids found."""
  import faiss

  from recjax.retrieval.exact_index import ExactIndexConfig

  faiss.omp_set_num_threads(threads)
  flat = faiss.IndexFlatIP(vectors.shape[1])
  flat.add(vectors)
  item_id = np.arange(1, len(vectors) + 1, dtype=np.int32)
  index = ExactIndexConfig().make_index().build(vectors, item_id)
  print(f"ours: built in {index.build_secs:.1f} s")
  return {
    "ours": lambda: index.search(queries, k=k)[1],
    "peer": lambda: flat.search(queries, k)[1] + 1,
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--items", type=int, default=1_000_000)
  parser.add_argument("--dim", type=int, default=64)
  parser.add_argument("--queries", type=int, default=512)
  parser.add_argument("--k", type=int, default=100)
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  bind_to_cores(args.threads)

  from recjax.runs import environment

  rng = np.random.default_rng(0)
  vectors = rng.standard_normal((args.items, args.dim), np.float32)
  queries = rng.standard_normal((args.queries, args.dim), np.float32)
  runs = make_runs(vectors, queries, args.k, args.threads)
  found = {name: run() for name, run in runs.items()}  # Compiles.
  same = np.mean(np.sort(found["ours"]) == np.sort(found["peer"]))
  print(f"{same:.6f} of the items found are the same")
  if same < 0.999:
    raise SystemExit("the two do not agree")
  secs = {name: [] for name in runs}
  for number in range(1, args.rounds + 1):
    for name, run in runs.items():
      start = time.perf_counter()
      run()
      secs[name].append(time.perf_counter() - start)
    mine, theirs = secs["ours"][-1], secs["peer"][-1]
    print(
      f"round {number}: ours {mine:.3f}, theirs {theirs:.3f} s, ratio"
      f" {mine / theirs:.3f}"
    )
  pairs = zip(secs["ours"], secs["peer"], strict=True)
  line = {
    "name": "exact_search",
    "ratio": round(statistics.median(a / b for a, b in pairs), 4),
    "ours": round(statistics.median(secs["ours"]), 4),
    "peer": round(statistics.median(secs["peer"]), 4),
    "unit": "s",
    "peer_name": "FAISS IndexFlatIP",
    "device": environment.device_text(),
    "items": args.items,
    "dim": args.dim,
    "queries": args.queries,
    "k": args.k,
    "threads": args.threads,
    "rounds": args.rounds,
  }
  print(json.dumps(line))


if __name__ == "__main__":
  main()
