"""Runs of equal values in sorted order: where each begins and ends."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Num

from recjax.metrics.examples import namespace

_Indices = Int[Array, " batch"] | Int[np.ndarray, " batch"]
_Key = Num[Array, " batch"] | Num[np.ndarray, " batch"]


class Runs(NamedTuple):
  """The run of equal elements that each element of a sorted array is in.

  Attributes:
    first: where the run begins.
    stop: where it ends, one past its last element.
  """

  first: _Indices
  stop: _Indices


def tied_runs(*keys: _Key) -> Runs:
  """The runs of elements that are equal in all keys, sorted by them.

  Args:
    *keys: in sorted order. NaN is a run of its own.

  Returns:
    The runs.
  """
  xp = namespace(*keys)
  differs: Any = False
  for key in keys:
    differs = differs | (key[1:] != key[:-1])
  edge = xp.ones(min(len(keys[0]), 1), bool)
  starts = xp.concatenate([edge, differs])
  ends = xp.concatenate([differs, edge])
  size = len(starts)
  index = xp.arange(size)
  if xp is np:
    first = np.maximum.accumulate(np.where(starts, index, 0))
    last = np.minimum.accumulate(np.where(ends, index, size)[::-1])[::-1]
  else:
    first = lax.cummax(jnp.where(starts, index, 0))
    last = lax.cummin(jnp.where(ends, index, size), reverse=True)
  return Runs(first, last + 1)
