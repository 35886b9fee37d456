"""A training epoch of SASRec: packed rows against PyTorch's padded ones.

    python -m benchmarks.sasrec_training_epoch [--dataset ml1m|beauty]
      [--steps N] [--rounds R]

The same model (the paper's: width 50, two blocks, one head, dropout 0.2, its
layer-norm placement), loss (binary cross-entropy with one uniform negative),
optimizer (Adam) and data (with RECJAX_DATA_DIR set: the real sequences; else
random ones of the same sizes), batches of 128 users, all cores for both.

PyTorch is written as practitioners do: every sequence is padded on the left
to 200 (Beauty: 50), the padded batch goes through the model at once, and the
loss is taken where there is a target. It is spared what costs time in public
code: batches are rows of one tensor that lies ready, negatives are drawn by
one call and never checked against the user's items (ours are).

Both take N steps in turn, R times, after a warm-up that compiles; the time of
the steps is scaled to an epoch, and the median ratio of the pairs is told.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable

import numpy as np

from benchmarks.in_turn import print_summary, time_in_turn
from recjax.data.ragged import Ragged

DIM, NUM_BLOCKS, DROPOUT_RATE, BATCH_SIZE = 50, 2, 0.2, 128
LEARNING_RATE, BETAS = 1e-3, (0.9, 0.98)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A data set and the settings that gin/runs has for it.

  Attributes:
    path: under RECJAX_DATA_DIR.
    num_users: for random data, as the two below.
    num_items: ids run from 1.
    mean_len: of the training sequences.
    max_len: positions of a sequence.
    micro_rows: of our micro-batches.
    steps: timed in a round.
  """

  path: str
  num_users: int
  num_items: int
  mean_len: float
  max_len: int
  micro_rows: int
  steps: int


DATASETS = {
  "ml1m": Dataset("sasrec-ml-1m/ml-1m.txt", 6040, 3416, 163.5, 200, 8, 12),
  "beauty": Dataset(
    "bert4rec-beauty/beauty.txt", 40_226, 54_542, 6.8, 50, 16, 40
  ),
}


def load(dataset: Dataset) -> tuple[Ragged, int]:
  """Training sequences under leave-one-out, and the number of items."""
  folder = os.environ.get("RECJAX_DATA_DIR", "")
  if folder and (pathlib.Path(folder) / dataset.path).is_file():
    from recjax.data.sequences import training_sequences
    from recjax.data.sources.sequence_file import SequenceFile
    from recjax.data.splits import LeaveOneOut

    source = SequenceFile(path=dataset.path, name="benchmark")
    interactions = source.read(pathlib.Path(folder))
    split = LeaveOneOut()(interactions)
    return training_sequences(interactions, split), interactions.num_items
  print("RECJAX_DATA_DIR has no such file: random sequences are taken.")
  rng = np.random.default_rng(0)
  lengths = 2 + rng.geometric(1 / (dataset.mean_len - 1), dataset.num_users)
  values = rng.integers(1, dataset.num_items + 1, lengths.sum(), np.int32)
  offsets = np.concatenate([[0], np.cumsum(lengths)])
  return Ragged(values, offsets), dataset.num_items


def make_ours(
  dataset: Dataset, sequences: Ragged, num_items: int, steps: int
) -> Callable[[int], float]:
  """Takes the first steps of an epoch; returns their mean loss."""
  import jax

  from recjax.data.batches import SequenceBatches
  from recjax.models.sasrec import SASRec
  from recjax.tasks.next_item import NextItem
  from recjax.tasks.objectives import BinaryCrossEntropy
  from recjax.train.feeds import DeviceFeed
  from recjax.train.mesh import MeshConfig, make_mesh
  from recjax.train.optimizer import Optimizer, ParamGroup
  from recjax.train.state import init_state, state_shardings
  from recjax.train.step import make_step

  model = SASRec(
    dim=DIM,
    num_blocks=NUM_BLOCKS,
    max_len=dataset.max_len,
    dropout_rate=DROPOUT_RATE,
  )
  task = NextItem(
    model, BinaryCrossEntropy(), num_items, micro_rows=dataset.micro_rows
  )
  batches = SequenceBatches(
    sequences, batch_size=BATCH_SIZE, max_len=dataset.max_len, seed=0
  )
  key, mesh = jax.random.key(0), make_mesh(MeshConfig())
  group = ParamGroup(learning_rate=LEARNING_RATE, b1=BETAS[0], b2=BETAS[1])
  optimizer = Optimizer(groups=(group,)).build(
    jax.eval_shape(task.init, key)[0]
  )
  init = functools.partial(init_state, task, optimizer)
  shardings = state_shardings(jax.eval_shape(init, key), mesh)
  state = jax.jit(init, out_shardings=shardings)(key)
  feed = DeviceFeed(
    make_step(task, optimizer, mesh),
    batches,
    shardings=shardings,
    mesh=mesh,
    constants={},
    base_key=key,
    steps_per_dispatch=steps,
  )

  def run(epoch: int) -> float:
    nonlocal state
    state, metrics = feed.run(state, epoch * batches.steps_per_epoch, steps)
    return float(np.mean(metrics["loss"]))

  return run


def make_peer(
  dataset: Dataset, sequences: Ragged, num_items: int, steps: int
) -> Callable[[int], float]:
  """The same in PyTorch, padded."""
  import torch

  from benchmarks.torch_sasrec import SASRec

  torch.manual_seed(0)
  model = SASRec(num_items, DIM, NUM_BLOCKS, dataset.max_len, DROPOUT_RATE)
  optimizer = torch.optim.Adam(
    model.parameters(), lr=LEARNING_RATE, betas=BETAS
  )
  loss_of = torch.nn.BCEWithLogitsLoss()
  width = dataset.max_len + 1
  padded = np.zeros((len(sequences), width), np.int64)
  last = sequences.last(width)
  # On the left, so that the last item stands at the end of every row.
  column = np.arange(width) >= width - last.lengths[:, None]
  padded[column] = last.values
  padded = torch.from_numpy(padded)

  def run(epoch: int) -> float:
    del epoch
    order = torch.randperm(len(padded))
    total = 0.0
    for step in range(steps):
      rows = padded[order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]]
      inputs, positive = rows[:, :-1], rows[:, 1:]
      negative = torch.randint(1, num_items + 1, positive.shape)
      # The first item of a short sequence has no input before it.
      where = (positive > 0) & (inputs > 0)
      optimizer.zero_grad()
      up, down = model(inputs, positive, negative)
      up, down = up[where], down[where]
      loss = loss_of(up, torch.ones_like(up))
      loss = loss + loss_of(down, torch.zeros_like(down))
      loss.backward()
      optimizer.step()
      total += loss.item()
    return total / steps

  return run


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--dataset", choices=DATASETS, default="ml1m")
  parser.add_argument("--steps", type=int, help="timed in a round")
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  import torch

  torch.set_num_threads(os.cpu_count() or 1)
  dataset = DATASETS[args.dataset]
  sequences, num_items = load(dataset)
  steps_per_epoch = -(-len(sequences) // BATCH_SIZE)
  steps = min(args.steps or dataset.steps, len(sequences) // BATCH_SIZE)
  runs = {
    "ours": make_ours(dataset, sequences, num_items, steps),
    "peer": make_peer(dataset, sequences, num_items, steps),
  }
  lengths = np.minimum(sequences.lengths - 1, dataset.max_len)
  print(
    f"{len(sequences):,} sequences, {num_items:,} items,"
    f" {lengths.mean():.1f} of {dataset.max_len} positions valid,"
    f" {steps_per_epoch} steps an epoch, {steps} timed"
  )
  losses = {name: run(0) for name, run in runs.items()}  # Compiles.
  print(f"mean loss of the warm-up: {losses}")
  times = time_in_turn(
    runs, args.rounds, "s/epoch", scale=steps_per_epoch / steps
  )
  print_summary(
    f"sasrec_training_epoch_{args.dataset}",
    times,
    unit="s/epoch",
    peer_name=f"PyTorch {torch.__version__}, padded",
    steps=steps,
  )


if __name__ == "__main__":
  main()
