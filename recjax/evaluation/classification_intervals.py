r"""How sure metrics of labelled examples are: 95% intervals.

AUC: DeLong's variance and the normal distribution, cut to [0, 1]. Log-loss,
normalized entropy, RMSE and grouped AUC: percentiles of a bootstrap over
examples (over groups, for the grouped AUC). So that a million examples cost
little more than a thousand, they are dealt at random to at most 1,024 blocks
of equal size, and the blocks are drawn: the variance is that of drawing
examples, known as well as from 1,024 of them (the width of an interval to
2%). Up to 1,024 examples each block is one, and it is the plain bootstrap.

The calibration error is a sum of absolute values, which resampling noise
raises: its percentiles are those of the bootstrap, less that rise. Its bins
are those of the data, not of each draw.

References:
  Elizabeth DeLong, David DeLong, Daniel Clarke-Pearson. Comparing the Areas
  under Two or More Correlated Receiver Operating Characteristic Curves.
  Biometrics 1988. https://doi.org/10.2307/2531595
  Bradley Efron. Better Bootstrap Confidence Intervals. JASA 1987.
"""

import numpy as np
import scipy.special
from jaxtyping import Float, Int

from recjax.errors import check_range
from recjax.metrics import auc, calibration

MAX_BLOCKS = 1024
_LEVELS = (0.025, 0.975)
_Interval = tuple[float, float]


def auc_interval(
  score: Float[np.ndarray, " batch"],
  label: Float[np.ndarray, " batch"],
  weight: Float[np.ndarray, " batch"],
) -> _Interval:
  """The 95% interval of the AUC by DeLong's variance.

  Args:
    score: any real scores.
    label: 1 for positives, 0 for negatives.
    weight: of each example.

  Returns:
    The lower and the upper end; NaN with fewer than two of a class.
  """
  return delong_interval(auc.delong_auc(score, label, weight))


def delong_interval(found: auc.DeLong) -> _Interval:
  """The 95% interval of an AUC whose variance is known."""
  value, variance = found
  half = scipy.special.ndtri(_LEVELS[1]) * np.sqrt(variance)
  low, high = np.clip([value - half, value + half], 0.0, 1.0)
  return float(low), float(high)


def block_index(num: int, *, seed: int = 0) -> Int[np.ndarray, " batch"]:
  """Deals `num` examples at random to at most MAX_BLOCKS blocks."""
  if num <= MAX_BLOCKS:
    return np.arange(num)
  dealt = np.random.default_rng(seed).permutation(num)
  return dealt % MAX_BLOCKS


def resample(
  sums: Float[np.ndarray, "metric block"],
  *,
  num_resamples: int = 1000,
  seed: int = 0,
) -> Float[np.ndarray, "metric draw"]:
  """Sums over blocks that are drawn with replacement.

  Args:
    sums: one row a statistic, one column a block.
    num_resamples: how often all blocks are drawn anew.
    seed: of the draws.

  Returns:
    The sums of each draw.

  Raises:
    ConfigError: no draws.
  """
  check_range("num_resamples", num_resamples, 1, integer=True)
  num = sums.shape[1]
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, num, (num_resamples, num))
  drawn += num * np.arange(num_resamples)[:, None]
  counts = np.bincount(drawn.ravel(), minlength=num * num_resamples)
  return sums @ counts.reshape(num_resamples, num).T.astype(np.float64)


def percentile_interval(draws: Float[np.ndarray, " draw"]) -> _Interval:
  """The 2.5% and 97.5% quantiles of the draws where the metric is defined."""
  draws = draws[np.isfinite(draws)]
  if not len(draws):
    return float("nan"), float("nan")
  low, high = np.quantile(draws, _LEVELS)
  return float(low), float(high)


def mean_intervals(
  loss: Float[np.ndarray, " batch"],
  square: Float[np.ndarray, " batch"],
  label: Float[np.ndarray, " batch"],
  weight: Float[np.ndarray, " batch"],
  *,
  base_rate: float | None = None,
  seed: int = 0,
) -> dict[str, _Interval]:
  """Intervals of log-loss, normalized entropy and RMSE.

  Args:
    loss: the log-loss of each example.
    square: its squared error.
    label: its label.
    weight: its weight.
    base_rate: of the normalized entropy; that of each draw without it.
    seed: of blocks and draws.

  Returns:
    Intervals of "log_loss", "normalized_entropy" and "rmse".
  """
  blocks = block_index(len(loss), seed=seed)
  rows = (weight, weight * loss, weight * square, weight * label)
  sums = np.stack([np.bincount(blocks, row) for row in rows])
  return intervals_of_sums(sums, base_rate=base_rate, seed=seed)


def intervals_of_sums(
  sums: Float[np.ndarray, "metric block"],
  *,
  base_rate: float | None = None,
  seed: int = 0,
) -> dict[str, _Interval]:
  """`mean_intervals` of sums over blocks that are known.

  Args:
    sums: of w, w loss, w square and w label in each block.
    base_rate: of the normalized entropy; that of each draw without it.
    seed: of the draws.

  Returns:
    As of `mean_intervals`.
  """
  total, losses, squares, labels = resample(sums, seed=seed)
  with np.errstate(divide="ignore", invalid="ignore"):
    log_loss = losses / total
    rate = labels / total if base_rate is None else np.full(1, base_rate)
    relative = log_loss / (
      scipy.special.entr(rate) + scipy.special.entr(1 - rate)
    )
    rmse = np.sqrt(squares / total)
  return {
    "log_loss": percentile_interval(log_loss),
    "normalized_entropy": percentile_interval(relative),
    "rmse": percentile_interval(rmse),
  }


def ece_interval(
  probability: Float[np.ndarray, " batch"],
  label: Float[np.ndarray, " batch"],
  weight: Float[np.ndarray, " batch"],
  *,
  num_bins: int,
  binning: str,
  seed: int = 0,
) -> _Interval:
  """The interval of the expected calibration error.

  Args:
    probability: of each example.
    label: 0 or 1.
    weight: of each example.
    num_bins: how many bins.
    binning: "equal_width" or "equal_mass".
    seed: of blocks and draws.

  Returns:
    The lower and the upper end, in [0, 1].
  """
  bins = calibration.bin_index(
    probability, weight, num_bins=num_bins, binning=binning
  )
  blocks = block_index(len(label), seed=seed)
  shape = (num_bins, int(blocks.max()) + 1)
  index = np.ravel_multi_index((bins, blocks), shape)
  gaps = np.bincount(index, weight * (probability - label), np.prod(shape))
  mass = np.bincount(blocks, weight)
  return ece_interval_of_sums(gaps.reshape(shape), mass, seed=seed)


def ece_interval_of_sums(
  gaps: Float[np.ndarray, "k block"],
  mass: Float[np.ndarray, " block"],
  *,
  seed: int = 0,
) -> _Interval:
  """`ece_interval` of sums over blocks that are known.

  Args:
    gaps: the summed w (p - y) of each bin in each block.
    mass: the summed w of each block.
    seed: of the draws.

  Returns:
    The lower and the upper end, in [0, 1].
  """
  sums = np.concatenate([gaps, mass[None, :]])
  drawn = resample(sums, seed=seed)
  with np.errstate(divide="ignore", invalid="ignore"):
    draws = np.abs(drawn[:-1]).sum(0) / drawn[-1]
  value = np.abs(gaps.sum(1)).sum() / mass.sum()
  low, high = percentile_interval(draws - np.nanmean(draws) + value)
  return max(0.0, low), min(1.0, high)


def grouped_auc_interval(groups: auc.GroupAUCs, *, seed: int = 0) -> _Interval:
  """The interval of the grouped AUC over draws of the groups.

  Args:
    groups: values and weights, as NumPy arrays.
    seed: of blocks and draws.

  Returns:
    The lower and the upper end; NaN without a group of both classes.
  """
  counted = np.asarray(groups.counted)
  if not counted.any():
    return float("nan"), float("nan")
  value = np.asarray(groups.auc)[counted]
  weight = np.asarray(groups.weight)[counted]
  blocks = block_index(len(value), seed=seed)
  sums = np.stack(
    [np.bincount(blocks, weight * value), np.bincount(blocks, weight)]
  )
  top, bottom = resample(sums, seed=seed)
  with np.errstate(divide="ignore", invalid="ignore"):
    return percentile_interval(top / bottom)
