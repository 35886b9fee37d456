r"""Sums of float32 that lose nothing on the way.

A float32 that counts examples stands still at 2^24, and a sum of a million of
them is off in the fifth digit. A `Sum` keeps what rounding took away in a
second float: of s = fl(a + b), with v = fl(s - a), the error

  a + b - s = (a - (s - v)) + (b - v)

is itself a float and is carried along. So sums are right to twelve digits, and
whole numbers are added exactly up to 2^48, in any order. NumPy arrays are
summed in float64.

References:
  Donald Knuth. The Art of Computer Programming, volume 2, section 4.2.2.
  T. J. Dekker. A floating-point technique for extending the available
  precision. Numerische Mathematik 1971. https://doi.org/10.1007/BF01397083
"""

import math
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
  values: Float[Array, "*rest batch"] | Float[np.ndarray, "*rest batch"],
) -> Callable[[Any, Any], Any]:
  """A function of index arrays a and b that gives sum_{a <= i < b} values_i.

  Differences of running sums, which cancel: here they do so without harm.

  Args:
    values: what to sum over ranges of the last axis.

  Returns:
    The function; its indices lie in [0, batch], and its result is of shape
    [*rest, *indices].
  """
  if isinstance(values, np.ndarray):
    running = np.cumsum(values, -1, dtype=np.float64)
    running = np.insert(running, 0, 0.0, -1)
    return lambda start, stop: running[..., stop] - running[..., start]
  high, low = _running(values)
  return lambda start, stop: (
    (high[..., stop] - high[..., start]) + (low[..., stop] - low[..., start])
  )


# Compiled as one: its many small steps are slow to dispatch one by one.
@jax.jit
def _running(values: Float[Array, "*rest batch"]) -> _Pair:
  """Sums of the first i values, for i from 0 to their number.

  About sqrt(n) blocks of sqrt(n) values: a scan inside all blocks at once, and
  one over the blocks' totals. It compiles ten times faster than a scan by
  halves, and runs faster on a CPU.
  """
  *rest, size = values.shape
  width = max(1, math.isqrt(size))
  blocks = -(-size // width)
  padding = [(0, 0)] * len(rest) + [(0, blocks * width - size)]
  values = jnp.pad(values, padding).reshape(*rest, blocks, width)
  columns = jnp.moveaxis(values, -1, 0)
  zeros = jnp.zeros(columns.shape[1:], values.dtype)

  def add(carry: _Pair, value: jax.Array) -> tuple[_Pair, _Pair]:
    carry = _add(carry, (value, jnp.zeros_like(value)))
    return carry, carry

  def add_total(carry: _Pair, total: _Pair) -> tuple[_Pair, _Pair]:
    return _add(carry, total), carry

  (high, low), inside = lax.scan(add, (zeros, zeros), columns)
  totals = jnp.moveaxis(high, -1, 0), jnp.moveaxis(low, -1, 0)
  zeros = jnp.zeros(tuple(rest), values.dtype)
  _, before = lax.scan(add_total, (zeros, zeros), totals)

  def along(part: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.moveaxis(part, 0, -1)[..., None], values.shape)

  high, low = _add(
    (jnp.moveaxis(inside[0], 0, -1), jnp.moveaxis(inside[1], 0, -1)),
    (along(before[0]), along(before[1])),
  )
  padding[-1] = (1, 0)
  flat = lambda part: jnp.pad(
    part.reshape(*rest, blocks * width)[..., :size], padding
  )
  return flat(high), flat(low)
