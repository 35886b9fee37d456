r"""Calibration: whether it happens as often as the model says.

Predictions are put into bins. Of bin b with summed weight W_b, mean
prediction \bar p_b and mean label \bar y_b, the reliability curve shows
\bar y_b against \bar p_b, and

  ECE = \sum_b W_b / W |\bar p_b - \bar y_b|.

Bins are of equal width, [i/B, (i+1)/B), or of equal mass: an example is in
bin floor(B m / W), m being the mass of the lower predictions and half of the
mass of its equals, so that equal predictions share a bin.

References:
  Mahdi Pakdaman Naeini, Gregory Cooper, Milos Hauskrecht. Obtaining Well
  Calibrated Probabilities Using Bayesian Binning. AAAI 2015.
  https://doi.org/10.1609/aaai.v29i1.9602
  Chuan Guo et al. On Calibration of Modern Neural Networks. ICML 2017.
  https://arxiv.org/abs/1706.04599
  Khanh Nguyen, Brendan O'Connor. Posterior calibration and exploratory
  analysis for natural language processing models (bins of equal mass). EMNLP
  2015. https://arxiv.org/abs/1508.05154
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from recjax.errors import check_choice, check_range
from recjax.metrics.examples import (
  Floats,
  Labels,
  Mask,
  Scalar,
  Vector,
  counted,
  namespace,
  probabilities,
  ratio,
)
from recjax.metrics.sums import range_sums, sum_of
from recjax.metrics.tied_runs import tied_runs

BINNINGS = ("equal_width", "equal_mass")
_Bins = Float[Array, " k"] | Float[np.ndarray, " k"]


class ReliabilityCurve(NamedTuple):
  r"""What was predicted and what happened, in each bin.

  Attributes:
    low: lower end of the bin; for bins of equal mass, the lowest prediction.
    high: upper end of the bin, or the highest prediction.
    weight: summed weights; 0 in an empty bin.
    prediction: the mean prediction; 0 in an empty bin.
    label: the mean label; 0 in an empty bin.
    num_effective: (\sum w)^2 / \sum w^2, the number of examples if all
      weights are 1.
  """

  low: _Bins
  high: _Bins
  weight: _Bins
  prediction: _Bins
  label: _Bins
  num_effective: _Bins


def reliability_curve(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  num_bins: int = 15,
  binning: str = "equal_width",
  from_logits: bool = False,
) -> ReliabilityCurve:
  """Mean predictions and mean labels by bin; see the module.

  Args:
    score: probabilities, or logits. NaN makes the values of a bin NaN.
    label: 0 or 1.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    num_bins: how many bins.
    binning: "equal_width" or "equal_mass".
    from_logits: whether the scores are logits.

  Returns:
    The curve, one entry a bin.

  Raises:
    ConfigError: an option is unknown or out of range.
  """
  check_binning(num_bins, binning)
  score, label, weight = counted(score, label, weight, where)
  p = probabilities(score, from_logits=from_logits)
  bins = bin_index(p, weight, num_bins=num_bins, binning=binning)
  rows = (weight, weight * p, weight * label, weight**2)
  sums = [bin_sums(row, bins, num_bins=num_bins) for row in rows]
  if binning == "equal_width":
    edges = _equal_edges(namespace(p), num_bins)
  else:
    edges = _bin_ends(p, weight, bins, num_bins)
  return curve_from_sums(*edges, *sums)


def expected_calibration_error_metric(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  num_bins: int = 15,
  binning: str = "equal_width",
  from_logits: bool = False,
) -> Scalar:
  """ECE: the mean gap between predicted and observed rates; see the module.

  A finite sample shows a gap even where there is none: about
  sqrt(2 B v / (pi n)) for a calibrated model, v the mean of p (1 - p).

  Args:
    score: probabilities, or logits.
    label: 0 or 1.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    num_bins: how many bins.
    binning: "equal_width" or "equal_mass".
    from_logits: whether the scores are logits.

  Returns:
    The error, in [0, 1]; 0 if nothing counts.

  Raises:
    ConfigError: an option is unknown or out of range.
  """
  curve = reliability_curve(
    score,
    label,
    weight,
    where,
    num_bins=num_bins,
    binning=binning,
    from_logits=from_logits,
  )
  return calibration_error(curve)


def calibration_error(curve: ReliabilityCurve) -> Scalar:
  """The expected calibration error of a reliability curve."""
  xp = namespace(*curve)
  gap = curve.weight * xp.abs(curve.prediction - curve.label)
  return ratio(sum_of(gap), sum_of(curve.weight))


def check_binning(num_bins: int, binning: str) -> None:
  """Raises ConfigError for an unknown binning or less than one bin."""
  check_choice("binning", binning, BINNINGS)
  check_range("num_bins", num_bins, 1, integer=True)


def bin_index(
  probability: Floats, weight: Floats, *, num_bins: int, binning: str
) -> Int[Array, " batch"] | Int[np.ndarray, " batch"]:
  """The bin of each prediction, from 0; see the module.

  Args:
    probability: predictions in [0, 1]; others go to the bins at the ends.
    weight: of each.
    num_bins: how many bins.
    binning: "equal_width" or "equal_mass".

  Returns:
    One index an example.
  """
  xp = namespace(probability)
  if binning == "equal_width":
    return _clipped(probability * num_bins, num_bins)
  order = xp.argsort(probability)
  runs = tied_runs(probability[order])
  between = range_sums(weight[order])
  middle = between(0, runs.first) + between(runs.first, runs.stop) / 2
  bins = _clipped(num_bins * ratio(middle, sum_of(weight)), num_bins)
  if xp is np:
    out = np.empty_like(bins)
    out[order] = bins
    return out
  return xp.zeros_like(bins).at[order].set(bins)


def _clipped(place: Any, num_bins: int) -> Any:
  xp = namespace(place)
  place = xp.where(xp.isnan(place), 0.0, place)
  return xp.clip(xp.floor(place), 0, num_bins - 1).astype(xp.int32)


def bin_sums(
  values: Floats,
  bins: Int[Array, " batch"] | Int[np.ndarray, " batch"],
  *,
  num_bins: int,
) -> _Bins:
  """The sum of the values in each bin."""
  if isinstance(values, np.ndarray):
    # Of no values at all, NumPy counts in integers.
    return np.bincount(bins, values, num_bins).astype(np.float64)
  xp = namespace(values)
  inside = bins[None, :] == xp.arange(num_bins)[:, None]
  return sum_of(xp.where(inside, values[None, :], 0.0))  # pyright: ignore


def curve_from_sums(
  low: _Bins,
  high: _Bins,
  weight: _Bins,
  prediction: _Bins,
  label: _Bins,
  squares: _Bins,
) -> ReliabilityCurve:
  """The curve of bins with given sums of w, w p, w y and w^2."""
  return ReliabilityCurve(
    low,
    high,
    weight,
    ratio(prediction, weight),
    ratio(label, weight),
    ratio(weight**2, squares),
  )


def _equal_edges(xp: Any, num_bins: int) -> tuple[_Bins, _Bins]:
  edges = xp.arange(num_bins + 1) / num_bins
  return edges[:-1], edges[1:]


def _bin_ends(
  p: Floats, weight: Floats, bins: Any, num_bins: int
) -> tuple[_Bins, _Bins]:
  """The lowest and the highest prediction of each bin; 0 in an empty one."""
  xp = namespace(p)
  counts = (weight != 0) & ~xp.isnan(p)
  low, high = xp.where(counts, p, xp.inf), xp.where(counts, p, -xp.inf)
  if xp is np:
    lowest = np.full(num_bins, np.inf)
    highest = np.full(num_bins, -np.inf)
    np.minimum.at(lowest, bins, low)
    np.maximum.at(highest, bins, high)
  else:
    lowest = xp.full(num_bins, xp.inf).at[bins].min(low)
    highest = xp.full(num_bins, -xp.inf).at[bins].max(high)
  empty = lowest > highest
  return xp.where(empty, 0.0, lowest), xp.where(empty, 0.0, highest)
