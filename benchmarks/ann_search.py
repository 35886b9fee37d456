"""Approximate search at one recall: ScaNN, and FAISS's graph and lists.

    python -m benchmarks.ann_search [--vectors FILE.npz] [--items N] [--dim D]
      [--clusters C] [--noise S] [--recall R] [--k K] [--queries Q]
      [--batch B] [--rounds R] [--ef-construction E] [--skip NAME ...]

N vectors of length 1 in planted clusters: a centre drawn on the sphere plus
normal noise of S in each dimension. Queries are drawn likewise. With --vectors,
the items.npz of `recjax export`, its vectors are repeated until there are N,
with noise of S times their mean norm over sqrt(dim), and so are the queries; so
neighbours are as far apart as trained items let them be.

Each index is built once, and its settings of the search are swept on half of
the queries until recall@k is at least R; the other half tells the recall that
is printed. The swept settings are leaves and reordering of ScaNN, candidates
of the graph, lists and reordering of the codes. ScaNN's codes take half a byte
for each dimension, and so do FAISS's codes of 8 bits for two dimensions and,
for its FastScan, of 4 bits for one or two. Then all search in turn, batches of
B queries, R rounds of a second each. Every index is called through
`Index.search` of recjax, which costs each the same.

Builds and searches take one thread on one core, to which this process is bound
before anything is loaded. Queries a second are told by the seconds that the
process had the core, which others on the machine do not change much, and by
the clock on the wall beside it. "ratio" is ScaNN's over those of the best
approximate peer; the others stand beside it, with build time and memory.
"""

import argparse
import json
import os
import pathlib
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.exact_search import bind_to_cores

EXACT = ("exact", "faiss_flat")


def planted(
  num: int, centres: np.ndarray, noise: float, seed: int
) -> np.ndarray:
  """Points of length 1 about centres."""
  rng = np.random.default_rng(seed)
  points = rng.standard_normal((num, centres.shape[1]), np.float32) * noise
  points += centres[rng.integers(len(centres), size=num)]
  return points / np.linalg.norm(points, axis=1, keepdims=True)


def tiled(num: int, rows: np.ndarray, noise: float, seed: int) -> np.ndarray:
  """Rows of an array, drawn again and again, with noise."""
  rng = np.random.default_rng(seed)
  scale = noise * np.linalg.norm(rows, axis=1).mean() / rows.shape[1] ** 0.5
  points = rng.standard_normal((num, rows.shape[1]), np.float32) * scale
  return (points + rows[rng.integers(len(rows), size=num)]).astype(np.float32)


def load_rows(path: pathlib.Path) -> np.ndarray:
  """Vectors of items that `recjax export` wrote."""
  with np.load(path) as arrays:
    return arrays["vector"].astype(np.float32)


def make_data(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
  """Items and queries."""
  if args.vectors:
    rows = load_rows(args.vectors)
    make = lambda num, seed: tiled(num, rows, args.noise, seed)
  else:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((args.clusters, args.dim), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    make = lambda num, seed: planted(num, centres, args.noise, seed)
  return make(args.items, 1), make(args.queries, 2)


def contenders(args: argparse.Namespace) -> dict[str, tuple[Any, dict]]:
  """Settings of the build, and the values swept, of every index."""
  from recjax.retrieval.exact_index import ExactIndexConfig
  from recjax.retrieval.faiss_index import FaissConfig
  from recjax.retrieval.scann_index import ScannConfig
  from recjax.retrieval.scann_tuner import doubled

  leaves = args.leaves or 2 * int(args.items**0.5)
  times = (1.05, 1.1, 1.2, 1.3, 1.5, 2, 2.5, 3, 4, 6)
  reorder = tuple(round(args.k * each) for each in times)
  lists = {"num_probes": doubled(leaves), "reorder": reorder}

  def codes(pq_m: int, pq_bits: int) -> tuple[FaissConfig, dict]:
    return FaissConfig(
      "ivf_pq", num_lists=leaves, pq_m=pq_m, pq_bits=pq_bits
    ), lists

  return {
    "scann": (
      ScannConfig(
        num_leaves=leaves, dimensions_per_block=1, training_threads=1
      ),
      {"num_leaves_to_search": doubled(leaves), "reorder": reorder},
    ),
    "exact": (ExactIndexConfig(), {}),
    "faiss_flat": (FaissConfig("flat"), {}),
    "faiss_hnsw": (
      FaissConfig("hnsw", 32, args.ef_construction),
      {"ef_search": doubled(2048)[4:]},
    ),
    "faiss_ivf_pq": codes(args.dim // 2, 8),
    "faiss_ivf_pq_fastscan": codes(args.dim // 2, 4),
    "faiss_ivf_pq_fastscan_long": codes(args.dim, 4),
  }


def memory_mib() -> float:
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  (line,) = (line for line in lines if line.startswith("VmRSS:"))
  return int(line.split()[1]) / 1024


def build(config: Any, vectors: np.ndarray) -> tuple[Any, dict[str, Any]]:
  """An index, and what it takes."""
  item_id = np.arange(1, len(vectors) + 1, dtype=np.int32)
  before = memory_mib()
  index = config.make_index().build(vectors, item_id)
  return index, {
    "build_secs": round(index.build_secs, 1),
    "memory_mib": round(index.memory_bytes / 2**20, 1),
    "grown_mib": round(memory_mib() - before, 1),
  }


def queries_a_sec(
  index: Any, queries: np.ndarray, k: int, batch: int
) -> tuple[float, float]:
  """By the seconds of the process and by the clock, over about a second."""
  wall, mine, done = time.perf_counter(), time.process_time(), 0
  while done == 0 or time.perf_counter() - wall < 1:
    for first in range(0, len(queries), batch):
      index.search(queries[first : first + batch], k=k)
    done += len(queries)
  return (
    done / (time.process_time() - mine),
    done / (time.perf_counter() - wall),
  )


def prepare(
  args: argparse.Namespace, vectors: np.ndarray, queries: np.ndarray
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
  """Builds and tunes every index; the tuned ones and their facts."""
  from recjax.retrieval.exact_index import ExactIndexConfig
  from recjax.retrieval.scann_tuner import recall_at_k, sweep

  item_id = np.arange(1, len(vectors) + 1, dtype=np.int32)
  exact = ExactIndexConfig().make_index().build(vectors, item_id)
  _, truth = exact.search(queries, k=args.k)
  indexes, facts = {}, {}
  for name, (config, grid) in contenders(args).items():
    if name in args.skip:
      continue
    index, facts[name] = build(config, vectors)
    if not grid:
      _, found = index.search(queries, k=args.k)
      facts[name]["recall"] = round(recall_at_k(found, truth), 4)
      indexes[name] = index
    else:
      tuned = sweep(index, queries, truth, wanted_recall=args.recall, grid=grid)
      indexes[name] = tuned.index
      facts[name]["recall"] = round(tuned.recall, 4)
      facts[name] |= {"reached": tuned.reached, **tuned.chosen.settings}
    print(f"{name}: {facts[name]}", flush=True)
  return indexes, facts


def median_ratios(rates: dict[str, list[float]]) -> dict[str, float]:
  """ScaNN's rate over each other's in the same round; the median round."""
  return {
    name: round(
      statistics.median(
        ours / theirs
        for ours, theirs in zip(rates["scann"], others, strict=True)
      ),
      2,
    )
    for name, others in rates.items()
    if name != "scann"
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--vectors", type=pathlib.Path)
  parser.add_argument("--items", type=int, default=1_000_000)
  parser.add_argument("--dim", type=int, default=64)
  parser.add_argument("--clusters", type=int, default=2000)
  parser.add_argument("--noise", type=float, default=0.1)
  parser.add_argument("--recall", type=float, default=0.95)
  parser.add_argument("--k", type=int, default=100)
  parser.add_argument("--queries", type=int, default=2000)
  parser.add_argument("--batch", type=int, default=500)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--leaves", type=int, help="of ScaNN, lists of FAISS")
  parser.add_argument("--ef-construction", type=int, default=200)
  parser.add_argument("--skip", nargs="*", default=[], help="indexes left out")
  args = parser.parse_args()
  bind_to_cores(1)
  # Threads of the libraries below would only wait for each other.
  os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

  from recjax.runs import environment

  vectors, queries = make_data(args)
  print(f"{len(vectors):,} vectors of {vectors.shape[1]}", flush=True)
  indexes, facts = prepare(args, vectors, queries)
  by_process, by_clock = ({name: [] for name in indexes} for _ in range(2))
  for number in range(1, args.rounds + 1):
    for name, index in indexes.items():
      rates = queries_a_sec(index, queries, args.k, args.batch)
      by_process[name].append(rates[0])
      by_clock[name].append(rates[1])
    shown = ", ".join(f"{name} {by_process[name][-1]:,.0f}" for name in indexes)
    print(f"round {number}, queries a second: {shown}", flush=True)
  for name, fact in facts.items():
    fact["queries_a_sec"] = round(statistics.median(by_process[name]), 1)
    fact["by_the_clock"] = round(statistics.median(by_clock[name]), 1)
  ratios, clock_ratios = median_ratios(by_process), median_ratios(by_clock)
  approximate = [name for name in ratios if name not in EXACT]
  nearest = min(approximate or ratios, key=lambda name: ratios[name])
  line = {
    "name": "ann_search",
    "ratio": ratios[nearest],
    "ours": facts["scann"]["queries_a_sec"],
    "peer": facts[nearest]["queries_a_sec"],
    "unit": "queries/s",
    "peer_name": nearest,
    "device": environment.device_text() + ", one core",
    "ratios": ratios,
    "ratios_by_the_clock": clock_ratios,
    "indexes": facts,
    "vectors": str(args.vectors or "planted"),
    **{name: getattr(args, name) for name in ("items", "k", "noise", "batch")},
  }
  print(json.dumps(line))


if __name__ == "__main__":
  main()
