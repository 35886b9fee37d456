"""A training step of MMoE: 8 experts, 2 tasks, batches of 2,048.

    python -m benchmarks.mmoe_step [--peer dense|torch|torch_batched]
      [--expert 256,128] [--tower 64] [--dim 416] [--steps N] [--rounds R]
      [--one_core]

A step is the forward and the backward pass, by the weights and by the input,
as embeddings below would need it, and Adam. The peer is

  dense          `SharedBottom` of as many multiplications: its first layer is
                 as wide as those of all experts together and a little wider,
                 for what the gates and the mixing take; towers are alike
  torch          PyTorch with a module for each expert, as it is usually written
  torch_batched  PyTorch with one product for all experts and towers

Those in PyTorch start with our weights, and the losses of the warm-up must
agree. Both take N steps in turn, R times; the median ratio of the pairs is
told. With --one_core both run on one core, and the time is that of the process
and not of the clock: so it is told on a machine that others use as well.
"""

import argparse
import functools
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.in_turn import print_summary, time_in_turn

BATCH_SIZE, NUM_BATCHES, NUM_EXPERTS, NUM_TASKS = 2048, 8, 8, 2
RATE = 1e-3

Run = Callable[[int], float]


def dense_widths(dim: int, expert: tuple[int, ...]) -> tuple[int, ...]:
  """The shared layers that multiply as often as experts, gates and mixing."""
  if len(expert) > 2:
    raise ValueError(f"--expert must have one or two widths; got {expert}.")
  sizes = (dim, *expert)
  products = sum(a * b for a, b in itertools.pairwise(sizes))
  mixing = NUM_TASKS * (dim + sizes[-1])
  num = NUM_EXPERTS * (products + mixing)
  return (round(num / (dim + sum(expert[1:]))), *expert[1:])


def make_jax(head: Any, data: dict[str, np.ndarray]) -> tuple[Run, Any]:
  """Steps of one of our heads; and its first weights."""
  import jax
  import jax.numpy as jnp
  import optax

  optimizer = optax.adam(RATE)
  xs, ys = jnp.asarray(data["x"]), jnp.asarray(data["y"])

  def loss_of(params: Any, x: Any, y: Any) -> Any:
    logit = head.apply({"params": params}, x, num_tasks=NUM_TASKS)
    return jnp.mean(jax.nn.softplus(logit) - y * logit)

  def one(carry: Any, number: Any) -> Any:
    params, state, seen = carry
    x, y = xs[number % NUM_BATCHES], ys[number % NUM_BATCHES]
    loss, (grads, of_x) = jax.value_and_grad(loss_of, (0, 1))(params, x, y)
    updates, state = optimizer.update(grads, state)
    # What embeddings would get is formed and not thrown away.
    seen = seen + jnp.abs(of_x)
    return (optax.apply_updates(params, updates), state, seen), loss

  @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
  def steps_of(carry: Any, steps: int) -> Any:
    return jax.lax.scan(one, carry, jnp.arange(steps))

  params = head.init(jax.random.key(0), xs[0], num_tasks=NUM_TASKS)["params"]
  weights = jax.tree.map(np.array, params)
  carry = params, optimizer.init(params), jnp.zeros_like(xs[0])

  def run(steps: int) -> float:
    nonlocal carry
    carry, losses = steps_of(carry, steps)
    return float(jax.block_until_ready(losses).mean())

  return run, weights


def make_torch(
  name: str,
  data: dict[str, np.ndarray],
  weights: Any,
  expert: tuple[int, ...],
  tower: tuple[int, ...],
) -> Run:
  """The same in PyTorch, from the same weights."""
  import torch

  from benchmarks import torch_mmoe

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  kind = {"torch": torch_mmoe.MMoE, "torch_batched": torch_mmoe.BatchedMMoE}
  dim = data["x"].shape[-1]
  model = kind[name](dim, expert, tower, NUM_EXPERTS, NUM_TASKS)
  load = {"torch": _load, "torch_batched": _load_batched}[name]
  with torch.no_grad():
    load(model, weights, len(expert), len(tower))
  optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
  loss_of = torch.nn.BCEWithLogitsLoss()
  xs = [torch.from_numpy(x).requires_grad_() for x in data["x"]]
  ys = [torch.from_numpy(y) for y in data["y"]]

  def run(steps: int) -> float:
    losses = []
    for number in range(steps):
      x, y = xs[number % NUM_BATCHES], ys[number % NUM_BATCHES]
      optimizer.zero_grad()
      x.grad = None
      loss = loss_of(model(x), y)
      loss.backward()
      optimizer.step()
      losses.append(loss.detach())
    return float(torch.stack(losses).mean())

  return run


def _tensor(array: np.ndarray) -> Any:
  import torch

  return torch.from_numpy(np.ascontiguousarray(array))


def _load(model: Any, weights: Any, layers: int, tower_layers: int) -> None:
  """Our arrays into modules one by one."""
  experts, towers = weights["experts"], weights["towers"]
  for number, module in enumerate(model.experts):
    for layer in range(layers):
      linear = module[2 * layer]
      linear.weight.copy_(_tensor(experts[f"kernel_{layer}"][number].T))
      linear.bias.copy_(_tensor(experts[f"bias_{layer}"][number]))
  logits = weights["gate"]["logits"]["kernel"]
  for number, module in enumerate(model.gates):
    start = number * NUM_EXPERTS
    module.weight.copy_(_tensor(logits[:, start : start + NUM_EXPERTS].T))
  for number, (module, output) in enumerate(model.towers):
    for layer in range(tower_layers):
      linear = module[2 * layer]
      own = towers["layers"]
      linear.weight.copy_(_tensor(own[f"kernel_{layer}"][number].T))
      linear.bias.copy_(_tensor(own[f"bias_{layer}"][number]))
    output.weight.copy_(_tensor(towers["kernel"][number].T))
    output.bias.copy_(_tensor(towers["bias"][number][None]))


def _load_batched(
  model: Any, weights: Any, layers: int, tower_layers: int
) -> None:
  """Our arrays as they are; the first layer of all experts side by side."""
  experts, towers = weights["experts"], weights["towers"]
  kernel = experts["kernel_0"]
  wide = kernel.transpose(1, 0, 2).reshape(kernel.shape[1], -1)
  model.first.weight.copy_(_tensor(wide.T))
  model.first.bias.copy_(_tensor(experts["bias_0"].reshape(-1)))
  for layer in range(1, layers):
    model.rest.kernels[layer - 1].copy_(_tensor(experts[f"kernel_{layer}"]))
    bias = experts[f"bias_{layer}"][:, None]
    model.rest.biases[layer - 1].copy_(_tensor(bias))
  model.gate.weight.copy_(_tensor(weights["gate"]["logits"]["kernel"].T))
  for layer in range(tower_layers):
    own = towers["layers"]
    model.towers.kernels[layer].copy_(_tensor(own[f"kernel_{layer}"]))
    model.towers.biases[layer].copy_(_tensor(own[f"bias_{layer}"][:, None]))
  model.kernel.copy_(_tensor(towers["kernel"]))
  model.bias.copy_(_tensor(towers["bias"][:, None, None]))


def _widths(text: str) -> tuple[int, ...]:
  return tuple(int(part) for part in text.split(",") if part)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  peers = ("dense", "torch", "torch_batched")
  parser.add_argument("--peer", choices=peers, default="dense")
  parser.add_argument("--expert", type=_widths, default=(256, 128))
  parser.add_argument("--tower", type=_widths, default=(64,))
  parser.add_argument("--dim", type=int, default=416)
  parser.add_argument("--steps", type=int, default=20, help="timed in a round")
  parser.add_argument("--rounds", type=int, default=9)
  parser.add_argument("--one_core", action="store_true")
  args = parser.parse_args()
  clock = time.perf_counter
  if args.one_core:  # Before JAX and PyTorch count them.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clock = time.process_time
  from recjax.layers.heads.mmoe import MMoE
  from recjax.layers.heads.shared_bottom import SharedBottom

  random = np.random.default_rng(0)
  shape = NUM_BATCHES, BATCH_SIZE
  labels = random.random((*shape, NUM_TASKS)) < 0.3
  data = {
    "x": random.normal(size=(*shape, args.dim)).astype(np.float32),
    "y": labels.astype(np.float32),
  }
  ours, weights = make_jax(MMoE(NUM_EXPERTS, args.expert, args.tower), data)
  if args.peer == "dense":
    hidden = dense_widths(args.dim, args.expert)
    peer, _ = make_jax(SharedBottom(hidden, args.tower), data)
    peer_name = f"SharedBottom{hidden}, as many multiplications"
  else:
    import torch

    peer = make_torch(args.peer, data, weights, args.expert, args.tower)
    peer_name = f"PyTorch {torch.__version__}, {args.peer}"
  losses = {"ours": ours(args.steps), "peer": peer(args.steps)}  # Compiles.
  print(f"mean loss of {args.steps} steps of warm-up: {losses}")
  if args.peer != "dense":
    np.testing.assert_allclose(losses["ours"], losses["peer"], rtol=1e-4)
  runs = {
    "ours": lambda _: ours(args.steps),
    "peer": lambda _: peer(args.steps),
  }
  times = time_in_turn(
    runs, args.rounds, "ms/step", scale=1e3 / args.steps, clock=clock
  )
  print_summary(
    f"mmoe_step_{args.peer}",
    times,
    unit="ms/step",
    peer_name=peer_name,
    expert=args.expert,
    dim=args.dim,
    one_core=args.one_core,
  )


if __name__ == "__main__":
  main()
