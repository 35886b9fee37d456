"""Metrics of examples that pass by in batches: accumulators that merge.

Each is a frozen tree of arrays with `init`, `update`, `merge` and `result`,
for use in or outside of `jax.jit`, on one device or several: update with what
a process sees, merge over processes. All sums are kept as
`recjax.metrics.sums.Sum`, so merging loses nothing: counts are equal bit for
bit whatever the order, and weighted sums to twelve digits. A single update is
summed in float32: give it fewer than 2^24 examples.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Num

from recjax.errors import ConfigError, check_range
from recjax.metrics.calibration import (
  ReliabilityCurve,
  bin_index,
  bin_sums,
  calibration_error,
  check_binning,
  curve_from_sums,
)
from recjax.metrics.classification import EPSILON, entropy, log_losses
from recjax.metrics.examples import counted, probabilities, ratio
from recjax.metrics.sums import Sum, sum_over

_NAN = float("nan")
_Score = Float[Array, " batch"]
_Label = Num[Array, " batch"] | Bool[Array, " batch"]
_Mask = Bool[Array, " batch"]


def _floats(
  score: _Score,
  label: _Label,
  weight: Num[Array, " batch"] | None,
  where: _Mask | None,
) -> tuple[_Score, _Score, _Score]:
  """The examples as float32, also under x64; masked ones are zeros."""
  examples = counted(score, label, weight, where)
  return tuple(part.astype(jnp.float32) for part in examples)  # pyright: ignore


def _add_to_bins(bins: Sum, index: Any, values: Any) -> Sum:
  size = bins.high.shape[0]
  return bins.add(jax.ops.segment_sum(values, index, size))


@struct.dataclass
class StreamingAUC:
  r"""AUC from histograms of the scores of both classes.

  Bins of equal width lie on [low, high]; scores outside go to the bins at the
  ends. Pairs of different bins are ordered as their scores are; pairs of one
  bin count one half, as if tied. So with p_b and n_b the masses of positives
  and negatives in bin b, the exact AUC differs by at most

    bound = 1/2 \sum_b p_b n_b / (\sum_b p_b \sum_b n_b),

  whatever the scores are; `error_bound` gives it. The default bins are meant
  for logits; give `low=0.0, high=1.0` for probabilities.

  Attributes:
    positive: mass of the positives in each bin, a `Sum` of [k].
    negative: mass of the negatives in each bin.
    num_nan: how many scores were NaN; if any, the result is NaN.
    low: lower end of the first bin.
    high: upper end of the last one.
  """

  # Any: the same tree also holds shapes or shardings.
  positive: Any
  negative: Any
  num_nan: Any
  low: float = struct.field(pytree_node=False, default=-16.0)
  high: float = struct.field(pytree_node=False, default=16.0)

  @classmethod
  def init(
    cls, *, num_bins: int = 2**14, low: float = -16.0, high: float = 16.0
  ) -> "StreamingAUC":
    """No examples yet.

    Args:
      num_bins: how many bins; the error falls with their number.
      low: lower end of the first bin, in units of the score.
      high: upper end of the last one.

    Raises:
      ConfigError: no bins, or low is not below high.
    """
    check_range("num_bins", num_bins, 1, integer=True)
    if not low < high:
      raise ConfigError(f"low must be below high; got {low} and {high}.")
    zeros = Sum.zeros((num_bins,))
    return cls(zeros, zeros, Sum.zeros(), low, high)

  def update(
    self,
    score: _Score,
    label: _Label,
    weight: Num[Array, " batch"] | None = None,
    where: _Mask | None = None,
  ) -> "StreamingAUC":
    """Adds examples.

    Args:
      score: one an example.
      label: 1 for positives, 0 for negatives.
      weight: of each example; all 1 without it.
      where: which examples count; all without it.

    Returns:
      The new accumulator.
    """
    score, label, weight = _floats(score, label, weight, where)
    bins = self.positive.high.shape[0]
    nan = jnp.isnan(score)
    place = (score - self.low) / (self.high - self.low) * bins
    place = jnp.clip(jnp.floor(jnp.where(nan, 0.0, place)), 0, bins - 1)
    index = place.astype(jnp.int32)
    return self.replace(  # pyright: ignore
      positive=_add_to_bins(self.positive, index, weight * label),
      negative=_add_to_bins(self.negative, index, weight * (1 - label)),
      num_nan=self.num_nan.add(jnp.sum(nan, dtype=jnp.float32)),
    )

  def merge(self, other: "StreamingAUC") -> "StreamingAUC":
    """The examples of both.

    Raises:
      ConfigError: the bins differ.
    """
    mine, its = (
      (one.positive.high.shape[-1], one.low, one.high) for one in (self, other)
    )
    if mine != its:
      raise ConfigError(
        f"only equal bins merge; got {mine[0]} on [{mine[1]}, {mine[2]}] and"
        f" {its[0]} on [{its[1]}, {its[2]}]."
      )
    return self.replace(  # pyright: ignore
      positive=self.positive.merge(other.positive),
      negative=self.negative.merge(other.negative),
      num_nan=self.num_nan.merge(other.num_nan),
    )

  def result(self) -> Float[Array, ""]:
    """The AUC up to `error_bound`; NaN with one class or with NaN scores."""
    positive, negative = self._shares()
    below = jnp.cumsum(negative) - negative / 2
    return self._defined(sum_over(positive * below).value())

  def error_bound(self) -> Float[Array, ""]:
    """How far the result can be from the exact AUC of the same examples.

    The rounding of float32, some 1e-6, comes on top. NaN as the result.
    """
    positive, negative = self._shares()
    return self._defined(sum_over(positive * negative).value() / 2)

  def _shares(self) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    masses = self.positive.value(), self.negative.value()
    return tuple(ratio(m, sum_over(m).value()) for m in masses)  # pyright: ignore

  def _defined(self, value: Float[Array, ""]) -> Float[Array, ""]:
    both = jnp.any(self.positive.value() > 0) & jnp.any(
      self.negative.value() > 0
    )
    return jnp.where(both & (self.num_nan.value() == 0), value, _NAN)


@struct.dataclass
class StreamingMeans:
  """Log-loss, normalized entropy and RMSE, exact, in one pass.

  Attributes:
    sums: of w, w loss, w y, w p and w (p - y)^2; a `Sum` of [5].
    from_logits: whether the scores are logits.
    epsilon: see `recjax.metrics.classification.log_loss_metric`.
  """

  # Any: the same tree also holds shapes or shardings.
  sums: Any
  from_logits: bool = struct.field(pytree_node=False, default=False)
  epsilon: float = struct.field(pytree_node=False, default=EPSILON)

  @classmethod
  def init(
    cls, *, from_logits: bool = False, epsilon: float = EPSILON
  ) -> "StreamingMeans":
    """No examples yet.

    Args:
      from_logits: whether the scores are logits.
      epsilon: probabilities are clipped to [epsilon, 1 - epsilon].
    """
    return cls(Sum.zeros((5,)), from_logits, epsilon)

  def update(
    self,
    score: _Score,
    label: _Label,
    weight: Num[Array, " batch"] | None = None,
    where: _Mask | None = None,
  ) -> "StreamingMeans":
    """Adds examples; arguments as of `StreamingAUC.update`."""
    score, y, w = _floats(score, label, weight, where)
    loss = log_losses(
      score, y, from_logits=self.from_logits, epsilon=self.epsilon
    )
    p = probabilities(score, from_logits=self.from_logits)
    rows = jnp.stack([w, w * loss, w * y, w * p, w * (p - y) ** 2])
    sums = self.sums.merge(sum_over(rows))
    return self.replace(sums=sums)  # pyright: ignore

  def merge(self, other: "StreamingMeans") -> "StreamingMeans":
    """The examples of both.

    Raises:
      ConfigError: the options differ.
    """
    mine, its = (
      {"from_logits": one.from_logits, "epsilon": one.epsilon}
      for one in (self, other)
    )
    if mine != its:
      raise ConfigError(f"only equal options merge; got {mine} and {its}.")
    return self.replace(sums=self.sums.merge(other.sums))  # pyright: ignore

  def result(
    self, *, base_rate: float | None = None
  ) -> dict[str, Float[Array, ""]]:
    """The means over all examples.

    Args:
      base_rate: of the normalized entropy; the mean label without it.

    Returns:
      "log_loss", "normalized_entropy" (NaN with one class and no base rate),
      "rmse", "mean_label", "mean_prediction" and "weight", the summed
      weights. All are 0 if nothing counts.
    """
    weight, loss, label, prediction, squares = self.sums.value()
    mean_label, log_loss = ratio(label, weight), ratio(loss, weight)
    rate = mean_label if base_rate is None else jnp.asarray(base_rate, float)
    relative = ratio(log_loss, entropy(rate), empty=_NAN)
    return {
      "log_loss": log_loss,
      "normalized_entropy": jnp.where(weight == 0, 0.0, relative),
      "rmse": jnp.sqrt(ratio(squares, weight)),
      "mean_label": mean_label,
      "mean_prediction": ratio(prediction, weight),
      "weight": weight,
    }


@struct.dataclass
class StreamingCalibration:
  """Reliability curve and expected calibration error, from fine bins.

  `resolution` fine bins of equal width are merged into the bins of the curve:
  exactly into bins of equal width; into bins of equal mass as if all
  predictions of a fine bin were equal.

  Attributes:
    weight: summed weights of each fine bin, a `Sum` of [k].
    prediction: summed w p.
    label: summed w y.
    squares: summed w^2.
    from_logits: whether the scores are logits.
  """

  # Any: the same tree also holds shapes or shardings.
  weight: Any
  prediction: Any
  label: Any
  squares: Any
  from_logits: bool = struct.field(pytree_node=False, default=False)

  @classmethod
  def init(
    cls, *, resolution: int = 6000, from_logits: bool = False
  ) -> "StreamingCalibration":
    """No examples yet.

    Args:
      resolution: how many fine bins; a multiple of the number of bins of
        equal width that will be asked for.
      from_logits: whether the scores are logits.

    Raises:
      ConfigError: no bins.
    """
    check_range("resolution", resolution, 1, integer=True)
    return cls(*4 * (Sum.zeros((resolution,)),), from_logits)  # pyright: ignore

  def update(
    self,
    score: _Score,
    label: _Label,
    weight: Num[Array, " batch"] | None = None,
    where: _Mask | None = None,
  ) -> "StreamingCalibration":
    """Adds examples; arguments as of `StreamingAUC.update`."""
    score, y, w = _floats(score, label, weight, where)
    p = probabilities(score, from_logits=self.from_logits)
    fine = self.weight.high.shape[0]
    index = bin_index(p, w, num_bins=fine, binning="equal_width")
    return self.replace(  # pyright: ignore
      weight=_add_to_bins(self.weight, index, w),
      prediction=_add_to_bins(self.prediction, index, w * p),
      label=_add_to_bins(self.label, index, w * y),
      squares=_add_to_bins(self.squares, index, w**2),
    )

  def merge(self, other: "StreamingCalibration") -> "StreamingCalibration":
    """The examples of both.

    Raises:
      ConfigError: the options differ.
    """
    mine, its = (
      {"resolution": one.weight.high.shape[-1], "from_logits": one.from_logits}
      for one in (self, other)
    )
    if mine != its:
      raise ConfigError(f"only equal options merge; got {mine} and {its}.")
    names = ("weight", "prediction", "label", "squares")
    merged = {n: getattr(self, n).merge(getattr(other, n)) for n in names}
    return self.replace(**merged)  # pyright: ignore

  def curve(
    self, *, num_bins: int = 15, binning: str = "equal_width"
  ) -> ReliabilityCurve:
    """The reliability curve.

    Args:
      num_bins: of equal width: divides `resolution`.
      binning: "equal_width" or "equal_mass".

    Raises:
      ConfigError: an option is unknown or does not fit.
    """
    check_binning(num_bins, binning)
    fine = self.weight.high.shape[0]
    edges = jnp.arange(fine + 1) / fine
    if binning == "equal_width":
      if fine % num_bins:
        raise ConfigError(
          f"num_bins must divide the resolution {fine}; got {num_bins}."
        )
      index = jnp.arange(fine) // (fine // num_bins)
    else:
      index = bin_index(
        edges[:-1], self.weight.value(), num_bins=num_bins, binning=binning
      )
    sums = [
      bin_sums(part.value(), index, num_bins=num_bins)
      for part in (self.weight, self.prediction, self.label, self.squares)
    ]
    used = (sums[0] > 0) | (binning == "equal_width")
    some = (self.weight.value() > 0) | (binning == "equal_width")
    low = (
      jnp.full(num_bins, jnp.inf)
      .at[index]
      .min(jnp.where(some, edges[:-1], jnp.inf))
    )
    high = jnp.zeros(num_bins).at[index].max(jnp.where(some, edges[1:], 0.0))
    return curve_from_sums(jnp.where(used, low, 0.0), high, *sums)

  def result(
    self, *, num_bins: int = 15, binning: str = "equal_width"
  ) -> Float[Array, ""]:
    """The expected calibration error; 0 if nothing counts."""
    curve = self.curve(num_bins=num_bins, binning=binning)
    return jnp.asarray(calibration_error(curve))
