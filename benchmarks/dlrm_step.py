"""A whole training step of DLRM: 26 tables, 13 counts, batches of 2,048.

    python -m benchmarks.dlrm_step [--optimizer sgd|adagrad]
      [--ids uniform|zipf] [--max_rows N] [--steps N] [--rounds R]

The model has the sizes that its authors give for Criteo's Kaggle data: vectors
of 16, a bottom perceptron 13-512-256-64-16, inner products of all pairs, a top
perceptron 367-512-256-1. Tables have as many rows as the categories of that
data have values, at most N. Ids are drawn uniformly, the authors' default, or
by Zipf's law (exponent 1.1).

Ours is the step that every ranking run takes: `Ranking` with sparse tables,
`make_step`, compiled and donated, N steps a dispatch on examples that lie on
the device (`DeviceFeed`), tables in large pages where Linux has them, as `fit`
lays them. The peer is the model as its authors write it in PyTorch
(`benchmarks/torch_dlrm.py`), with an `EmbeddingBag(sparse=True)` for each
table; it is spared the gathering of batches, which lie ready. Both start with
the same weights, get the same batches, and use the same rule for all weights:
SGD, the authors' default, or Adagrad with a sum for each weight. The losses of
the warm-up must agree.

Both take N steps in turn, R times; the median ratio of the pairs is told.
"""

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.in_turn import print_summary, time_in_turn

BATCH_SIZE, DIM, NUM_BATCHES = 2048, 16, 32
BOTTOM, TOP = (512, 256, 64), (512, 256)
LEARNING_RATES = {"sgd": 0.1, "adagrad": 0.02}
NUM_DENSE = 13
# Of C1 to C26 in the Kaggle data.
NUM_VALUES = (
  *(1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683),
  *(8_351_593, 3194, 27, 14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18),
  *(15, 286_181, 105, 142_572),
)

Run = Callable[[int, int], float]


def make_data(table_rows: list[int], kind: str) -> dict[str, np.ndarray]:
  """Examples: "I1".. are logarithms of counts, "C1".. are ids from 1."""
  rng = np.random.default_rng(0)
  size = NUM_BATCHES * BATCH_SIZE
  columns = {}
  for number in range(1, NUM_DENSE + 1):
    counts = np.exp(rng.normal(2.0, 1.5, size)).astype(int)
    columns[f"I{number}"] = np.log1p(counts).astype(np.float32)
  for number, rows in enumerate(table_rows, 1):
    if kind == "uniform":
      ids = rng.integers(1, rows, size)
    else:
      # Neighbours by count are no neighbours in the table.
      ids = 1 + rng.zipf(1.1, size) * 2_654_435_761 % (rows - 1)
    columns[f"C{number}"] = ids.astype(np.int32)
  columns["label"] = (rng.random(size) < 0.25).astype(np.float32)
  return columns


def make_task(table_rows: list[int], rule: str) -> tuple[Any, Any]:
  """Our task, and the optimizer of all but its tables."""
  from recjax.embeddings import row_optimizers
  from recjax.embeddings.groups import CategoricalField, TableSettings
  from recjax.models.dlrm import DLRM
  from recjax.tasks.ranking import NumericField, Ranking
  from recjax.train.optimizer import Optimizer, ParamGroup

  rate = LEARNING_RATES[rule]
  row_rules = {"sgd": row_optimizers.SGD, "adagrad": row_optimizers.Adagrad}
  task = Ranking(
    DLRM(dim=DIM, bottom=BOTTOM, top=TOP),
    tuple(
      CategoricalField(f"C{number}", rows)
      for number, rows in enumerate(table_rows, 1)
    ),
    tuple(NumericField(f"I{n}") for n in range(1, NUM_DENSE + 1)),
    # The authors' range is 1 / sqrt(rows), too.
    (("", TableSettings("uniform", optimizer=row_rules[rule](rate))),),
  )
  return task, Optimizer((ParamGroup(optimizer=rule, learning_rate=rate),))


def make_ours(
  examples: Any, table_rows: list[int], rule: str, steps: int
) -> tuple[Run, Any, list[np.ndarray]]:
  """Our steps, the weights of the model, and the tables it starts with."""
  import jax

  from recjax.embeddings.pages import use_large_pages
  from recjax.train.feeds import DeviceFeed
  from recjax.train.mesh import MeshConfig, make_mesh
  from recjax.train.state import init_state, state_shardings
  from recjax.train.step import make_step

  task, optimizer = make_task(table_rows, rule)
  key, mesh = jax.random.key(0), make_mesh(MeshConfig())
  optimizer = optimizer.build(jax.eval_shape(task.init, key)[0])
  init = functools.partial(init_state, task, optimizer)
  shardings = state_shardings(jax.eval_shape(init, key), mesh)
  state = jax.jit(init, out_shardings=shardings)(key)
  moved = use_large_pages((state.tables, state.slots))
  print(f"{moved:,} bytes lie in large pages")
  # Copies, for a step overwrites what it is given.
  weights = jax.tree.map(np.array, state.params["model"])
  (name,) = state.tables
  array = np.asarray(state.tables[name])
  tables = [
    array[start : start + rows].copy()
    for start, rows in zip(
      task.sparse.arrays[name].starts, table_rows, strict=True
    )
  ]
  del array
  feed = DeviceFeed(
    make_step(task, optimizer, mesh),
    examples,
    shardings=shardings,
    mesh=mesh,
    constants={},
    base_key=key,
    steps_per_dispatch=steps,
  )

  def run(epoch: int, steps: int) -> float:
    nonlocal state
    state, metrics = feed.run(state, epoch * NUM_BATCHES, steps)
    jax.block_until_ready(state)
    return float(np.mean(metrics["loss"]))

  return run, weights, tables


def make_peer(
  examples: Any,
  weights: Any,
  tables: list[np.ndarray],
  rule: str,
) -> Run:
  """The same in PyTorch with sparse gradients, from the same weights."""
  import torch

  from benchmarks.torch_dlrm import DLRM

  torch.set_num_threads(os.cpu_count() or 1)
  model = DLRM([len(table) for table in tables], DIM, NUM_DENSE, BOTTOM, TOP)
  for bag, table in zip(model.tables, tables, strict=True):
    bag.weight = torch.nn.Parameter(torch.from_numpy(table))
  bottom = [*weights["bottom_mlp"].values(), weights["bottom_output"]]
  top = [*weights["top_mlp"].values(), weights["output"]]
  linear = [x for x in model.modules() if isinstance(x, torch.nn.Linear)]
  with torch.no_grad():
    for layer, given in zip(linear, [*bottom, *top], strict=True):
      layer.weight.copy_(torch.from_numpy(given["kernel"].T))
      layer.bias.copy_(torch.from_numpy(given["bias"]))
  rate = LEARNING_RATES[rule]
  if rule == "sgd":
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
  else:
    optimizer = torch.optim.Adagrad(
      model.parameters(), lr=rate, initial_accumulator_value=0.1
    )
  loss_of = torch.nn.BCEWithLogitsLoss()
  offsets = torch.arange(BATCH_SIZE)
  counts = [f"I{number}" for number in range(1, NUM_DENSE + 1)]
  categories = [f"C{number}" for number in range(1, len(tables) + 1)]
  ready = []
  for number in range(NUM_BATCHES):
    batch = examples.host_batch(number)
    dense = np.stack([batch[name] for name in counts], axis=1)
    ids = np.stack([batch[name] for name in categories])
    parts = dense, ids.astype(np.int64), batch["label"]
    ready.append([torch.from_numpy(part) for part in parts])

  def run(epoch: int, steps: int) -> float:
    losses = []
    for number in range(epoch * steps, (epoch + 1) * steps):
      dense, ids, label = ready[number % NUM_BATCHES]
      optimizer.zero_grad()
      loss = loss_of(model(dense, ids, offsets), label)
      loss.backward()
      optimizer.step()
      losses.append(loss.detach())
    return float(torch.stack(losses).mean())

  return run


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--optimizer", choices=LEARNING_RATES, default="adagrad")
  parser.add_argument("--ids", choices=("uniform", "zipf"), default="uniform")
  parser.add_argument("--max_rows", type=int, default=2_000_000)
  parser.add_argument("--steps", type=int, default=30, help="timed in a round")
  parser.add_argument("--rounds", type=int, default=9)
  args = parser.parse_args()
  args.steps = min(args.steps, NUM_BATCHES)
  import torch

  from recjax.data.example_batches import ExampleBatches

  # One more for id 0, which is a missing value.
  table_rows = [1 + min(number, args.max_rows) for number in NUM_VALUES]
  columns = make_data(table_rows, args.ids)
  examples = ExampleBatches(columns, batch_size=BATCH_SIZE, seed=0)
  print(f"{sum(table_rows):,} rows of {DIM} in {len(table_rows)} tables")
  ours, weights, tables = make_ours(
    examples, table_rows, args.optimizer, args.steps
  )
  peer = make_peer(examples, weights, tables, args.optimizer)
  runs = {"ours": ours, "peer": peer}
  losses = {
    name: run(0, NUM_BATCHES) for name, run in runs.items()
  }  # Compiles.
  print(f"mean loss of {NUM_BATCHES} steps of warm-up: {losses}")
  np.testing.assert_allclose(losses["ours"], losses["peer"], rtol=1e-4)
  timed = {
    name: functools.partial(run, steps=args.steps) for name, run in runs.items()
  }
  times = time_in_turn(timed, args.rounds, "ms/step", scale=1e3 / args.steps)
  print_summary(
    f"dlrm_step_{args.optimizer}",
    times,
    unit="ms/step",
    peer_name=f"PyTorch {torch.__version__}, EmbeddingBag(sparse=True)",
    rows=sum(table_rows),
    ids=args.ids,
    steps=args.steps,
  )


if __name__ == "__main__":
  main()
