"""Two models over the same users: the AUC of each, and paired tests."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from recjax.errors import DataError
from recjax.evaluation.significance import Comparison, compare
from recjax.metrics import auc


@dataclasses.dataclass(frozen=True)
class UserComparison:
  """Whether two models differ over users.

  Attributes:
    t: Student's paired test.
    wilcoxon: the signed-rank test.
    mean_a: the mean over users of one side.
    mean_b: of the other.
    num_left_out: users of one class alone, who have no AUC.
  """

  t: Comparison
  wilcoxon: Comparison
  mean_a: float
  mean_b: float
  num_left_out: int = 0


def user_aucs(
  scores: Num[np.ndarray, "*model row"],
  label: Num[np.ndarray, " row"] | Bool[np.ndarray, " row"],
  user: Int[np.ndarray, " row"],
  weight: Num[np.ndarray, " row"] | None = None,
) -> tuple[Int[np.ndarray, " user"], Float[np.ndarray, " user"]]:
  """The AUC of each user who has rows of both classes.

  Args:
    scores: one row of them, or one a model, whose AUCs are averaged.
    label: 1 for positives, 0 for negatives; NaN does not count.
    user: of each row.
    weight: of each row; all 1 without it.

  Returns:
    The users, sorted, and their AUCs.
  """
  kept = ~np.isnan(label.astype(np.float64))
  weight = None if weight is None else weight[kept]
  found = [
    auc.group_aucs(score[kept], label[kept], user[kept], weight)
    for score in np.atleast_2d(scores)
  ]
  # Who counts is a matter of labels and weights alone.
  counted = np.asarray(found[0].counted)
  values = np.mean([np.asarray(each.auc)[counted] for each in found], axis=0)
  return np.asarray(found[0].group)[counted], values


def compare_users(
  a: Num[np.ndarray, "*model row"],
  b: Num[np.ndarray, "*rival row"],
  label: Num[np.ndarray, " row"] | Bool[np.ndarray, " row"],
  user: Int[np.ndarray, " row"],
  weight: Num[np.ndarray, " row"] | None = None,
) -> UserComparison:
  """Paired tests over the users' AUCs; each user counts alike.

  Args:
    a: scores of one side, one row of them or one a model.
    b: scores of the other, of the same rows.
    label: 1 for positives, 0 for negatives; NaN does not count.
    user: of each row.
    weight: of each row; all 1 without it.

  Raises:
    DataError: no user has rows of both classes, or an AUC is NaN.
  """
  found, of_a = user_aucs(a, label, user, weight)
  _, of_b = user_aucs(b, label, user, weight)
  if not len(found):
    raise DataError("no user has rows of both classes: there are no AUCs.")
  rows = ~np.isnan(label.astype(np.float64))
  if weight is not None:
    rows &= weight > 0
  num_left_out = len(np.unique(user[rows])) - len(found)
  return compare_values(of_a, of_b, num_left_out)


def compare_values(
  a: Float[np.ndarray, " user"],
  b: Float[np.ndarray, " other"],
  num_left_out: int = 0,
) -> UserComparison:
  """Paired tests over any values of the same users in the same order.

  Args:
    a: the values of one side.
    b: those of the other.
    num_left_out: users without a value.

  Raises:
    DataError: the sides differ in length, or a value is NaN.
  """
  if np.isnan(a).any() or np.isnan(b).any():
    raise DataError("values of users are NaN: the model has diverged.")
  if a.shape != b.shape:
    raise DataError(
      "a paired comparison needs one value a user from both sides, in the same"
      f" order; got {len(a)} and {len(b)}."
    )
  # Differences that are equal but for rounding must tie in the signed ranks.
  difference = np.round(a.astype(np.float64) - b.astype(np.float64), 12)
  zeros = np.zeros_like(difference)
  return UserComparison(
    compare(difference, zeros, test="t"),
    compare(difference, zeros, test="wilcoxon"),
    float(a.mean(dtype=np.float64)),
    float(b.mean(dtype=np.float64)),
    num_left_out,
  )
