"""Optimizers that see the looked-up rows of a table alone.

Each is a pure function of the rows that a batch touched, what is remembered of
them (the slots), their summed gradients g, and the step t, from 1. Rows that a
batch does not touch stay as they are, bit for bit. With g = 0 in those rows

- `SGD`, `Adagrad` and `FTRL` do exactly what the dense rule does;
- `RowWiseAdagrad` has no dense counterpart in optax;
- `Momentum`, `LazyAdam` and `SkipAwareAdam` differ from the dense rule, which
  goes on moving rows whose gradient is zero.

Weight decay, decoupled from the gradient (Loshchilov and Hutter, 2019), acts
on touched rows alone too: a rare row is pulled to zero rarely.
"""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from recjax.errors import ConfigError, check_range
from recjax.schedules import check_schedule, make_schedule

Rows = Float[Array, "rows dim"]
Slots = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class RowOptimizer(abc.ABC):
  """What all row-wise optimizers share.

  Attributes:
    learning_rate: the highest one.
    weight_decay: each touched row loses this share of itself times the rate.
    schedule: "constant", "linear" or "cosine", see `schedules.make_schedule`.
    warmup_steps: linear, from zero.
    decay_steps: of the schedule, warm-up included.
  """

  learning_rate: float = 1e-2
  weight_decay: float = 0.0
  schedule: str = "constant"
  warmup_steps: int = 0
  decay_steps: int = 0

  def __post_init__(self):
    owner = type(self).__name__
    check_range(f"{owner}.learning_rate", self.learning_rate, 0.0)
    check_range(f"{owner}.weight_decay", self.weight_decay, 0.0)
    check_schedule(owner, self.schedule, self.warmup_steps, self.decay_steps)

  def slots(self, num_rows: int, dim: int) -> Slots:
    """What is remembered of untrained rows: [num_rows, dim], or [num_rows].

    One number a row has no axis of its own in the array: XLA's TPU compiler
    copies arrays of one column to read them.
    """
    del num_rows, dim
    return {}

  def update(
    self, rows: Rows, slots: Slots, grads: Rows, step: Int[Array, ""]
  ) -> tuple[Rows, Slots]:
    """One step of the touched rows.

    Args:
      rows: the rows before it.
      slots: of the same rows.
      grads: summed over the batch, one a row.
      step: how many steps were taken before.

    Returns:
      The rows and slots after it.
    """
    rate = jnp.asarray(self._rate(step), rows.dtype)
    columns = {
      name: slot.reshape(rows.shape[0], -1) for name, slot in slots.items()
    }
    move, new = self._move(rows, columns, grads, rate, step + 1)
    slots = {name: new[name].reshape(slots[name].shape) for name in slots}
    if self.weight_decay:
      move += rate * self.weight_decay * rows
    return rows - move, slots

  def _rate(self, step):
    make = make_schedule(
      self.learning_rate, self.schedule, self.warmup_steps, self.decay_steps
    )
    return make(step)

  @abc.abstractmethod
  def _move(self, rows, slots, grads, rate, step) -> tuple[Rows, Slots]:
    """What is taken off the rows, and the new slots; `step` is from 1.

    A slot has a column here, [rows, 1], if it has one number a row.
    """


@dataclasses.dataclass(frozen=True)
class SGD(RowOptimizer):
  """E <- E - lr g; exact."""

  def _move(self, rows, slots, grads, rate, step):
    del rows, step
    return rate * grads, slots


@dataclasses.dataclass(frozen=True)
class Momentum(RowOptimizer):
  """m <- b m + g, E <- E - lr m, whenever a row is touched.

  The dense rule also moves untouched rows by their decaying m; here m waits.

  Attributes:
    decay: b.
  """

  decay: float = 0.9

  def __post_init__(self):
    super().__post_init__()
    check_range("Momentum.decay", self.decay, 0.0, 0.999999)

  def slots(self, num_rows: int, dim: int) -> Slots:
    """The momentum m."""
    return {"momentum": jnp.zeros((num_rows, dim))}

  def _move(self, rows, slots, grads, rate, step):
    del rows, step
    momentum = self.decay * slots["momentum"] + grads
    return rate * momentum, {"momentum": momentum}


@dataclasses.dataclass(frozen=True)
class Adagrad(RowOptimizer):
  """a <- a + g^2, E <- E - lr g / sqrt(a + eps); exact, as optax.adagrad.

  Duchi, Hazan, Singer: Adaptive Subgradient Methods, JMLR 2011,
  https://jmlr.org/papers/v12/duchi11a.html

  Attributes:
    initial_accumulator: a before the first step.
    eps: against division by zero.
  """

  initial_accumulator: float = 0.1
  eps: float = 1e-7

  def __post_init__(self):
    super().__post_init__()
    name = type(self).__name__
    check_range(f"{name}.initial_accumulator", self.initial_accumulator, 0.0)
    check_range(f"{name}.eps", self.eps, 0.0)

  def slots(self, num_rows: int, dim: int) -> Slots:
    """The sum of squares a of each weight."""
    return {"sum_squares": jnp.full((num_rows, dim), self.initial_accumulator)}

  def _move(self, rows, slots, grads, rate, step):
    del rows, step
    total = slots["sum_squares"] + self._square(grads)
    # A weight that never had a gradient stays, whatever eps.
    scale = jnp.where(total > 0, rate / jnp.sqrt(total + self.eps), 0.0)
    return scale * grads, {"sum_squares": total}

  def _square(self, grads):
    return jnp.square(grads)


@dataclasses.dataclass(frozen=True)
class RowWiseAdagrad(Adagrad):
  """a <- a + mean_d g_d^2, E <- E - lr g / sqrt(a + eps); one a for a row.

  Exact in the sense that rows without gradient stay; a dim-th of the memory
  of Adagrad. As in FBGEMM and TorchRec (EXACT_ROWWISE_ADAGRAD); see Naumov et
  al.: Deep Learning Recommendation Model, 2019,
  https://arxiv.org/abs/1906.00091
  """

  def slots(self, num_rows: int, dim: int) -> Slots:
    """The sum of mean squares a of each row."""
    del dim
    return {"sum_squares": jnp.full((num_rows,), self.initial_accumulator)}

  def _square(self, grads):
    return jnp.mean(jnp.square(grads), axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class LazyAdam(RowOptimizer):
  """Adam whose moments of a row move only when the row is touched.

  m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,
  E <- E - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

  t counts all steps, as in TensorFlow's LazyAdam and PyTorch's SparseAdam, so
  the moments of a rare row are corrected less than they are biased: its first
  moves are smaller than those of the dense rule would be.

  Kingma, Ba: Adam, ICLR 2015, https://arxiv.org/abs/1412.6980

  Attributes:
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the denominator.
  """

  learning_rate: float = 1e-3
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8

  def __post_init__(self):
    super().__post_init__()
    name = type(self).__name__
    check_range(f"{name}.b1", self.b1, 0.0, 0.999999)
    check_range(f"{name}.b2", self.b2, 0.0, 0.999999)
    check_range(f"{name}.eps", self.eps, 0.0)

  def slots(self, num_rows: int, dim: int) -> Slots:
    """Both moments."""
    zeros = lambda: jnp.zeros((num_rows, dim))
    return {"first_moment": zeros(), "second_moment": zeros()}

  def _move(self, rows, slots, grads, rate, step):
    del rows
    return self._adam(slots, grads, rate, step, self.b1, self.b2)

  def _adam(self, slots, grads, rate, step, decay1, decay2):
    """Adam whose old moments decay by the factors given."""
    first = decay1 * slots["first_moment"] + (1 - self.b1) * grads
    second = decay2 * slots["second_moment"]
    second += (1 - self.b2) * jnp.square(grads)
    count = jnp.asarray(step, grads.dtype)
    unbiased1 = first / (1 - jnp.power(self.b1, count))
    unbiased2 = second / (1 - jnp.power(self.b2, count))
    move = rate * unbiased1 / (jnp.sqrt(unbiased2) + self.eps)
    return move, {"first_moment": first, "second_moment": second}


@dataclasses.dataclass(frozen=True)
class SkipAwareAdam(LazyAdam):
  """Adam whose moments decay for the steps at which a row was not touched.

  With s steps since the row was touched last, m <- b1^s m + (1 - b1) g and
  v <- b2^s v + (1 - b2) g^2: the moments are those of the dense rule exactly.
  What is left out are the moves that the dense rule makes by m alone at the
  steps between, for a row must not be read before they are made.
  """

  def slots(self, num_rows: int, dim: int) -> Slots:
    """Both moments and the step at which the row was touched last."""
    last = jnp.zeros((num_rows,), jnp.int32)
    return super().slots(num_rows, dim) | {"last_step": last}

  def _move(self, rows, slots, grads, rate, step):
    del rows
    skipped = jnp.asarray(step - slots["last_step"], grads.dtype)
    move, moments = self._adam(
      slots,
      grads,
      rate,
      step,
      jnp.power(self.b1, skipped),
      jnp.power(self.b2, skipped),
    )
    # Not `full_like`: XLA would copy the slot of the whole table.
    last = jnp.maximum(slots["last_step"], step)
    return move, moments | {"last_step": last}


@dataclasses.dataclass(frozen=True)
class FTRL(RowOptimizer):
  r"""Follow the regularized leader, proximal, for each weight; exact.

  n' = n + g^2,  s = (b + sqrt(n)) / lr,  z <- z + g - (s' - s) * E,
  E <- 0 where |z| <= l1, else -(z - sign(z) l1) / (s' + l2)

  McMahan et al.: Ad Click Prediction: a View from the Trenches, KDD 2013,
  https://doi.org/10.1145/2487575.2488200

  With a schedule s is taken at the rate of the step that touched the row last,
  so that without penalties E <- E - g / s' at any rates, as the rule is meant:
  at a fixed formula for z, a falling rate would draw all weights to zero.

  The rule is made for rows that start at zero. Another start is kept until the
  row is touched, and drawn towards zero then. `weight_decay` is refused: the
  rule has `l2` for it.

  Attributes:
    l1: weights whose |z| does not pass it are exactly zero.
    l2: strength of the squared penalty.
    beta: b of the paper.
    initial_accumulator: n before the first step.
  """

  l1: float = 0.0
  l2: float = 0.0
  beta: float = 1.0
  initial_accumulator: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    for name in ("l1", "l2", "beta", "initial_accumulator"):
      check_range(f"FTRL.{name}", getattr(self, name), 0.0)
    check_range("FTRL.learning_rate", self.learning_rate, 1e-12)
    if self.weight_decay:
      raise ConfigError(
        f"FTRL.weight_decay must be 0; got {self.weight_decay!r}. The rule"
        " has its own penalties, FTRL.l1 and FTRL.l2."
      )

  def slots(self, num_rows: int, dim: int) -> Slots:
    """Sums z of gradients and n of squares; 1 / lr if it has a schedule."""
    slots = {
      "linear": jnp.zeros((num_rows, dim)),
      "sum_squares": jnp.full((num_rows, dim), self.initial_accumulator),
    }
    if self.schedule != "constant" or self.warmup_steps:
      slots["inverse_rate"] = jnp.zeros((num_rows,))
    return slots

  def update(
    self, rows: Rows, slots: Slots, grads: Rows, step: Int[Array, ""]
  ) -> tuple[Rows, Slots]:
    """One step of the touched rows; see `RowOptimizer.update`."""
    rate = jnp.asarray(self._rate(step), rows.dtype)
    is_moving = rate > 0
    inverse_rate = 1.0 / jnp.where(is_moving, rate, 1.0)
    total = slots["sum_squares"] + jnp.square(grads)
    root, old_root = jnp.sqrt(total), jnp.sqrt(slots["sum_squares"])
    growth = (root - old_root) * inverse_rate
    new_slots = {"sum_squares": total}
    if "inverse_rate" in slots:
      last = slots["inverse_rate"]
      last = jnp.where(last > 0, last, inverse_rate)
      growth += (self.beta + old_root) * (inverse_rate - last)[:, None]
      new_slots["inverse_rate"] = jnp.full_like(last, inverse_rate)
    linear = slots["linear"] + grads - growth * rows
    strength = (self.beta + root) * inverse_rate + self.l2
    new_rows = (jnp.sign(linear) * self.l1 - linear) / jnp.maximum(
      strength, 1e-30
    )
    new_rows = jnp.where(jnp.abs(linear) <= self.l1, 0.0, new_rows)
    # A rate of zero, as at the start of a warm-up, leaves no trace at all.
    keep = lambda new, old: jnp.where(is_moving, new, old)
    new_slots = new_slots | {"linear": linear}
    new_slots = {name: keep(new_slots[name], slots[name]) for name in slots}
    return keep(new_rows, rows), new_slots

  def _move(self, rows, slots, grads, rate, step):
    raise NotImplementedError  # The rule is for the row, not for its change.
