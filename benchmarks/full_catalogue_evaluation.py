"""Full-catalogue evaluation: counted ranks against the dense PyTorch way.

    python -m benchmarks.full_catalogue_evaluation [--items N --users N --dim D]

Judges HR@10 and NDCG@10 of random vectors on all users of Beauty (with
RECJAX_DATA_DIR set: its real histories and targets; else random ones of the
same sizes), seen items filtered. PyTorch scores blocks of users as
practitioners do: a matrix product, -inf on the seen items, topk, a look for
the target. Both run in turn, both give the same metrics; the medians of the
timed rounds are compared. Peak memory is read in processes of their own.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged

K = 10


def beauty_eval_set(path: pathlib.Path) -> EvalSet:
  """Leave-one-out of the Beauty file: the last item of each user is sought."""
  table = np.loadtxt(path, dtype=np.int32)
  users = int(table[:, 0].max())
  rows = Ragged.from_pairs(table[:, 0] - 1, table[:, 1], users)
  rows = rows.take(np.flatnonzero(rows.lengths >= 3))
  lengths = rows.lengths
  last = np.zeros(len(rows.values), bool)
  last[rows.offsets[1:] - 1] = True
  history = Ragged.from_pairs(
    rows.row_ids[~last], rows.values[~last], len(rows)
  )
  targets = Ragged.from_pairs(rows.row_ids[last], rows.values[last], len(rows))
  user_id = np.arange(1, len(lengths) + 1, dtype=np.int32)
  return EvalSet(user_id, history, targets, history)


def random_eval_set(num_users: int, num_items: int) -> EvalSet:
  """Eight random items seen by each user, and one more sought."""
  rng = np.random.default_rng(0)
  draw = lambda n: rng.integers(1, num_items + 1, num_users * n, np.int32)
  rows = lambda n: Ragged(draw(n), np.arange(num_users + 1) * n)
  history = rows(8)
  user_id = np.arange(1, num_users + 1, dtype=np.int32)
  return EvalSet(user_id, history, rows(1), history)


def load_eval_set(num_users: int, num_items: int) -> EvalSet:
  folder = os.environ.get("RECJAX_DATA_DIR", "")
  path = pathlib.Path(folder) / "bert4rec-beauty" / "beauty.txt"
  if folder and path.is_file():
    users = beauty_eval_set(path)
    if users.targets.values.max() <= num_items and num_users <= len(users):
      return users.take(np.arange(num_users))
  return random_eval_set(num_users, num_items)


def make_vectors(
  num_users: int, num_items: int, dim: int
) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(1)
  queries = rng.standard_normal((num_users, dim), np.float32)
  return queries, rng.standard_normal((num_items + 1, dim), np.float32)


def make_ours(
  users: EvalSet, queries: np.ndarray, items: np.ndarray
) -> Callable[[], dict[str, float]]:
  import jax
  import jax.numpy as jnp

  from recjax.evaluation.evaluate import evaluate
  from recjax.evaluation.protocol import full_catalogue_protocol
  from recjax.retrieval.scorers import DotProductScorer

  scorer = jax.block_until_ready(DotProductScorer(jnp.asarray(items)))
  query_table = jnp.asarray(queries)
  protocol = full_catalogue_protocol(cutoffs=(K,), metrics=("hit_rate", "ndcg"))
  popularity = np.ones(len(items), np.int64)

  def run() -> dict[str, float]:
    return evaluate(
      scorer,
      query_table,
      users,
      protocol,
      num_items=len(items) - 1,
      popularity=popularity,
      intervals=False,
      floor=False,
      progress=False,
    ).metrics

  return run


def make_peer(
  users: EvalSet, queries: np.ndarray, items: np.ndarray, block: int = 512
) -> Callable[[], dict[str, float]]:
  import torch

  item_table, query_table = torch.from_numpy(items), torch.from_numpy(queries)
  targets = torch.from_numpy(users.targets.values.astype(np.int64))

  @torch.inference_mode()
  def run() -> dict[str, float]:
    hits, gains = 0.0, 0.0
    for start in range(0, len(users), block):
      rows = np.arange(start, min(start + block, len(users)))
      seen = users.history.take(rows)
      target = targets[start : start + block]
      scores = query_table[start : start + block] @ item_table.T
      own = scores.gather(1, target[:, None])
      scores[
        torch.from_numpy(seen.row_ids),
        torch.from_numpy(seen.values.astype(np.int64)),
      ] = -torch.inf
      scores[:, 0] = -torch.inf
      # A target that was seen before is still a candidate, as in ours.
      scores.scatter_(1, target[:, None], own)
      found = torch.topk(scores, K).indices == target[:, None]
      place = found.float().argmax(1) + 2.0
      hit = found.any(1)
      hits += hit.sum().item()
      gains += (hit / torch.log2(place)).sum().item()
    return {f"hit_rate@{K}": hits / len(users), f"ndcg@{K}": gains / len(users)}

  return run


def compare_speed(args: argparse.Namespace) -> dict[str, float]:
  users = load_eval_set(args.users, args.items)
  vectors = make_vectors(len(users), args.items, args.dim)
  runs = {
    "ours": make_ours(users, *vectors),
    "peer": make_peer(users, *vectors),
  }
  # The first run compiles and faults memory in; it also shows both agree.
  results = {name: run() for name, run in runs.items()}
  for key, value in results["peer"].items():
    np.testing.assert_allclose(
      results["ours"][key], value, rtol=1e-3, atol=1e-6
    )
  print(f"{len(users):,} users, {args.items:,} items: {results['ours']}")
  secs = {"ours": [], "peer": []}
  for number in range(args.rounds):
    for name, run in runs.items():
      start = time.perf_counter()
      run()
      secs[name].append(time.perf_counter() - start)
    ratio = secs["ours"][-1] / secs["peer"][-1]
    print(f"round {number + 1}: ours over theirs {ratio:.3f}")
  ours, peer = (statistics.median(secs[name]) for name in ("ours", "peer"))
  return {"ratio": ours / peer, "ours": ours, "peer": peer, "users": len(users)}


def memory_mib(field: str) -> float:
  """A field of Linux's account of this process, such as VmRSS or VmHWM."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(field + ":"):
      return int(line.split()[1]) / 1024
  raise RuntimeError(f"no {field} in /proc/self/status: not Linux")


def measure_memory(args: argparse.Namespace) -> None:
  """Prints how far the peak rises above the loaded model and data."""
  users = random_eval_set(args.users, args.items)
  make = {"ours": make_ours, "peer": make_peer}[args.memory_of]
  run = make(users, *make_vectors(len(users), args.items, args.dim))
  # Forgets the peak so far, which making the vectors may have set.
  pathlib.Path("/proc/self/clear_refs").write_text("5")
  before = memory_mib("VmRSS")
  run()
  print(json.dumps({"before": before, "after": memory_mib("VmHWM")}))


def memory(args: argparse.Namespace, who: str, items: int) -> float:
  command = [sys.executable, "-m", "benchmarks.full_catalogue_evaluation"]
  # A few blocks of users are enough: what they leave behind would show.
  users = str(min(args.users, 2048))
  command += ["--memory_of", who, "--items", str(items), "--users", users]
  command += ["--dim", str(args.dim)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  found = json.loads(done.stdout.splitlines()[-1])
  return round(found["after"] - found["before"], 1)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--items", type=int, default=54_542)
  parser.add_argument("--users", type=int, default=40_226)
  parser.add_argument("--dim", type=int, default=64)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--memory_of", choices=("ours", "peer"))
  args = parser.parse_args()
  if args.memory_of:
    measure_memory(args)
    return
  found = compare_speed(args)
  grown = {
    f"{who}_memory_mib_x{times}": memory(args, who, args.items * times)
    for who in ("ours", "peer")
    for times in (1, 10)
  }
  line = {
    "name": "full_catalogue_evaluation",
    "ratio": round(found["ratio"], 4),
    "ours": round(found["ours"], 3),
    "peer": round(found["peer"], 3),
    "unit": "s",
    "peer_name": "PyTorch: matmul, mask, topk",
    "device": device(),
    "users": found["users"],
    "items": args.items,
    "dim": args.dim,
    **grown,
  }
  print(json.dumps(line))


def device() -> str:
  import jax

  first = jax.devices()[0]
  if first.platform != "cpu":
    return first.device_kind
  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.is_file() else []
  names = [line.split(": ")[1] for line in lines if "model name" in line]
  return f"{(names or ['CPU'])[0]}, {os.cpu_count()} cores"


if __name__ == "__main__":
  main()
