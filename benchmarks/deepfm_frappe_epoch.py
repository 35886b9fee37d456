"""A training epoch of DeepFM on Frappe, with the settings of BARS.

    python -m benchmarks.deepfm_frappe_epoch [--rounds R]

The settings are those of gin/runs/deepfm_frappe.gin: vectors of 10, three
layers of 400 with batch norm and dropout, dense tables with a penalty, Adam,
the gradient clipped, batches of 4,096. With RECJAX_DATA_DIR set the data are
the real ones, else random ones of the same sizes.

Ours is what `fit` runs between two validations: `make_step` on the device
feed. PyTorch is written for speed (`benchmarks/torch_deepfm.py`): all rows lie
in memory as tensors of row numbers, an epoch is a permutation, a batch one
`index_select`; no DataLoader. All fields share one table, whose penalty is
Adam's `weight_decay`. Both start with the same weights; orders and dropout
masks differ, so the mean losses of the first epoch agree but roughly.

Both train an epoch in turn, R times, after one that compiles; the median ratio
of the pairs is told.
"""

import argparse
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.in_turn import print_summary, time_in_turn

GIN_FILE = "runs/deepfm_frappe.gin"
# Rows of Frappe, and the ids of its ten fields with 0 and 1.
NUM_ROWS = 202_005
NUM_IDS = (956, 4084, 9, 9, 4, 5, 4, 11, 82, 235)

Run = Callable[[int], float]


def load() -> tuple[Any, Any, Any]:
  """The experiment, its task and its training batches."""
  from recjax import gin_config
  from recjax.data.example_batches import ExampleBatches
  from recjax.embeddings.groups import CategoricalField
  from recjax.ranking_experiment import RankingExperiment
  from recjax.tasks.ranking import Ranking

  gin_config.parse([GIN_FILE])
  experiment = gin_config.construct(RankingExperiment)
  folder = os.environ.get("RECJAX_DATA_DIR", "")
  if folder and pathlib.Path(folder, "frappe").is_dir():
    bench = experiment.open(folder)
    return experiment, bench.task, bench.batches
  print("RECJAX_DATA_DIR has no Frappe: random rows are taken.")
  rng = np.random.default_rng(0)
  columns = {
    f"field_{number}": rng.integers(1, size, NUM_ROWS, np.int32)
    for number, size in enumerate(NUM_IDS)
  }
  fields = tuple(map(CategoricalField, columns, NUM_IDS))
  columns["label"] = (rng.random(NUM_ROWS) < 1 / 3).astype(np.float32)
  task = Ranking(experiment.model, fields, (), (("", experiment.tables),))
  batches = ExampleBatches(
    columns, batch_size=experiment.batch_size, seed=experiment.seed
  )
  return experiment, task, batches


def make_ours(experiment: Any, task: Any, batches: Any) -> tuple[Run, Any]:
  """Our epochs, which return the mean loss, and the weights before them."""
  import jax

  from recjax.train.feeds import DeviceFeed
  from recjax.train.mesh import make_mesh
  from recjax.train.state import init_state, state_shardings
  from recjax.train.step import make_step

  key, mesh = jax.random.key(experiment.seed), make_mesh(experiment.mesh)
  optimizer = experiment.optimizer.build(jax.eval_shape(task.init, key)[0])
  init = functools.partial(init_state, task, optimizer)
  shardings = state_shardings(jax.eval_shape(init, key), mesh)
  state = jax.jit(init, out_shardings=shardings)(key)
  # Copies, for a step overwrites what it is given.
  weights = jax.tree.map(np.array, state.params)
  feed = DeviceFeed(
    make_step(task, optimizer, mesh),
    batches,
    shardings=shardings,
    mesh=mesh,
    constants={},
    base_key=key,
    steps_per_dispatch=experiment.train.steps_per_dispatch,
  )

  def run(epoch: int) -> float:
    nonlocal state
    steps = batches.steps_per_epoch
    state, metrics = feed.run(state, epoch * steps, steps)
    jax.block_until_ready(state)
    return float(np.mean(metrics["loss"]))

  return run, weights


def make_peer(experiment: Any, task: Any, batches: Any, weights: Any) -> Run:
  """The same in PyTorch."""
  import torch

  from benchmarks.torch_deepfm import DeepFM

  torch.set_num_threads(os.cpu_count() or 1)
  torch.manual_seed(0)
  settings = experiment.model
  fields = [field.name for field in task.fields]
  tables = weights["tables"]
  model = DeepFM(
    len(tables["embedding"]),
    len(fields),
    settings.dim,
    settings.hidden,
    settings.dropout_rate,
  )
  tensor = lambda array: torch.nn.Parameter(torch.from_numpy(array.copy()))
  model.linear.weight = tensor(tables["linear"])
  model.vectors.weight = tensor(tables["embedding"])
  given = weights["model"]
  linear = [x for x in model.deep if isinstance(x, torch.nn.Linear)]
  for number, layer in enumerate(linear):
    # Biases, and batch norm, start as they do in ours.
    layer.weight = tensor(given["mlp"][f"layer_{number}"]["kernel"].T)
    torch.nn.init.zeros_(layer.bias)
  model.output.weight = tensor(given["output"]["kernel"].T)
  tables_group, rest = experiment.optimizer.groups
  embeddings = [model.linear.weight, model.vectors.weight]
  others = [
    p for p in model.parameters() if all(p is not e for e in embeddings)
  ]
  optimizer = torch.optim.Adam(
    [
      {"params": embeddings, "weight_decay": tables_group.l2},
      {"params": others},
    ],
    lr=rest.learning_rate,
  )
  loss_of = torch.nn.BCEWithLogitsLoss()
  # The row of the shared table for each field of each example.
  starts = np.array(task.dense.arrays["embedding"].starts)
  ids = np.stack([batches.columns[name] for name in fields], axis=1)
  rows = torch.from_numpy(ids + starts)
  labels = torch.from_numpy(np.array(batches.columns["label"]))

  def run(epoch: int) -> float:
    del epoch
    model.train()
    losses = []
    for chosen in torch.randperm(len(rows)).split(batches.batch_size):
      optimizer.zero_grad()
      loss = loss_of(model(rows[chosen]), labels[chosen])
      loss.backward()
      torch.nn.utils.clip_grad_norm_(
        model.parameters(), experiment.optimizer.clip_norm
      )
      optimizer.step()
      losses.append(loss.detach())
    return float(torch.stack(losses).mean())

  return run


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rounds", type=int, default=7)
  args = parser.parse_args()
  import torch

  experiment, task, batches = load()
  ours, weights = make_ours(experiment, task, batches)
  peer = make_peer(experiment, task, batches, weights)
  runs = {"ours": ours, "peer": peer}
  print(
    f"{batches.num_rows:,} rows, {len(weights['tables']['embedding']):,} rows"
    f" of tables, {batches.steps_per_epoch} steps an epoch"
  )
  losses = {name: run(0) for name, run in runs.items()}  # Compiles.
  print(f"mean loss of the first epoch: {losses}")
  np.testing.assert_allclose(losses["ours"], losses["peer"], rtol=0.05)
  times = time_in_turn(runs, args.rounds, "s/epoch")
  print_summary(
    "deepfm_frappe_epoch",
    times,
    unit="s/epoch",
    peer_name=f"PyTorch {torch.__version__}, tensors in memory",
  )


if __name__ == "__main__":
  main()
