"""Heads written out for one row in NumPy; layers are relu."""

import jax
import jax.numpy as jnp
import numpy as np

BATCH, IN = 5, 4
X = np.random.default_rng(0).normal(size=(BATCH, IN)).astype(np.float32)


def drawn(head, num_tasks: int, seed: int = 1):
  """Random parameters for a head without batch norm."""
  init = lambda key: head.init(key, jnp.asarray(X), num_tasks=num_tasks)
  shapes = jax.eval_shape(init, jax.random.key(0))["params"]
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
  )


def applied(head, params, num_tasks: int, **options) -> np.ndarray:
  """The logits, [batch, task]."""
  run = jax.jit(
    lambda params, x: head.apply(
      {"params": params}, x, num_tasks=num_tasks, **options
    )
  )
  return np.asarray(run(params, jnp.asarray(X)))


def dense(params, x):
  """A linear layer; the bias may be missing."""
  return x @ params["kernel"] + params.get("bias", 0.0)


def expert(params, x, number: int):
  """One expert of `Experts`."""
  for layer in range(len(params) // 2):
    kernel = params[f"kernel_{layer}"][number]
    x = np.maximum(x @ kernel + params[f"bias_{layer}"][number], 0.0)
  return x


def tower(params, x, task: int):
  """One logit of `TaskTowers`."""
  if "layers" in params:
    x = expert(params["layers"], x, task)
  return x @ params["kernel"][task, :, 0] + params["bias"][task]


def softmax(x):
  """Along one axis."""
  weights = np.exp(x - x.max())
  return weights / weights.sum()


def assert_equal(found: np.ndarray, expected) -> None:
  """Compares with `expected(row, task)`."""
  wanted = [[expected(x, t) for t in range(found.shape[1])] for x in X]
  np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)
