"""What the metrics of labelled examples share: which of them count.

A metric takes (score, label, weight, where). NumPy arrays are computed in
float64 on the host; where one of the arguments is a JAX array, all is computed
in JAX, also under `jax.jit`. An example counts if `where` is True and its
weight is not 0; what stands in the other places, even NaN, has no effect.
Weights are not negative.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Bool, Float, Num

Vector = Num[Array, " batch"] | Num[np.ndarray, " batch"]
Labels = Vector | Bool[Array, " batch"] | Bool[np.ndarray, " batch"]
Mask = Bool[Array, " batch"] | Bool[np.ndarray, " batch"]
Floats = Float[Array, " batch"] | Float[np.ndarray, " batch"]
Scalar = Float[Array, ""] | float


class Counted(NamedTuple):
  """Examples of one array type; those that do not count hold zeros.

  Attributes:
    score: scores.
    label: labels.
    weight: weights; 0 where an example does not count.
  """

  score: Floats
  label: Floats
  weight: Floats


def namespace(*arrays: Any) -> Any:
  """jax.numpy if one of the arrays is JAX's, else NumPy."""
  return jnp if any(isinstance(a, jax.Array) for a in arrays) else np


def counted(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
) -> Counted:
  """The examples as floats, without what does not count.

  Args:
    score: one an example.
    label: one an example.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.

  Returns:
    The examples, in their order.
  """
  xp = namespace(score, label, weight, where)
  score, label = xp.asarray(score, float), xp.asarray(label, float)
  if weight is None:
    weight = xp.ones(score.shape)
  weight = xp.asarray(weight, float)
  counts = weight != 0
  if where is not None:
    counts = counts & xp.asarray(where)
  keep = lambda values: xp.where(counts, values, 0.0)
  return Counted(keep(score), keep(label), keep(weight))


def probabilities(score: Floats, *, from_logits: bool) -> Floats:
  """The scores as probabilities: sigmoid(score) if they are logits."""
  if not from_logits:
    return score
  if isinstance(score, np.ndarray):
    return scipy.special.expit(score)
  return jax.nn.sigmoid(score)


def ratio(top: Any, bottom: Any, *, empty: float = 0.0) -> Any:
  """Quotients of `top` and `bottom`; `empty` where `bottom` is 0."""
  xp = namespace(top, bottom)
  some = bottom != 0
  return xp.where(some, top / xp.where(some, bottom, 1.0), empty)[()]
