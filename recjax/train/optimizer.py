"""Optax by parameter path."""

import dataclasses
import re
from collections.abc import Hashable

import jax
import optax

from recjax.errors import ConfigError, check_choice, check_range
from recjax.schedules import check_schedule, make_schedule
from recjax.train.state import leaf_names, path_name
from recjax.types import Params

OPTIMIZERS = ("adam", "adamw", "sgd", "momentum", "adagrad")


@dataclasses.dataclass(frozen=True)
class ParamGroup:
  """How the parameters whose path matches a pattern are trained.

  Attributes:
    pattern: searched in paths such as "tables/item" or
      "model/query_0/kernel"; "" matches every path.
    optimizer: "adam", "adamw", "sgd", "momentum" or "adagrad".
    learning_rate: the highest one.
    b1: decay of the first moment, or the momentum.
    b2: decay of the second moment.
    eps: added to the denominator of Adam and Adagrad.
    initial_accumulator: where the sums of squares of Adagrad start.
    weight_decay: decoupled, of "adamw".
    l2: strength of the penalty (l2 / 2) ||W||^2 that is added to the mean
      loss, so l2 W to the gradient; of all rows of a dense table, looked up
      or not.
    schedule: what follows the warm-up: "constant", or down to zero at
      `decay_steps` by "linear" or "cosine".
    warmup_steps: linear, from zero.
    decay_steps: of the schedule, warm-up included.
    frozen: the parameters stay as they are.
  """

  pattern: str = ""
  optimizer: str = "adam"
  learning_rate: float = 1e-3
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  initial_accumulator: float = 0.1
  weight_decay: float = 0.0
  l2: float = 0.0
  schedule: str = "constant"
  warmup_steps: int = 0
  decay_steps: int = 0
  frozen: bool = False

  def __post_init__(self):
    check_choice("ParamGroup.optimizer", self.optimizer, OPTIMIZERS)
    check_schedule(
      "ParamGroup", self.schedule, self.warmup_steps, self.decay_steps
    )
    for name in (
      "learning_rate",
      "weight_decay",
      "l2",
      "eps",
      "initial_accumulator",
    ):
      check_range(f"ParamGroup.{name}", getattr(self, name), 0.0)
    for name in ("b1", "b2"):
      # At 1 Adam divides zero by zero.
      check_range(f"ParamGroup.{name}", getattr(self, name), 0.0, 0.999999)
    if self.weight_decay and self.optimizer != "adamw":
      raise ConfigError(
        "ParamGroup.weight_decay is used by optimizer='adamw' alone; got"
        f" {self.weight_decay!r} with {self.optimizer!r}."
      )
    try:
      re.compile(self.pattern)
    except re.error as error:
      raise ConfigError(
        "ParamGroup.pattern must be a regular expression; got"
        f" {self.pattern!r} ({error})."
      ) from error

  def rate(self) -> optax.Schedule:
    """The learning rate as a function of the step."""
    return make_schedule(
      self.learning_rate, self.schedule, self.warmup_steps, self.decay_steps
    )

  def transformation(self) -> optax.GradientTransformation:
    """The optax transformation of this group."""
    if self.frozen:
      return optax.set_to_zero()
    if not self.l2:
      return self._rule()
    return optax.chain(optax.add_decayed_weights(self.l2), self._rule())

  def _rule(self) -> optax.GradientTransformation:
    match self.optimizer:
      case "adam":
        return optax.adam(self.rate(), self.b1, self.b2, self.eps)
      case "adamw":
        return optax.adamw(
          self.rate(),
          self.b1,
          self.b2,
          self.eps,
          weight_decay=self.weight_decay,
        )
      case "sgd":
        return optax.sgd(self.rate())
      case "momentum":
        return optax.sgd(self.rate(), momentum=self.b1)
      case _:
        return optax.adagrad(self.rate(), self.initial_accumulator, self.eps)


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """Groups of parameters, and what acts on all of them.

  Attributes:
    groups: a parameter belongs to the first group whose pattern it matches.
    clip_norm: the gradient is scaled down to this global norm; 0 is off.
      Frozen parameters have no part in the norm.
  """

  groups: tuple[ParamGroup, ...] = (ParamGroup(),)
  clip_norm: float = 0.0

  def __post_init__(self):
    check_range("Optimizer.clip_norm", self.clip_norm, 0.0)
    if not self.groups:
      raise ConfigError("Optimizer.groups must name at least one ParamGroup.")

  def build(self, params: Params) -> optax.GradientTransformation:
    """The transformation for these parameters.

    Raises:
      ConfigError: a parameter is in no group, or a group has none.
    """
    names = leaf_names(params)
    groups = {name: self._group_of(name) for name in names}
    for index, group in enumerate(self.groups):
      if index not in groups.values():
        raise ConfigError(
          f"no parameter is left for ParamGroup(pattern={group.pattern!r});"
          f" the parameters are {', '.join(names)}."
        )
    group_of = jax.tree.map_with_path(
      lambda path, _: groups[path_name(path)], params
    )
    parts = []
    if self.clip_norm > 0:
      if any(group.frozen for group in self.groups):
        frozen = jax.tree.map(lambda i: self.groups[i].frozen, group_of)
        parts.append(optax.masked(optax.set_to_zero(), frozen))
      parts.append(optax.clip_by_global_norm(self.clip_norm))
    if len(self.groups) == 1:
      return optax.chain(*parts, self.groups[0].transformation())
    labels = jax.tree.map(str, group_of)
    by_label: dict[Hashable, optax.GradientTransformation] = {
      str(index): group.transformation()
      for index, group in enumerate(self.groups)
    }
    return optax.chain(*parts, optax.multi_transform(by_label, labels))

  def _group_of(self, name: str) -> int:
    for index, group in enumerate(self.groups):
      if re.search(group.pattern, name):
        return index
    raise ConfigError(
      f"the parameter {name!r} matches no ParamGroup of Optimizer.groups; end"
      " the groups with one whose pattern is ''."
    )
