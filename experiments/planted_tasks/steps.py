"""Heads of two tasks along training, as the tasks become less alike.

  python experiments/planted_tasks/steps.py --workdir=DIR

Figure 4 of the MMoE paper: the loss over training steps, with rows that are
drawn anew at each step, Adam at a constant rate from the paper's grid, and
independent data and weights for each seed. Each head has all rates on seeds
that are not judged; the least loss at the last step, mean of all correlations
tuned at, chooses one. Losses are those of 4,096 rows without noise that no step
sees. Writes steps.npz into DIR as it goes on, and steps.csv and steps.png
beside this file. What is finished is not run again.
"""

import argparse
import csv
import functools
import io
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

from recjax import files
from recjax.data.sources.planted_tasks import PlantedTasks
from recjax.layers.heads.mmoe import MMoE
from recjax.layers.heads.shared_bottom import SharedBottom
from recjax.progress import progress_bar
from recjax.runs.plot_style import new_figure, png_bytes, title_axes

HERE = pathlib.Path(__file__).parent
HEADS = {
  "shared bottom": SharedBottom((113,), (8,)),
  "OMoE": MMoE(8, (16,), (8,), one_gate=True),
  "MMoE": MMoE(8, (16,), (8,)),
}
RATES = (1e-4, 1e-3, 1e-2)  # The paper's grid.
TUNED_AT, TUNED_ON = (0.0, 0.5, 1.0), tuple(range(1000, 1005))
CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
BATCH, EVERY, TESTED = 256, 500, 4096
Job = tuple[str, float, float, int]  # Head, rate, correlation and seed.


def labels(x: jax.Array, weights: jax.Array, source: PlantedTasks) -> jax.Array:
  """What `PlantedTasks.means` gives, on the device."""
  places = x @ weights.T
  total = places
  for alpha, beta in zip(source.alphas, source.betas):
    total = total + jnp.sin(alpha * places + beta)
  return total


@functools.partial(jax.jit, static_argnames=("head", "num_evals"))
def losses(
  weights: jax.Array, seed: jax.Array, rate: jax.Array, *, head, num_evals
) -> jax.Array:
  """Mean squared errors of both tasks, [evaluation, task]."""
  source = PlantedTasks()
  num_features = weights.shape[1]
  keys = jax.random.split(jax.random.key(seed), 3)
  tested = jax.random.normal(keys[0], (TESTED, num_features))
  truth = labels(tested, weights, source)
  params = head.init(keys[1], tested[:1], num_tasks=2)
  adam = optax.adam(rate)

  def loss(params, x, y):
    return jnp.mean((head.apply(params, x, num_tasks=2) - y) ** 2)

  def step(state, number):
    params, slots = state
    key = jax.random.fold_in(keys[2], number)
    x = jax.random.normal(key, (BATCH, num_features))
    noise = jax.random.normal(jax.random.fold_in(key, 1), (BATCH, 2))
    y = labels(x, weights, source) + source.noise_stddev * noise
    updates, slots = adam.update(jax.grad(loss)(params, x, y), slots)
    return (optax.apply_updates(params, updates), slots), None

  def round_of_steps(state, number):
    state, _ = jax.lax.scan(step, state, number * EVERY + jnp.arange(EVERY))
    error = head.apply(state[0], tested, num_tasks=2) - truth
    return state, jnp.mean(error**2, axis=0)

  start = params, adam.init(params)
  return jax.lax.scan(round_of_steps, start, jnp.arange(num_evals))[1]


def run_all(jobs: list[Job], path: pathlib.Path, num_steps: int) -> np.ndarray:
  """The mean loss of both tasks of each job, [job, evaluation]."""
  found = dict(np.load(path)) if path.exists() else {}
  missing = [job for job in jobs if repr(job) not in found]
  with progress_bar("trainings", len(missing), unit="trainings") as bar:
    for place, (name, rate, correlation, seed) in enumerate(missing):
      source = PlantedTasks(correlation=correlation, seed=seed)
      weights = jnp.asarray(source.weights, jnp.float32)
      curve = losses(
        weights, seed, rate, head=HEADS[name], num_evals=num_steps // EVERY
      )
      found[repr((name, rate, correlation, seed))] = np.mean(curve, axis=1)
      if place % 20 == 0 or place + 1 == len(missing):
        files.write_atomically(path, lambda file: np.savez(file, **found))
      bar.advance(1, name)
  return np.array([found[repr(job)] for job in jobs])


def tuned_rates(found: np.ndarray, jobs: list[Job]) -> dict[str, float]:
  """The rate of each head with the least loss at the end."""
  ends = found[:, -1]

  def mean(head: str, rate: float) -> float:
    return float(
      np.mean([e for j, e in zip(jobs, ends) if j[:2] == (head, rate)])
    )

  return {
    head: min(RATES, key=lambda rate, head=head: mean(head, rate))
    for head in HEADS
  }


def slopes(lead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Of the lead over correlations: Student's mean and p over seeds.

  Args:
    lead: [correlation, seed, evaluation].

  Returns:
    Mean slope and two-sided p at each evaluation.
  """
  centred = np.array(CORRELATIONS) - np.mean(CORRELATIONS)
  of_seeds = np.einsum("c,cse->se", centred, lead) / np.sum(centred**2)
  return of_seeds.mean(axis=0), scipy.stats.ttest_1samp(of_seeds, 0).pvalue


def write(
  curves: np.ndarray, rates: dict[str, float], path: pathlib.Path
) -> None:
  """Means and deviations over seeds of curves [head, corr., seed, eval.]."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(("head", "rate", "correlation", "step", "mse", "deviation"))
  for (h, head), (c, correlation), e in itertools.product(
    enumerate(HEADS), enumerate(CORRELATIONS), range(curves.shape[-1])
  ):
    values = curves[h, c, :, e]
    numbers = f"{values.mean():.5f}", f"{values.std(ddof=1):.5f}"
    writer.writerow((head, rates[head], correlation, (e + 1) * EVERY, *numbers))
  files.write_text_atomically(path, text.getvalue())


def draw(curves: np.ndarray, path: pathlib.Path) -> None:
  """Loss along training at three correlations, and the lead of MMoE."""
  steps = EVERY * np.arange(1, curves.shape[-1] + 1)
  figure = new_figure(11.5, 3.2)
  *axes, last = figure.subplots(1, 4)
  for axis, correlation in zip(axes, (0.0, 0.5, 1.0), strict=True):
    of_heads = curves[:, CORRELATIONS.index(correlation)].mean(axis=1)
    for head, values in zip(HEADS, of_heads, strict=True):
      axis.plot(steps, values, label=head)
    axis.set_yscale("log")
    title_axes(axis, f"correlation {correlation:g}")
  axes[0].set_ylabel("mean squared error, both tasks")
  axes[0].legend(frameon=False)
  names = list(HEADS)
  lead = curves[names.index("shared bottom")] - curves[names.index("MMoE")]
  for correlation, values in zip(CORRELATIONS, lead.mean(axis=1), strict=True):
    last.plot(steps, values, label=f"{correlation:g}")
  last.axhline(0.0, color="0.7", linewidth=0.8)
  last.legend(frameon=False, title="correlation")
  title_axes(last, "lead of MMoE")
  for axis in (*axes, last):
    axis.set_xlabel("steps")
  content = png_bytes(figure)
  files.write_atomically(path, lambda file: file.write(content))


def main() -> None:
  """Makes all trainings and writes what was found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--num_seeds", type=int, default=30)
  parser.add_argument("--num_steps", type=int, default=10_000)
  args = parser.parse_args()
  args.workdir.mkdir(parents=True, exist_ok=True)
  path = args.workdir / "steps.npz"
  trials = list(itertools.product(HEADS, RATES, TUNED_AT, TUNED_ON))
  rates = tuned_rates(run_all(trials, path, args.num_steps), trials)
  print("rates:", rates, flush=True)
  seeds = range(args.num_seeds)
  jobs = [
    (head, rates[head], correlation, seed)
    for head, correlation, seed in itertools.product(HEADS, CORRELATIONS, seeds)
  ]
  found = run_all(jobs, path, args.num_steps)
  curves = found.reshape(len(HEADS), len(CORRELATIONS), args.num_seeds, -1)
  write(curves, rates, HERE / "steps.csv")
  draw(curves, HERE / "steps.png")
  of_head = dict(zip(HEADS, curves, strict=True))
  for other in ("shared bottom", "OMoE"):
    mean, p = slopes(of_head[other] - of_head["MMoE"])
    for e in range(curves.shape[-1]):
      step = (e + 1) * EVERY
      print(f"{other} - MMoE, step {step}: slope {mean[e]:+.4f}, p {p[e]:.2g}")


if __name__ == "__main__":
  main()
