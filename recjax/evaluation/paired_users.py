"""Two models over the same users: the AUC of each, and paired tests.

Where each side is several models that pair up, one a seed, users see the mean
of the seeds, and a third test asks for other seeds and other users at once.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from recjax.errors import DataError
from recjax.evaluation.crossed_design import CrossedTest, crossed_test
from recjax.evaluation.significance import Comparison, compare
from recjax.metrics import auc


@dataclasses.dataclass(frozen=True)
class UserComparison:
  """Whether two models differ over users.

  Attributes:
    t: Student's paired test.
    wilcoxon: the signed-rank test.
    crossed: the test over seeds and users; None with fewer than three of a
      kind, or without any variance.
    mean_a: the mean over users of one side.
    mean_b: of the other.
    num_left_out: users of one class alone, who have no AUC.
  """

  t: Comparison
  wilcoxon: Comparison
  mean_a: float
  mean_b: float
  crossed: CrossedTest | None = None
  num_left_out: int = 0


def user_aucs(
  scores: Num[np.ndarray, "*model row"],
  label: Num[np.ndarray, " row"] | Bool[np.ndarray, " row"],
  user: Int[np.ndarray, " row"],
  weight: Num[np.ndarray, " row"] | None = None,
) -> tuple[Int[np.ndarray, " user"], Float[np.ndarray, "*model user"]]:
  """The AUC of each user who has rows of both classes.

  Args:
    scores: one row of them, or one a model.
    label: 1 for positives, 0 for negatives; NaN does not count.
    user: of each row.
    weight: of each row; all 1 without it.

  Returns:
    The users, sorted, and their AUCs, one row a model if scores are such.
  """
  kept = ~np.isnan(label.astype(np.float64))
  weight = None if weight is None else weight[kept]
  found = [
    auc.group_aucs(score[kept], label[kept], user[kept], weight)
    for score in np.atleast_2d(scores)
  ]
  # Who counts is a matter of labels and weights alone.
  counted = np.asarray(found[0].counted)
  values = np.stack([np.asarray(each.auc)[counted] for each in found])
  users = np.asarray(found[0].group)[counted]
  return users, values.reshape(*scores.shape[:-1], -1)


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
  a: Float[np.ndarray, "*model user"],
  b: Float[np.ndarray, "*rival other"],
  num_left_out: int = 0,
) -> UserComparison:
  """Paired tests over any values of the same users in the same order.

  Args:
    a: the values of one side, one row of them or one a model.
    b: those of the other; as many models are taken to pair up.
    num_left_out: users without a value.

  Raises:
    DataError: the sides differ in users, or a value is NaN.
  """
  if np.isnan(a).any() or np.isnan(b).any():
    raise DataError("values of users are NaN: the model has diverged.")
  if a.shape[-1] != b.shape[-1]:
    raise DataError(
      "a paired comparison needs one value a user from both sides, in the same"
      f" order; got {a.shape[-1]} and {b.shape[-1]}."
    )
  a, b = (np.atleast_2d(side).astype(np.float64) for side in (a, b))
  crossed = None
  if a.shape == b.shape and min(a.shape) >= 2 and np.ptp(a - b) > 0:
    crossed = crossed_test(a - b)
  # Differences that are equal but for rounding must tie in the signed ranks.
  difference = np.round(a.mean(axis=0) - b.mean(axis=0), 12)
  zeros = np.zeros_like(difference)
  return UserComparison(
    compare(difference, zeros, test="t"),
    compare(difference, zeros, test="wilcoxon"),
    float(a.mean()),
    float(b.mean()),
    crossed,
    num_left_out,
  )
