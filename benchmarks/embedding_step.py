"""A training step of one embedding table: look-up, gradient, row-wise Adagrad.

    python -m benchmarks.embedding_step [--peer torch|dense|million]
      [--rows N] [--dim D] [--ids uniform|zipf] [--large-pages]
      [--steps N] [--rounds R]

26 features of 2,048 examples read one table of N rows. Their embeddings, each
times a fixed vector, are summed to a logit, and the loss is the binary
cross-entropy: little is computed but what the table needs. All tables start at
zero. Our step is one compiled function whose table and slots are donated. The
peer is

- torch: `EmbeddingBag(sparse=True)`, called once for all features, and
  `torch.optim.Adagrad`, all cores for both;
- dense: JAX as plain as it goes, `take`, `grad` by the table, `optax.adagrad`,
  the state donated;
- million: our own step with one million rows, which shows whether its time
  follows the table.

Ids are drawn uniformly, so hardly two are alike and none lies in a cache, or
by Zipf's law (exponent 1.1), so that many are. With --large-pages our tables
lie in pages of 2 MiB (`recjax.embeddings.pages`), where Linux has them.

Both take N steps in turn, R times, after a warm-up that compiles; the median
ratio of the pairs is told.
"""

import argparse
import functools
import os
import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.in_turn import print_summary, time_in_turn

NUM_FEATURES, NUM_EXAMPLES, MILLION = 26, 2048, 1_000_000
LEARNING_RATE = 0.05
NUM_BATCHES = 32

Data = tuple[np.ndarray, np.ndarray, np.ndarray]
Run = Callable[[int], float]


def make_data(rows: int, dim: int, kind: str) -> Data:
  """Ids [batches, examples, features], labels, and the fixed vectors."""
  rng = np.random.default_rng(0)
  shape = (NUM_BATCHES, NUM_EXAMPLES, NUM_FEATURES)
  if kind == "uniform":
    ids = rng.integers(1, rows, shape)
  else:
    # Neighbours by count are no neighbours in the table.
    ids = 1 + rng.zipf(1.1, shape) * 2_654_435_761 % (rows - 1)
  labels = rng.integers(0, 2, shape[:2])
  weights = rng.normal(size=(NUM_FEATURES, dim))
  return (
    ids.astype(np.int32),
    labels.astype(np.float32),
    weights.astype(np.float32),
  )


def make_ours(data: Data, rows: int, dim: int, large_pages: bool) -> Run:
  """Steps as recjax takes them; a run returns the last loss."""
  import jax
  import jax.numpy as jnp
  import optax

  from recjax.embeddings.collection import EmbeddingCollection
  from recjax.embeddings.lookups import Lookup
  from recjax.embeddings.pages import use_large_pages
  from recjax.embeddings.row_optimizers import RowWiseAdagrad
  from recjax.embeddings.tables import TableSpec

  names = [f"feature_{number}" for number in range(NUM_FEATURES)]
  optimizer = RowWiseAdagrad(learning_rate=LEARNING_RATE)
  collection = EmbeddingCollection(
    (TableSpec("all", rows, dim, initializer="zeros", optimizer=optimizer),),
    tuple(Lookup(name, "all") for name in names),
  )
  ids, labels, weights = data
  batches = [
    dict(zip(names, jnp.asarray(part.T), strict=True), label=jnp.asarray(label))
    for part, label in zip(ids, labels, strict=True)
  ]
  weights = jnp.asarray(weights)

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, batch):
    tables, slots, count = state
    routes = collection.routes(batch)
    looked_up = collection.gather(tables, routes)

    def loss_of(looked_up):
      embeddings = collection.embed(looked_up, batch)
      stacked = jnp.stack([embeddings[name] for name in names], axis=1)
      logits = jnp.einsum("bfd,fd->b", stacked, weights)
      losses = optax.sigmoid_binary_cross_entropy(logits, batch["label"])
      return jnp.mean(losses)

    loss, grads = jax.value_and_grad(loss_of)(looked_up)
    tables, slots = collection.update(
      tables, slots, routes, grads, count, looked_up
    )
    return (tables, slots, count + 1), loss

  state = (
    jax.jit(collection.init)(jax.random.key(0)),
    jax.jit(collection.init_slots)(),
    jnp.int32(0),
  )
  if large_pages:
    moved = use_large_pages(state)
    print(f"{moved:,} bytes lie in large pages")

  def run(steps: int) -> float:
    nonlocal state
    loss = 0.0
    for number in range(steps):
      state, loss = step(state, batches[number % NUM_BATCHES])
    jax.block_until_ready(state)
    return float(loss)

  return run


def make_dense(data: Data, rows: int, dim: int) -> Run:
  """The same with a dense gradient and optax."""
  import jax
  import jax.numpy as jnp
  import optax

  ids, labels, weights = (jnp.asarray(array) for array in data)
  optimizer = optax.adagrad(LEARNING_RATE)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(table, opt_state, number):
    def loss_of(table):
      embeddings = jnp.take(table, ids[number], axis=0)
      logits = jnp.einsum("bfd,fd->b", embeddings, weights)
      losses = optax.sigmoid_binary_cross_entropy(logits, labels[number])
      return jnp.mean(losses)

    loss, grad = jax.value_and_grad(loss_of)(table)
    updates, opt_state = optimizer.update(grad, opt_state)
    return optax.apply_updates(table, updates), opt_state, loss

  table = jnp.zeros((rows, dim))
  opt_state = jax.jit(optimizer.init)(table)

  def run(steps: int) -> float:
    nonlocal table, opt_state
    loss = 0.0
    for number in range(steps):
      table, opt_state, loss = step(table, opt_state, number % NUM_BATCHES)
    jax.block_until_ready((table, opt_state))
    return float(loss)

  return run


def make_torch(data: Data, rows: int, dim: int) -> Run:
  """The same in PyTorch with sparse gradients."""
  import torch

  torch.set_num_threads(os.cpu_count() or 1)
  bag = torch.nn.EmbeddingBag(rows, dim, mode="sum", sparse=True)
  torch.nn.init.zeros_(bag.weight)
  optimizer = torch.optim.Adagrad(
    bag.parameters(), lr=LEARNING_RATE, initial_accumulator_value=0.1
  )
  ids, labels, weights = (torch.from_numpy(array) for array in data)
  ids = ids.long()
  offsets = torch.arange(NUM_EXAMPLES * NUM_FEATURES)
  loss_of = torch.nn.BCEWithLogitsLoss()

  def run(steps: int) -> float:
    loss = torch.zeros(())
    for number in range(steps):
      batch = number % NUM_BATCHES
      optimizer.zero_grad()
      embeddings = bag(ids[batch].reshape(-1), offsets)
      logits = embeddings.reshape(NUM_EXAMPLES, -1) @ weights.reshape(-1)
      loss = loss_of(logits, labels[batch])
      loss.backward()
      optimizer.step()
    return loss.item()

  return run


def make_peer(data: Data, args: argparse.Namespace) -> tuple[Run, str]:
  """The run of a peer, and its name."""
  if args.peer == "dense":
    name = "JAX, dense gradient, optax.adagrad"
    return make_dense(data, args.rows, args.dim), name
  if args.peer == "million":
    data = make_data(MILLION, args.dim, args.ids)
    run = make_ours(data, MILLION, args.dim, args.large_pages)
    return run, "recjax, 1,000,000 rows"
  import torch

  name = f"PyTorch {torch.__version__}, EmbeddingBag(sparse=True), Adagrad"
  return make_torch(data, args.rows, args.dim), name


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--peer", choices=("torch", "dense", "million"), default="torch"
  )
  parser.add_argument("--rows", type=int, default=MILLION)
  parser.add_argument("--dim", type=int, default=64)
  parser.add_argument("--ids", choices=("uniform", "zipf"), default="uniform")
  parser.add_argument("--large-pages", action="store_true")
  parser.add_argument("--steps", type=int, default=10, help="timed in a round")
  parser.add_argument("--rounds", type=int, default=15)
  args = parser.parse_args()

  data = make_data(args.rows, args.dim, args.ids)
  distinct = statistics.mean(len(np.unique(ids)) for ids in data[0])
  print(
    f"{args.rows:,} rows of {args.dim}, {data[0][0].size:,} lookups a step of"
    f" {distinct:,.0f} different rows"
  )
  peer, peer_name = make_peer(data, args)
  ours = make_ours(data, args.rows, args.dim, args.large_pages)
  runs = {"ours": ours, "peer": peer}
  losses = {name: run(NUM_BATCHES) for name, run in runs.items()}  # Compiles.
  print(f"loss after the warm-up: {losses}")
  timed = {
    name: lambda _, run=run: run(args.steps) for name, run in runs.items()
  }
  times = time_in_turn(timed, args.rounds, "ms/step", scale=1e3 / args.steps)
  print_summary(
    f"embedding_step_{args.peer}",
    times,
    unit="ms/step",
    peer_name=peer_name,
    rows=args.rows,
    dim=args.dim,
    ids=args.ids,
    large_pages=args.large_pages,
    steps=args.steps,
  )


if __name__ == "__main__":
  main()
