"""Labels that suffer from the position: a row far down is clicked less.

By the examination model a click is a row that is seen and relevant,

  P(click | x, k) = P(seen | k) P(relevant | x),

and what is served is the order of P(relevant | x). It is learnt by one of

  PositionTower   a shallow tower trained beside the model, which gives
                  P(seen | k) as in PAL, or a logit that is added; see
                  `recjax.layers.position_tower`
  Propensities    p_k = P(seen | k) up to a factor, given or estimated from the
                  training rows, by which clicks are weighed:

    loss = (c / p_k) l(1) + (1 - c / p_k) l(0)

whose mean is that of the loss with labels of relevance (Saito, Yaginuma,
Nishino, Sakata and Nakata: Unbiased Recommender Learning from
Missing-Not-At-Random Implicit Feedback, WSDM 2020,
https://doi.org/10.1145/3336191.3371783; for ranked lists Joachims, Swaminathan
and Schnabel: Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017,
https://doi.org/10.1145/3018661.3018699). p_k is clipped below, which trades
some bias for less variance.

Both leave the losses of `recjax.tasks.task_objectives` as they are: a tower
makes the logit of what is observed out of that of relevance, and propensities
change the label to c / p_k. A task that is given such a one, as a conversion is
a click, sees the same logits and labels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from recjax.data.examples import Examples
from recjax.data.label_columns import LabelRule, check_labels, label_names
from recjax.data.propensities.positions import PositionCurve, shown_rows
from recjax.errors import ConfigError, check_choice, check_range
from recjax.layers.position_tower import PositionLogit
from recjax.tasks.task_objectives import Objective, joint_logit
from recjax.types import Params

TOWER = "position_tower"
"""The parameters of a tower; nothing but training reads them."""
COMBINE = ("product", "sum")

Labels = Mapping[str, Float[Array, " batch"]]


@dataclasses.dataclass(frozen=True)
class PositionTower:
  """A tower of the position beside the model.

  Attributes:
    column: of positions, from 1 on.
    num_positions: the last position.
    combine: "product" of probabilities (PAL), or "sum" of logits.
    columns: of further numbers that bias, as they are; see
      `recjax.layers.position_tower`.
    dim: width of the embedding of a position.
    hidden: widths of the layers above it.
    dropout_rate: of "sum": at which a row's place is not looked at.
    truth: column of true propensities, which only planted data have: reports
      show them.
  """

  column: str = "position"
  num_positions: int = 10
  combine: str = "product"
  columns: tuple[str, ...] = ()
  dim: int = 4
  hidden: tuple[int, ...] = (8,)
  dropout_rate: float | int = 0.0
  truth: str = ""

  def __post_init__(self):
    check_choice("PositionTower.combine", self.combine, COMBINE)
    check_range("PositionTower.dropout_rate", self.dropout_rate, 0.0, 0.99)
    if self.dropout_rate and self.combine != "sum":
      raise ConfigError(
        "PositionTower.dropout_rate is for combine='sum': a product has no"
        " probability for a place that is not looked at; got"
        f" {self.dropout_rate!r} with {self.combine!r}."
      )
    self._module()  # Says if a setting is out of range.

  def _module(self) -> PositionLogit:
    return PositionLogit(
      self.num_positions, self.dim, self.hidden, self.dropout_rate
    )

  @property
  def batch_columns(self) -> tuple[str, ...]:
    """Columns that a step reads."""
    return (self.column, *self.columns)

  @property
  def no_features(self) -> tuple[str, ...]:
    """Columns that are not to be features."""
    return tuple(filter(None, (self.column, self.truth)))

  @property
  def label_rules(self) -> tuple[LabelRule, ...]:
    """What training rows must hold."""
    return _rules(self.column, self.num_positions, self.columns, self.truth)

  def fitted(self, train: Examples | None, label: str) -> "PositionTower":
    """Itself, if the rows have what it reads.

    Args:
      train: the training rows; None where they are on disk, and were checked.
      label: column of clicks.

    Raises:
      DataError: a column is missing, or a row holds what can not be read.
    """
    del label
    _check(self.label_rules, train)
    return self

  def init(self, key: Key[Array, ""]) -> Params:
    """Draws the tower."""
    biases = jnp.zeros((1, len(self.columns))) if self.columns else None
    return self._module().init(key, jnp.ones((1,), jnp.int32), biases)["params"]

  def observed(
    self,
    objectives: Sequence[Objective],
    logits: Float[Array, "batch _output"],
    labels: Labels,
    params: Params,
    key: Key[Array, ""],
  ) -> tuple[Float[Array, "batch _output"], Labels]:
    """The logits of what is seen, of those of relevance; and the labels.

    Args:
      objectives: in the order of the logits.
      logits: of the model.
      labels: by column, with the columns that a step reads.
      params: of `init`.
      key: for dropout.
    """
    # A batch is filled up with real rows, so that all positions are such.
    position = jnp.nan_to_num(labels[self.column], nan=1.0).astype(jnp.int32)
    biases = None
    if self.columns:
      biases = jnp.stack([labels[name] for name in self.columns], axis=1)
    tower: Any = self._module().apply(
      {"params": params},
      position,
      biases,
      deterministic=False,
      rngs={"dropout": key},
    )
    for number, objective in enumerate(objectives):
      if objective.position_biased:
        own = logits[:, number]
        seen = own + tower if self.combine == "sum" else joint_logit(tower, own)
        logits = logits.at[:, number].set(seen)
    return logits, labels

  def curve(self, params: Params, means: Mapping[str, float]) -> PositionCurve:
    """P(seen) of each position against the first; of "sum" the odds.

    Args:
      params: trained.
      means: of `columns`, at which the curve is taken.
    """
    positions = jnp.arange(1, self.num_positions + 1)
    biases = None
    if self.columns:
      row = jnp.array([means[name] for name in self.columns])
      biases = jnp.broadcast_to(row, (self.num_positions, len(row)))
    found = self._module().apply({"params": params}, positions, biases)
    logit = np.asarray(found, np.float64)
    if self.combine == "sum":
      return PositionCurve(np.exp(logit - logit[0]), None, "odds of a tower")
    seen = 1.0 / (1.0 + np.exp(-logit))
    return PositionCurve(seen / seen[0], None, "tower (PAL)")


@dataclasses.dataclass(frozen=True)
class Propensities:
  """Clicks weigh by the inverse of their position's propensity.

  Attributes:
    values: of position 1, 2, ..., in (0, 1]; () is estimated.
    estimator: of `recjax.data.propensities`, such as @swap.SwapIntervention()
      or @regression_em.RegressionEM(); it sees the training rows and the label
      of the first task that suffers from the position.
    column: of positions, from 1 on.
    num_positions: the last position; of `values` as many as they are.
    min_propensity: smaller ones count as this much.
    truth: column of true propensities, which only planted data have: reports
      show them.
  """

  values: tuple[float | int, ...] = ()
  estimator: Any = None
  column: str = "position"
  num_positions: int = 10
  min_propensity: float | int = 0.01
  truth: str = ""

  def __post_init__(self):
    what = "Propensities"
    check_range(f"{what}.num_positions", self.num_positions, 1, integer=True)
    check_range(f"{what}.min_propensity", self.min_propensity, 1e-6, 1.0)
    if bool(self.values) == (self.estimator is not None):
      raise ConfigError(
        "Propensities takes either values, one a position, or an estimator"
        " such as @swap.SwapIntervention(); got"
        f" values={self.values!r} and estimator={self.estimator!r}."
      )
    if self.estimator is not None and not hasattr(self.estimator, "estimate"):
      raise ConfigError(
        "Propensities.estimator must be one of recjax.data.propensities, such"
        f" as @swap.SwapIntervention(); got {self.estimator!r}."
      )
    for position, value in enumerate(self.values, 1):
      check_range(f"Propensities.values, position {position},", value, 0.0, 1.0)
      if value == 0:
        raise ConfigError(
          f"Propensities.values, position {position}, must lie in (0, 1]; got"
          f" {value!r}: no click could come from there."
        )
    if self.values:
      object.__setattr__(self, "num_positions", len(self.values))

  @property
  def batch_columns(self) -> tuple[str, ...]:
    """Columns that a step reads."""
    return (self.column,)

  @property
  def no_features(self) -> tuple[str, ...]:
    """Columns that are not to be features."""
    own = self.estimator.columns if self.estimator is not None else ()
    return tuple(filter(None, (self.column, self.truth, *own)))

  @property
  def label_rules(self) -> tuple[LabelRule, ...]:
    """What training rows must hold."""
    return _rules(self.column, self.num_positions, (), self.truth)

  def fitted(self, train: Examples | None, label: str) -> "FittedPropensities":
    """The propensities, from the training rows where none are given.

    Args:
      train: the training rows; None where they are on disk, and were checked.
      label: column of clicks.

    Raises:
      ConfigError: an estimator would have to read rows on disk.
      DataError: a row holds no position, or a position can not be told.
    """
    if self.estimator is None:
      _check(self.label_rules, train)
      values = np.asarray(self.values, np.float64)
      return FittedPropensities(self, PositionCurve(values, None, "given"))
    if train is None:
      raise ConfigError(
        "Propensities.estimator reads all training rows at once, and `stream`"
        f" leaves them on disk; got {type(self.estimator).__name__}. Estimate"
        " on rows that memory holds, and give what result.json tells under"
        " position_bias as Propensities.values."
      )
    rows = shown_rows(
      train, label=label, column=self.column, num_positions=self.num_positions
    )
    return FittedPropensities(self, self.estimator.estimate(rows))


@dataclasses.dataclass(frozen=True, eq=False)
class FittedPropensities:
  """`Propensities` that are known.

  Attributes:
    settings: where they are from.
    known: of each position.
  """

  settings: Propensities
  known: PositionCurve

  @property
  def truth(self) -> str:
    """Column of true propensities, or ""."""
    return self.settings.truth

  @property
  def num_positions(self) -> int:
    """The last position."""
    return len(self.known.values)

  @property
  def columns(self) -> tuple[str, ...]:
    """Further columns by which the curve may differ: none."""
    return ()

  @property
  def column(self) -> str:
    """Column of positions."""
    return self.settings.column

  def init(self, key: Key[Array, ""]) -> Params:
    """Nothing is trained."""
    del key
    return {}

  def observed(
    self,
    objectives: Sequence[Objective],
    logits: Float[Array, "batch _output"],
    labels: Labels,
    params: Params,
    key: Key[Array, ""],
  ) -> tuple[Float[Array, "batch _output"], Labels]:
    """The logits as they are, and the labels c / p; see `PositionTower`."""
    del params, key
    values = np.maximum(self.known.values, self.settings.min_propensity)
    position = jnp.nan_to_num(labels[self.column], nan=1.0).astype(jnp.int32)
    propensity = jnp.asarray(values, jnp.float32)[position - 1]
    columns = {each.column for each in objectives if each.position_biased}
    weighed = {name: labels[name] / propensity for name in columns}
    return logits, dict(labels) | weighed

  def curve(self, params: Params, means: Mapping[str, float]) -> PositionCurve:
    """What is known, against the first position."""
    del params, means
    first = self.known.values[0]
    stderr = None if self.known.stderr is None else self.known.stderr / first
    values = self.known.values / first
    return dataclasses.replace(self.known, values=values, stderr=stderr)


def _rules(
  column: str, num_positions: int, columns: Sequence[str], truth: str
) -> tuple[LabelRule, ...]:
  """Of a column of positions, further ones, and the truth, or ""."""
  position = LabelRule(column, "position", num_positions, train_only=True)
  rules = [LabelRule(name, "number", train_only=True) for name in columns]
  if truth:
    rules.append(LabelRule(truth, "number", train_only=True, in_batch=False))
  return (position, *rules)


def _check(rules: Sequence[LabelRule], train: Examples | None) -> None:
  if train is not None:
    columns = {name: train.numbers(name) for name in label_names(rules)}
    check_labels(rules, columns, name=train.name)


def check_position_bias(objectives: Sequence[Objective], bias: Any) -> None:
  """Raises ConfigError unless what is biased and what helps fit together."""
  if bias is None:
    return
  if not hasattr(bias, "observed") and not hasattr(bias, "fitted"):
    raise ConfigError(
      "position_bias must be @position_bias.PositionTower() or"
      f" @position_bias.Propensities(); got {bias!r}."
    )
  biased = {each.column for each in objectives if each.position_biased}
  if not biased:
    raise ConfigError(
      "position_bias is set, and no Objective has position_biased = True: say"
      " which labels suffer from the position."
    )
  for objective in objectives:
    if objective.column in biased and not objective.position_biased:
      raise ConfigError(
        f"Objective({objective.name!r}) has the label {objective.column!r} of"
        " another objective that is position_biased: it must be so too."
      )


def biased_label(objectives: Sequence[Objective]) -> str:
  """The label of the first task that suffers from the position."""
  return next(each.column for each in objectives if each.position_biased)
