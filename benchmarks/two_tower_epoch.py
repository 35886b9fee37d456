"""A training epoch of two towers on Gowalla, with in-batch softmax.

    python -m benchmarks.two_tower_epoch [--rounds R]

The settings are those of gin/runs/two_tower_gowalla.gin: the mean of other
items of a user against the item, one table for both, cosines over a
temperature, logQ correction, Adam. With RECJAX_DATA_DIR set the data are the
real ones, else random ones of the same sizes.

Ours is what `fit` runs between two validations. PyTorch is written for speed:
rows, users and histories lie in memory as tensors, an epoch is a permutation, a
batch one `index_select`; no DataLoader. Histories are an `embedding_bag` with
offsets and without padding, the table has sparse gradients and `SparseAdam`.
Both start with the same weights; their orders differ, so the mean losses of the
first epoch agree but roughly.

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

GIN_FILE = "runs/two_tower_gowalla.gin"
NUM_USERS, NUM_ITEMS, NUM_ROWS = 29_858, 40_981, 780_270

Run = Callable[[int], float]


def load() -> tuple[Any, Any]:
  """The experiment, and its bench."""
  from recjax import gin_config
  from recjax.retrieval_experiment import RetrievalExperiment

  gin_config.parse([GIN_FILE])
  experiment = gin_config.construct(RetrievalExperiment)
  folder = os.environ.get("RECJAX_DATA_DIR", "")
  if not folder or not pathlib.Path(folder, "gowalla").is_dir():
    print("RECJAX_DATA_DIR has no Gowalla: random rows are taken.")
    folder = write_random(pathlib.Path(os.environ.get("TMPDIR", "/tmp")))
  return experiment, experiment.open(folder)


def write_random(root: pathlib.Path) -> str:
  """Files of Gowalla's sizes, of random pairs."""
  rng = np.random.default_rng(0)
  folder = root / "random-gowalla" / "gowalla"
  folder.mkdir(parents=True, exist_ok=True)
  for name, num in (("train", NUM_ROWS // NUM_USERS), ("test", 7)):
    with open(folder / f"{name}.txt", "w") as file:
      for user in range(NUM_USERS):
        items = rng.choice(NUM_ITEMS, num, replace=False)
        file.write(" ".join(map(str, [user, *items])) + "\n")
  for kind, num in (("user", NUM_USERS), ("item", NUM_ITEMS)):
    lines = ["org_id remap_id\n", *(f"{i} {i}\n" for i in range(num))]
    (folder / f"{kind}_list.txt").write_text("".join(lines))
  return str(folder.parent)


def make_ours(experiment: Any, bench: Any) -> tuple[Run, Any]:
  """Our epochs, which return the mean loss, and the weights before them."""
  import jax

  from recjax.train.feeds import DeviceFeed
  from recjax.train.mesh import make_mesh
  from recjax.train.state import init_state, state_shardings
  from recjax.train.step import make_step

  task, batches = bench.task, bench.batches
  key, mesh = jax.random.key(experiment.seed), make_mesh(experiment.mesh)
  optimizer = experiment.optimizer.build(jax.eval_shape(task.init, key)[0])
  init = functools.partial(init_state, task, optimizer)
  shardings = state_shardings(jax.eval_shape(init, key), mesh)
  state = jax.jit(init, out_shardings=shardings)(key)
  # Copies, for a step overwrites what it is given.
  weights = jax.tree.map(np.array, state.weights)
  feed = DeviceFeed(
    make_step(task, optimizer, mesh),
    batches,
    shardings=shardings,
    mesh=mesh,
    constants=bench.constants,
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


def make_peer(experiment: Any, bench: Any, weights: Any) -> Run:
  """The same in PyTorch."""
  import torch

  from benchmarks.torch_two_tower import TwoTower
  from recjax.tasks.retrieval_negatives import IN_BATCH_LOG_Q

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(0)
  histories = torch.from_numpy(histories_of(bench))
  lengths = (histories > 0).sum(dim=1)
  items = torch.from_numpy(np.array(bench.batches.columns["item_id"]))
  model = TwoTower(
    weights["tables"]["item"],
    np.array(bench.constants[IN_BATCH_LOG_Q]),
    1.0 / experiment.model.temperature,
  )
  (group,) = experiment.optimizer.groups
  optimizer = torch.optim.SparseAdam(model.parameters(), lr=group.learning_rate)

  def run(epoch: int) -> float:
    del epoch
    losses = []
    for rows in torch.randperm(len(items)).split(experiment.batch_size):
      optimizer.zero_grad()
      history, length = histories[rows], lengths[rows]
      begins = length.cumsum(dim=0) - length
      loss = model.loss(items[rows], history[history > 0], begins)
      loss.backward()
      optimizer.step()
      losses.append(loss.detach())
    return float(torch.stack(losses).mean())

  return run


def histories_of(bench: Any) -> np.ndarray:
  """The history of every training row, [row, len], as ours cuts it."""
  import jax
  import jax.numpy as jnp

  window = bench.task.history
  constants = window.constants(bench.train_items)
  constants = {name: jnp.asarray(x) for name, x in constants.items()}
  columns = bench.batches.columns
  cut = jax.jit(lambda user, place: window.windows(user, place, constants)[0])
  return np.array(cut(columns["user_id"], columns["place"]))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  import torch

  experiment, bench = load()
  ours, weights = make_ours(experiment, bench)
  runs = {"ours": ours, "peer": make_peer(experiment, bench, weights)}
  print(f"{bench.batches.num_rows:,} rows, batches of {bench.batch_size:,}")
  losses = {name: run(0) for name, run in runs.items()}  # Compiles.
  print(f"mean loss of the first epoch: {losses}", flush=True)
  np.testing.assert_allclose(losses["ours"], losses["peer"], rtol=0.05)
  secs = time_in_turn(runs, args.rounds, "s/epoch")
  print_summary(
    "two_tower_epoch",
    secs,
    unit="s/epoch",
    peer_name=f"PyTorch {torch.__version__}, sparse embeddings",
  )


if __name__ == "__main__":
  main()
