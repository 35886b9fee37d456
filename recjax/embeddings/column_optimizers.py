"""Row-wise optimizers on devices that hold some columns of each row."""

import dataclasses

import jax.numpy as jnp
from jax import lax

from recjax.embeddings.row_optimizers import (
  FTRL,
  SGD,
  Adagrad,
  LazyAdam,
  Momentum,
  RowOptimizer,
  RowWiseAdagrad,
  SkipAwareAdam,
)
from recjax.errors import ConfigError

# What they do to a weight depends on no other weight of its row.
_ELEMENTWISE = (SGD, Momentum, Adagrad, LazyAdam, SkipAwareAdam, FTRL)


def across_columns(
  optimizer: RowOptimizer, max_norm: float, axes: tuple[str, ...]
) -> RowOptimizer:
  """The optimizer that, on equal slices of the columns, does the same.

  Sums over a row are made over the devices: one number a row travels.

  Args:
    optimizer: of whole rows.
    max_norm: of whole rows; 0 is off. The result takes care of it.
    axes: mesh axes that cut the columns.

  Returns:
    An optimizer to be used within `jax.shard_map`.

  Raises:
    ConfigError: it is not known what the optimizer sums over a row.
  """
  if type(optimizer) is RowWiseAdagrad:
    optimizer = _SlicedRowWiseAdagrad(
      **_fields(optimizer),  # pyright: ignore[reportArgumentType]
      axes=axes,
    )
  elif type(optimizer) not in _ELEMENTWISE:
    known = ", ".join(kind.__name__ for kind in (*_ELEMENTWISE, RowWiseAdagrad))
    raise ConfigError(
      f"columns can be cut for the optimizers {known}; of"
      f" {type(optimizer).__name__} it is not known what it sums over a row."
      " Choose row_wise."
    )
  if not max_norm:
    return optimizer
  return _Clipped(inner=optimizer, max_norm=max_norm, axes=axes)


def sums_a_row(optimizer: RowOptimizer | None, max_norm: float) -> int:
  """How many numbers a row sums over its columns at an update."""
  return int(type(optimizer) is RowWiseAdagrad) + int(max_norm > 0)


def _fields(optimizer):
  names = [field.name for field in dataclasses.fields(optimizer)]
  return {name: getattr(optimizer, name) for name in names}


@dataclasses.dataclass(frozen=True)
class _SlicedRowWiseAdagrad(RowWiseAdagrad):
  """RowWiseAdagrad whose mean square is that of all slices."""

  axes: tuple[str, ...] = ()

  def _square(self, grads):
    return lax.pmean(super()._square(grads), self.axes)


@dataclasses.dataclass(frozen=True)
class _Clipped(RowOptimizer):
  """Scales rows down to a norm over all slices after each update."""

  inner: RowOptimizer = dataclasses.field(default_factory=SGD)
  max_norm: float = 0.0
  axes: tuple[str, ...] = ()

  def update(self, rows, slots, grads, step):
    """One step of the touched rows."""
    rows, slots = self.inner.update(rows, slots, grads, step)
    squares = jnp.sum(jnp.square(rows), axis=1, keepdims=True)
    norm = jnp.sqrt(lax.psum(squares, self.axes))
    scale = jnp.minimum(1.0, self.max_norm / jnp.maximum(norm, 1e-12))
    return rows * scale, slots

  def _move(self, rows, slots, grads, rate, step):
    raise NotImplementedError  # `update` asks the inner one.
