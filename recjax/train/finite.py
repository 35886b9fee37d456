"""What is not finite is told with its name, and never saved."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from recjax.errors import RunError
from recjax.types import Params


def check_finite(
  metrics: dict[str, np.ndarray], first_step: int, names: list[str]
) -> None:
  """Raises RunError at the first step whose loss or gradient is not finite."""
  norms = metrics["gradient_norms"]
  bad = ~np.isfinite(metrics["loss"]) | ~np.isfinite(norms).all(axis=1)
  if not bad.any():
    return
  index = int(np.argmax(bad))
  where = [n for n, norm in zip(names, norms[index]) if not np.isfinite(norm)]
  raise RunError(
    f"step {first_step + index + 1}: the loss is {metrics['loss'][index]} and"
    f" the gradient is not finite in {', '.join(where) or 'no parameter'}."
    " The last checkpoint is from before. Try a lower learning rate,"
    " Optimizer.clip_norm, or float32."
  )


def finite_leaves(params: Params) -> Bool[Array, " leaf"]:
  """Whether all of each leaf is finite."""
  return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)])


def check_parameters(
  finite: Bool[Array, " leaf"], step: int, names: list[str]
) -> None:
  """Raises RunError if a parameter is not finite: it shall not be saved."""
  where = [
    n for n, is_finite in zip(names, np.asarray(finite)) if not is_finite
  ]
  if where:
    raise RunError(
      f"step {step}: the parameters {', '.join(where)} are not finite after"
      " the update. The last checkpoint is from before. Try a lower learning"
      " rate or Optimizer.clip_norm."
    )
