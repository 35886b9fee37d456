"""How the rows of a list of ids become one embedding."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

COMBINERS = ("none", "sum", "mean", "sqrtn")


def combine(
  rows: Float[Array, "*batch len dim"],
  where: Bool[Array, "*batch len"],
  weights: Float[Array, "*batch len"] | None,
  *,
  combiner: str,
) -> Float[Array, "*batch dim"]:
  """One embedding out of a list: sum, mean or sqrtn; 0 of an empty list.

  sum = sum_l w_l e_l;  mean = sum / sum_l w_l;  sqrtn = sum / sqrt(sum w_l^2)

  Args:
    rows: of each place.
    where: places that hold an id.
    weights: w; None is 1.
    combiner: "sum", "mean" or "sqrtn".

  Returns:
    The combined rows.
  """
  weights = jnp.ones(rows.shape[:-1]) if weights is None else weights
  weights = jnp.where(where, weights, 0.0)
  # Masked first: what stands at padding must not matter, not even NaN.
  rows = jnp.where(where[..., None], rows, 0.0)
  total = jnp.einsum("...l,...ld->...d", weights, rows)
  return total * scale_of(weights, combiner)[..., None]


def scale_of(
  weights: Float[Array, "*batch len"], combiner: str
) -> Float[Array, "*batch"]:
  """What the sum over a list is multiplied by; 0 of a list without weight."""
  if combiner == "sum":
    return jnp.ones(weights.shape[:-1])
  if combiner == "mean":
    size = jnp.sum(weights, axis=-1)
  else:
    square = jnp.sum(jnp.square(weights), axis=-1)
    # The root has no finite slope at 0.
    size = jnp.sqrt(jnp.where(square > 0, square, 1.0)) * (square > 0)
  return jnp.where(size != 0, 1.0 / jnp.where(size != 0, size, 1.0), 0.0)
