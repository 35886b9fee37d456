"""What several tasks are trained for: labels, where they count, their losses.

The loss of a row and task is

  binary       bce(l_t, y_t)
  real         (l_t - z_t)^2,  z = y, or ln(1 + y) for long tails

and counts where the label is known: a label of NaN is not, nor is one outside
the column `where`. A task that is `given` another, such as the conversion of a
click, is trained in one of these spaces:

  given        where the other's label is 1: p_t = P(y_t | y_s = 1) there, and
               whatever elsewhere, for no such row is seen
  entire       everywhere, by the probability of both (Ma et al.: Entire Space
               Multi-Task Model, SIGIR 2018, https://arxiv.org/abs/1804.07931):
               bce of p_s p_t against y_s y_t
  inverse      where the other's label is 1, a row weighing 1 / p_s, together
               with `entire` (Wang et al.: ESCM2, the one of inverse
               propensities, SIGIR 2022, https://arxiv.org/abs/2204.05125)
  doubly_robust  everywhere, together with `entire`: a row's loss is imputed,
               and where the other's label is 1 the imputation's error is added,
               weighing 1 / p_s (ESCM2, the doubly robust one)

with p = sigmoid(l). In all but the first y_t is 0 where y_s is, whatever its
column and `where` say, and a row counts where y_s is known, and y_t if y_s is
1: so a label may as well be null where nothing could happen. In the last two
p_s is not differentiated, and clipped below. The imputed loss of a row is
bce(l_t, sigmoid(m)), of a further output m of the model, and m is trained to
meet the loss where it is known, by
(bce(l_t, y_t) - bce(l_t, sigmoid(m)))^2 / p_s. Deviation from ESCM2, whose
output is the loss itself: that one does not hold l_t, so that nothing of the
doubly robust loss but its inverse propensities would reach the task's tower.
The pseudo-label is that of Wang, Zhang, Sun and Qi: Doubly Robust Joint
Learning for Recommendation on Data Missing Not at Random, ICML 2019,
https://proceedings.mlr.press/v97/wang19n.html.

`delayed` labels turn from 0 to 1 later, so that a 0 may be a 1 to come: the
fake-negative weighted loss of Ktena et al.: Addressing Delayed Feedback for
Continuous Training with Neural Networks in CTR Prediction, RecSys 2019,
https://arxiv.org/abs/1907.06558, where each conversion comes twice, first as a
0, then as a 1, weighs with p = sigmoid(l), not differentiated,

  -(1 + p) y ln p - (1 - p) (1 + p) (1 - y) ln(1 - p).

`at_most` asks that a later step is not more probable than an earlier one, by
strength * max(p_t - p_s, 0) (Xi et al., AITM, KDD 2021,
https://arxiv.org/abs/2105.08489).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import (
  ConfigError,
  check_choice,
  check_range,
  check_tuple,
)

KINDS = ("binary", "real")
SPACES = ("given", "entire", "inverse", "doubly_robust")


@dataclasses.dataclass(frozen=True)
class Objective:
  """One task: its label and its loss.

  Attributes:
    name: of the task.
    label: column of its labels; "" is the name.
    kind: "binary" or "real".
    log_label: a real label y is trained and judged as ln(1 + y).
    where: column that is 1 in the rows that count, and 0 or null in others;
      in all spaces but "given" those count besides where `given` is 0.
    given: another task on whose positives alone the label tells something.
    space: "given", "entire", "inverse" or "doubly_robust": where such a task
      is trained.
    min_propensity: below which p_s of the last two is not believed.
    delayed: the fake-negative weighted loss.
    at_most: a task that must be as probable at least; "" is none.
    at_most_strength: of that demand.
    truth: column of labels of all rows, which only planted data have: it is
      judged by them as well.
    position_biased: the label suffers from the position of a row; see
      `recjax.tasks.position_bias`.
  """

  name: str
  label: str = ""
  kind: str = "binary"
  log_label: bool = False
  where: str = ""
  given: str = ""
  space: str = "given"
  min_propensity: float = 0.05
  delayed: bool = False
  at_most: str = ""
  at_most_strength: float = 0.6
  truth: str = ""
  position_biased: bool = False

  def __post_init__(self):
    what = f"Objective({self.name!r})"
    if not self.name or "/" in self.name:
      raise ConfigError(
        f"Objective.name must be a name without '/'; got {self.name!r}."
      )
    check_choice(f"{what}.kind", self.kind, KINDS)
    check_choice(f"{what}.space", self.space, SPACES)
    check_range(f"{what}.min_propensity", self.min_propensity, 1e-6, 1.0)
    check_range(f"{what}.at_most_strength", self.at_most_strength, 0.0)
    if self.log_label and self.kind != "real":
      raise ConfigError(f"{what}.log_label is for labels of kind 'real'.")
    if self.kind == "real" and (self.given or self.delayed or self.at_most):
      if self.delayed or self.at_most or self.space != "given":
        raise ConfigError(
          f"{what}: space, delayed and at_most are for labels of kind"
          " 'binary'; a real label may only be `given` another task."
        )
    if self.space != "given" and not self.given:
      raise ConfigError(
        f"{what}.space={self.space!r} needs `given`, the task before it."
      )
    if self.delayed and self.space != "given":
      raise ConfigError(
        f"{what}.delayed is for the space 'given'; got {self.space!r}."
      )

    if self.position_biased and (
      self.kind != "binary" or self.given or self.delayed
    ):
      raise ConfigError(
        f"{what}.position_biased is for labels of kind 'binary' that are not"
        " delayed, nor given another task: once that one happened the row was"
        " seen."
      )

  @property
  def column(self) -> str:
    """The column of the labels."""
    return self.label or self.name


def check_objectives(objectives: Sequence[Objective]) -> None:
  """Raises ConfigError unless tasks can be trained together."""
  check_tuple("objectives", objectives, "(@task_objectives.Objective(),)")
  for objective in objectives:
    if not isinstance(objective, Objective):
      raise ConfigError(
        "objectives must be @task_objectives.Objective(), one a task; got"
        f" {objective!r}."
      )
  names = [objective.name for objective in objectives]
  if not names:
    raise ConfigError("there must be at least one Objective; got ().")
  twice = {name for name in names if names.count(name) > 1}
  if twice:
    raise ConfigError(
      f"objectives must have different names; got {', '.join(sorted(twice))}"
      " more than once."
    )
  for place, objective in enumerate(objectives):
    for field in ("given", "at_most"):
      other = getattr(objective, field)
      if not other:
        continue
      what = f"Objective({objective.name!r}).{field}"
      check_choice(what, other, names)
      before = names.index(other)
      if before >= place or objectives[before].kind != "binary":
        raise ConfigError(
          f"{what} must be a binary task that stands before it; got {other!r}."
        )


def output_names(objectives: Sequence[Objective]) -> list[str]:
  """What the outputs of the model are: the tasks, then imputations of some."""
  imputed = [o.name for o in objectives if o.space == "doubly_robust"]
  return [o.name for o in objectives] + [f"{name} imputed" for name in imputed]


def task_losses(
  objectives: Sequence[Objective],
  logits: Float[Array, "batch _output"],
  labels: Mapping[str, Float[Array, " batch"]],
  weight: Float[Array, " batch"],
) -> tuple[Float[Array, " task"], Bool[Array, " task"]]:
  """The mean loss of each task over the rows that count for it.

  Args:
    objectives: in the order of the logits.
    logits: of `output_names`; a real task's is its prediction.
    labels: by column; NaN where unknown.
    weight: of each row; 0 for padding.

  Returns:
    The losses, and which tasks have a row at all; their loss is 0 if not.
  """
  place = {name: i for i, name in enumerate(output_names(objectives))}
  losses, present = [], []
  for number, objective in enumerate(objectives):
    label, known = _known(objective, labels)
    logit = logits[:, number]
    before = None
    if objective.given:
      source = place[objective.given]
      given, given_known = _known(objectives[source], labels)
      before = logits[:, source], given
      if objective.space != "given":
        # Where nothing was clicked nothing was bought, whatever is written.
        known = given_known & (known | (given == 0))
    own = jnp.where(known, weight, 0.0)
    imputed = place.get(f"{objective.name} imputed")
    imputed = None if imputed is None else logits[:, imputed]
    loss, has_rows = _mean_loss(objective, logit, label, own, before, imputed)
    if objective.at_most:
      earlier = jax.nn.sigmoid(logits[:, place[objective.at_most]])
      above = jnp.maximum(jax.nn.sigmoid(logit) - earlier, 0.0)
      loss += objective.at_most_strength * _mean(above, weight)[0]
    losses.append(loss)
    present.append(has_rows)
  return jnp.stack(losses), jnp.stack(present)


def _known(objective, labels):
  """The label of each row, 0 where it is unknown, and where it is known."""
  label = labels[objective.column]
  known = ~jnp.isnan(label)
  if objective.where:
    known &= labels[objective.where] == 1
  return jnp.where(known, label, 0.0), known


def _mean_loss(objective, logit, label, weight, before, imputed):
  """The mean over rows, and whether there are any."""
  if objective.kind == "real":
    target = jnp.log1p(label) if objective.log_label else label
    row = jnp.square(logit - target)
  elif objective.delayed:
    row = _delayed(logit, label)
  else:
    row = jax.nn.softplus(logit) - label * logit
  if before is None:
    return _mean(row, weight)
  logit_before, label_before = before
  on_given = _mean(row, weight * label_before)
  if objective.space == "given":
    return on_given
  entire = _mean(
    joint_cross_entropy(logit_before, logit, label * label_before), weight
  )
  if objective.space == "entire":
    return entire
  propensity = jax.lax.stop_gradient(jax.nn.sigmoid(logit_before))
  propensity = jnp.maximum(propensity, objective.min_propensity)
  clicked = label_before / propensity
  # Over all rows: E[o r / p] is the mean of r where every row were clicked.
  if objective.space == "inverse":
    corrected = clicked * row
  else:
    corrected = _doubly_robust(logit, imputed, row, clicked)
  return entire[0] + _mean(corrected, weight)[0], entire[1]


def _doubly_robust(logit, imputed, row, clicked):
  """The imputed loss and its error, and what trains the imputation."""
  cross_entropy = lambda label, logit: jax.nn.softplus(logit) - label * logit
  guess = jax.nn.sigmoid(imputed)
  fixed = cross_entropy(jax.lax.stop_gradient(guess), logit)
  error = jax.lax.stop_gradient(row) - cross_entropy(
    guess, jax.lax.stop_gradient(logit)
  )
  return fixed + clicked * (row - fixed) + clicked * jnp.square(error)


def _mean(row, weight):
  total = jnp.sum(weight)
  safe = jnp.where(total > 0, total, 1.0)
  value = jnp.sum(jnp.where(weight > 0, row * weight, 0.0)) / safe
  return value, total > 0


def _delayed(logit, label):
  p = jax.lax.stop_gradient(jax.nn.sigmoid(logit))
  positive = (1.0 + p) * label * jax.nn.softplus(-logit)
  return positive + (1.0 - p) * (1.0 + p) * (1.0 - label) * jax.nn.softplus(
    logit
  )


def joint_logit(
  first: Float[Array, "*shape"], second: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
  """The logit of a product of two probabilities.

  ln(p / (1 - p)) with p = sigmoid(first) sigmoid(second), written as
  -ln(e^-a + e^-b + e^-(a + b)), which neither overflows nor loses digits.
  """
  parts = jnp.stack([-first, -second, -first - second])
  return -jax.nn.logsumexp(parts, axis=0)


def joint_cross_entropy(
  first: Float[Array, "*shape"],
  second: Float[Array, "*shape"],
  label: Float[Array, "*shape"],
) -> Float[Array, "*shape"]:
  """Binary cross-entropy of sigmoid(first) sigmoid(second)."""
  logit = joint_logit(first, second)
  return jax.nn.softplus(logit) - label * logit


def served_probability(
  objectives: Sequence[Objective], logits: Float[Array, "batch task"]
) -> Float[Array, "batch task"]:
  """What each task predicts of a row: probabilities, or real values.

  Args:
    objectives: in the order of the logits.
    logits: of each task.

  Returns:
    Of a binary task sigmoid(l), which is conditional where it is `given`
    another; of a real one its value in the units of the label.
  """
  columns = []
  for number, objective in enumerate(objectives):
    logit = logits[:, number]
    if objective.kind == "binary":
      columns.append(jax.nn.sigmoid(logit))
    else:
      columns.append(jnp.expm1(logit) if objective.log_label else logit)
  return jnp.stack(columns, axis=1)
