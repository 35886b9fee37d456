r"""Sums of float32 that lose nothing on the way.

A float32 that counts examples stands still at 2^24, and a sum of a million of
them is off in the fifth digit. A `Sum` keeps what rounding took away in a
second float: of s = fl(a + b), with v = fl(s - a), the error

  a + b - s = (a - (s - v)) + (b - v)

is itself a float and is carried along. That makes 48 bits: whole numbers are
added exactly up to 2^48, in any order. NumPy arrays are summed in float64.

References:
  Donald Knuth. The Art of Computer Programming, volume 2, section 4.2.2.
  T. J. Dekker. A floating-point technique for extending the available
  precision. Numerische Mathematik 1971. https://doi.org/10.1007/BF01397083
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float

_Pair = tuple[jax.Array, jax.Array]


@struct.dataclass
class Sum:
  """Numbers that grow without loss: each is `high` + `low`.

  Attributes:
    high: the number, rounded to a float.
    low: what the rounding left over; of the shape of `high`.
  """

  # Any: the same tree also holds shapes or shardings.
  high: Any
  low: Any

  @classmethod
  def zeros(cls, shape: tuple[int, ...] = ()) -> "Sum":
    """Sums of nothing."""
    return cls(jnp.zeros(shape), jnp.zeros(shape))

  def add(self, values: Float[Array, "*rest"]) -> "Sum":
    """Adds one value to each number."""
    return self.merge(Sum(values, jnp.zeros_like(values)))

  def merge(self, other: "Sum") -> "Sum":
    """The sums of both."""
    return Sum(*_add((self.high, self.low), (other.high, other.low)))

  def value(self) -> Float[Array, "*rest"]:
    """The numbers, rounded."""
    return self.high + self.low


def _add(a: _Pair, b: _Pair) -> _Pair:
  total = a[0] + b[0]
  moved = total - a[0]
  error = (a[0] - (total - moved)) + (b[0] - moved)
  rest = error + a[1] + b[1]
  high = total + rest
  return high, rest - (high - total)


def sum_over(values: Float[Array, "*rest batch"]) -> Sum:
  """The sum over the last axis, as a `Sum`."""
  zero = jnp.zeros((), values.dtype)
  pairs = (values, jnp.zeros_like(values))
  return Sum(*lax.reduce(pairs, (zero, zero), _add, (values.ndim - 1,)))


def sum_of(
  values: Float[Array, "*rest batch"] | Float[np.ndarray, "*rest batch"],
) -> Float[Array, "*rest"] | Float[np.ndarray, "*rest"] | float:
  """The sum over the last axis, rounded once."""
  if isinstance(values, np.ndarray):
    return np.sum(values, -1)
  return sum_over(values).value()


def range_sums(
  values: Float[Array, " batch"] | Float[np.ndarray, " batch"],
) -> Callable[[Any, Any], Any]:
  """A function of index arrays a and b that gives sum_{a <= i < b} values_i.

  Differences of running sums, which cancel: here they do so without harm.

  Args:
    values: what to sum.

  Returns:
    The function; its indices lie in [0, batch].
  """
  if isinstance(values, np.ndarray):
    running = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return lambda start, stop: running[stop] - running[start]
  high, low = _running(values)
  return lambda start, stop: (
    (high[stop] - high[start]) + (low[stop] - low[start])
  )


# Compiled as one: its many small steps are slow to dispatch one by one.
@jax.jit
def _running(values: Float[Array, " batch"]) -> _Pair:
  """Sums of the first i values, for i from 0 to their number."""
  pairs = (values, jnp.zeros_like(values))
  high, low = lax.associative_scan(_add, pairs)
  return jnp.pad(high, (1, 0)), jnp.pad(low, (1, 0))
