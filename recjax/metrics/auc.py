r"""The area under the ROC curve: exact, its variance, and by groups.

AUC is the probability that a positive scores above a negative, where ties
count one half. With weights,

  AUC = \sum_{i positive} \sum_{j negative} w_i w_j ([s_i > s_j]
        + [s_i = s_j] / 2) / (\sum_i w_i \sum_j w_j).

It is computed by sorting, in O(n log n). With positives or negatives alone it
is **undefined**: all functions return NaN then, never .5, and it is for the
caller to say so. A score of NaN gives NaN, too.

References:
  James Hanley, Barbara McNeil. The meaning and use of the area under a
  receiver operating characteristic (ROC) curve. Radiology 1982.
  https://doi.org/10.1148/radiology.143.1.7063747
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from recjax.errors import check_choice
from recjax.metrics.examples import (
  Floats,
  Labels,
  Mask,
  Scalar,
  Vector,
  counted,
  namespace,
  ratio,
)
from recjax.metrics.sums import range_sums, sum_of
from recjax.metrics.tied_runs import Runs, tied_runs

GROUP_WEIGHTS = ("impressions", "size", "clicks", "uniform")
_NAN = float("nan")


def auc_metric(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
) -> Scalar:
  """The exact area under the ROC curve; see the module.

  Args:
    score: any real scores; only their order matters.
    label: 1 for positives, 0 for negatives.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.

  Returns:
    The area, in [0, 1]; NaN with one class or none.
  """
  ranked = _rank(score, label, weight, where)
  below = _mass_below(ranked, ranked.negative)
  pairs = sum_of(ranked.positive) * sum_of(ranked.negative)
  value = ratio(sum_of(ranked.positive * below), pairs, empty=_NAN)
  return _unless_nan(ranked, value)


class DeLong(NamedTuple):
  """An AUC and how sure it is.

  Attributes:
    auc: the exact AUC.
    variance: the estimated variance of that number.
  """

  auc: Scalar
  variance: Scalar


def delong_auc(
  score: Vector,
  label: Labels,
  weight: Vector | None = None,
  where: Mask | None = None,
) -> DeLong:
  r"""The AUC with DeLong's estimate of its variance.

  V_i is the share of the negatives that positive i beats, V_j the share of
  the positives that beat negative j; of P positives and N negatives,

    var = \sum_i (V_i - AUC)^2 / (P (P - 1))
          + \sum_j (V_j - AUC)^2 / (N (N - 1)).

  With weights, 1 / P becomes w_i^2 / (\sum_i w_i)^2: the variance over draws
  of examples that bring their weights along.

  Args:
    score: any real scores.
    label: 1 for positives, 0 for negatives.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.

  Returns:
    The AUC, NaN with one class or none; the variance, NaN with fewer than two
    examples of a class.

  References:
    Elizabeth DeLong, David DeLong, Daniel Clarke-Pearson. Comparing the Areas
    under Two or More Correlated Receiver Operating Characteristic Curves.
    Biometrics 1988. https://doi.org/10.2307/2531595
    Xu Sun, Weichao Xu. Fast Implementation of DeLong's Algorithm. IEEE Signal
    Processing Letters 2014. https://doi.org/10.1109/LSP.2014.2337313
  """
  ranked = _rank(score, label, weight, where)
  xp = namespace(ranked.score)
  positive, negative = ranked.positive, ranked.negative
  all_positive, all_negative = sum_of(positive), sum_of(negative)
  below = _mass_below(ranked, xp.stack([positive, negative]))
  beating = 1.0 - ratio(below[0], all_positive)
  beaten = ratio(below[1], all_negative)
  auc = ratio(
    sum_of(positive * beaten),
    xp.where(all_negative > 0, all_positive, 0.0),
    empty=_NAN,
  )
  total = 0.0
  for mass, of_mass, share in (
    (positive, all_positive, beaten),
    (negative, all_negative, beating),
  ):
    num = sum_of(xp.where(mass != 0, 1.0, 0.0))
    squares = sum_of((ratio(mass, of_mass) * (share - auc)) ** 2)
    total = total + xp.where(num > 1, squares * ratio(num, num - 1), _NAN)
  return DeLong(_unless_nan(ranked, auc), _unless_nan(ranked, total))


def delong_from_masses(
  positive: Float[np.ndarray, " bin"],
  negative: Float[np.ndarray, " bin"],
  squares: tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"]],
  counts: tuple[int, int],
) -> DeLong:
  """`delong_auc` of examples that are known by bins of their scores alone.

  Those of a bin count as tied.

  Args:
    positive: summed weights of the positives in each bin of rising scores.
    negative: those of the negatives.
    squares: the summed squares of the weights of both; the masses themselves
      where all weights are 1.
    counts: how many positives and negatives there are.

  Returns:
    The AUC, NaN with one class or none; the variance, NaN with fewer than two
    examples of a class.
  """
  if min(counts) == 0:
    return DeLong(_NAN, _NAN)
  all_positive, all_negative = positive.sum(), negative.sum()
  beaten = (np.cumsum(negative) - negative / 2) / all_negative
  beating = 1 - (np.cumsum(positive) - positive / 2) / all_positive
  value = float(np.sum(positive * beaten) / all_positive)
  if min(counts) < 2:
    return DeLong(value, _NAN)
  total = 0.0
  for square, mass, share, num in (
    (squares[0], all_positive, beaten, counts[0]),
    (squares[1], all_negative, beating, counts[1]),
  ):
    variance = np.sum(square * (share - value) ** 2) / mass**2
    total += float(variance) * num / (num - 1)
  return DeLong(value, total)


class GroupAUCs(NamedTuple):
  """One value a group, where the first of its sorted examples stands.

  Attributes:
    auc: of the group; 0 where `counted` is False.
    weight: of the group in the mean.
    counted: whether a group of both classes stands here.
    impressions: the summed weights of the group that stands here, of both
      classes or one; 0 elsewhere.
    group: which group an example is of, sorted.
  """

  auc: Floats
  weight: Floats
  counted: Mask
  impressions: Floats
  group: Vector


class GroupedAUC(NamedTuple):
  """A mean of the AUCs of groups, and what it leaves out.

  Attributes:
    value: the mean; NaN if no group holds both classes.
    num_groups: groups in the mean.
    num_left_out: groups that hold one class only.
    share_left_out: their part of all impressions.
  """

  value: Scalar
  num_groups: Int[Array, ""] | int
  num_left_out: Int[Array, ""] | int
  share_left_out: Scalar


def group_aucs(
  score: Vector,
  label: Labels,
  group: Int[Array, " batch"] | Int[np.ndarray, " batch"],
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  average: str = "impressions",
) -> GroupAUCs:
  """The AUC of each group; see `grouped_auc_metric`.

  Args:
    score: any real scores.
    label: 1 for positives, 0 for negatives.
    group: of each example, such as its user; any integers, int32 in JAX.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    average: what a group weighs.

  Returns:
    Values and weights, in arrays as long as the examples.

  Raises:
    ConfigError: an unknown average.
  """
  check_choice("average", average, GROUP_WEIGHTS)
  ranked = _rank(score, label, weight, where, group)
  xp = namespace(ranked.score)
  group = ranked.group
  bounds = tied_runs(group)
  all_positive, all_negative, pairs, num_positive, num_negative, num, nan = (
    _sums_of_groups(ranked, bounds)
  )
  auc = ratio(pairs, all_positive * all_negative)
  auc = xp.where(nan > 0, _NAN, auc)
  here = bounds.first == xp.arange(len(group))
  has_both = here & (num_positive > 0) & (num_negative > 0)
  impressions = all_positive + all_negative
  weights = {
    "impressions": impressions,
    "size": num,
    "clicks": all_positive,
    "uniform": xp.ones_like(auc),
  }[average]
  return GroupAUCs(
    auc=xp.where(has_both, auc, 0.0),
    weight=xp.where(has_both, weights, 0.0),
    counted=has_both,
    impressions=xp.where(here & (num > 0), impressions, 0.0),
    group=group,
  )


def grouped_auc_metric(
  score: Vector,
  label: Labels,
  group: Int[Array, " batch"] | Int[np.ndarray, " batch"],
  weight: Vector | None = None,
  where: Mask | None = None,
  *,
  average: str = "impressions",
) -> GroupedAUC:
  r"""GAUC: the mean of the AUCs inside groups, such as users.

  GAUC = \sum_g v_g AUC_g / \sum_g v_g over the groups of both classes

  Args:
    score: any real scores.
    label: 1 for positives, 0 for negatives.
    group: of each example; any integers, int32 in JAX.
    weight: of each example; all 1 without it.
    where: which examples count; all without it.
    average: v_g is the summed weight of the group's examples ("impressions",
      as in the paper), their number ("size"), the summed weight of its
      positives ("clicks") or 1 ("uniform").

  Returns:
    The mean, how many groups are in it, and how many hold one class only:
    those are left out.

  Raises:
    ConfigError: an unknown average.

  References:
    Guorui Zhou et al. Deep Interest Network for Click-Through Rate
    Prediction. KDD 2018. https://arxiv.org/abs/1706.06978
  """
  groups = group_aucs(score, label, group, weight, where, average=average)
  xp = namespace(groups.auc)
  left_out = (groups.impressions > 0) & ~groups.counted
  lost = sum_of(xp.where(left_out, groups.impressions, 0.0))
  return GroupedAUC(
    value=ratio(
      sum_of(groups.weight * groups.auc), sum_of(groups.weight), empty=_NAN
    ),
    num_groups=_count(groups.counted),
    num_left_out=_count(left_out),
    share_left_out=ratio(lost, sum_of(groups.impressions)),
  )


class _Ranked(NamedTuple):
  """Examples sorted by group and score: score, masses of the classes."""

  score: Any
  positive: Any
  negative: Any
  group: Any


def _rank(
  score: Vector,
  label: Labels,
  weight: Vector | None,
  where: Mask | None,
  group: Vector | None = None,
) -> _Ranked:
  score, label, weight = counted(score, label, weight, where)
  xp = namespace(score, group)
  if group is None:
    order = xp.argsort(score)
  else:
    order = xp.lexsort((score, xp.asarray(group)))
    group = xp.asarray(group)[order]
  sort = lambda values: xp.asarray(values)[order]
  positive, negative = sort(weight * label), sort(weight * (1.0 - label))
  return _Ranked(sort(score), positive, negative, group)


def _sums_of_groups(ranked: _Ranked, bounds: Runs) -> Any:
  """Of each example's group: masses of the classes and of their ordered pairs.

  Then the numbers of positives, negatives, examples and NaN scores. Classes
  are counted: a sum of weights that should be 0 may be off by a rounding.
  """
  positive, negative = ranked.positive, ranked.negative
  xp = namespace(ranked.score)
  below = _mass_below(ranked, negative, bounds.first)
  flags = (
    positive != 0,
    negative != 0,
    positive + negative != 0,
    xp.isnan(ranked.score),
  )
  rows = [positive, negative, positive * below]
  rows += [xp.where(flag, 1.0, 0.0) for flag in flags]
  return range_sums(xp.stack(rows))(bounds.first, bounds.stop)


def _mass_below(ranked: _Ranked, mass: Any, start: Any = None) -> Any:
  """Of each example, the mass that scores below it, and half of its ties."""
  keys = (ranked.score,) if ranked.group is None else ranked[:1] + ranked[3:]
  runs = tied_runs(*keys)
  between = range_sums(mass)
  start = namespace(mass).zeros_like(runs.first) if start is None else start
  return between(start, runs.first) + between(runs.first, runs.stop) / 2


def _unless_nan(ranked: _Ranked, value: Any) -> Any:
  xp = namespace(ranked.score)
  return xp.where(xp.any(xp.isnan(ranked.score)), _NAN, value)[()]


def _count(mask: Bool[Array, " batch"] | Bool[np.ndarray, " batch"]) -> Any:
  number = mask.sum()
  return int(number) if isinstance(mask, np.ndarray) else number
