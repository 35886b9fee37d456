"""Ranking for several objectives: one row, a logit for each task.

The losses of the tasks, each a mean over the rows that count for it, are made
into one by a balancer (`recjax.balancing`), or their gradients are: then those
by what tasks share are combined, while the towers of a task, which no other
task moves, take theirs as it is, or times the task's weight where the balancer
keeps weights, as GradNorm does. A tower of the position is such a one.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from recjax.balancing.conflict import gradient_conflict
from recjax.balancing.fixed_weights import FixedWeights
from recjax.errors import ConfigError
from recjax.layers.heads.gates import GATES
from recjax.tasks.position_bias import TOWER, check_position_bias
from recjax.tasks.ranking import Ranking, example_weights
from recjax.tasks.task_objectives import (
  Objective,
  check_objectives,
  output_names,
  task_losses,
)
from recjax.types import Batch, Params

LABEL = "label/"
"""Before the names of the columns of labels in a batch."""
BALANCING = "balancing"
"""Variables of the balancer: its state, the last losses, the conflict."""
_TOWERS = "towers"
_MEMORY = 0.99


@dataclasses.dataclass(frozen=True)
class MultiTaskRanking(Ranking):
  """A model of several logits, with its tables, objectives and balancer.

  Attributes:
    objectives: in the order of the logits, behind which those of imputations
      stand.
    balancer: of `recjax.balancing`.
    measure_conflict: keeps running means of the cosines between the tasks'
      gradients, which costs a backward pass a task.
    position_bias: of `recjax.tasks.position_bias`, fitted to the training
      rows; None does nothing about it.
  """

  objectives: tuple[Objective, ...] = ()
  balancer: Any = FixedWeights()
  measure_conflict: bool = False
  position_bias: Any = None

  def __post_init__(self):
    super().__post_init__()
    check_objectives(self.objectives)
    check_position_bias(self.objectives, self.position_bias)
    if getattr(self.model, "num_tasks", 0) != len(self.outputs):
      raise ConfigError(
        "the model must have a logit for each objective, and one more for each"
        f" imputed one, {len(self.outputs)} in all; got {self.model!r}."
      )
    self.balancer.init(len(self.objectives))  # Says if it does not fit.

  @property
  def outputs(self) -> list[str]:
    """What the outputs of the model are."""
    return output_names(self.objectives)

  @property
  def needs_gradients(self) -> bool:
    """Whether the gradient of each task is looked at by itself."""
    return self.balancer.needs_gradients or self.measure_conflict

  def init(self, key: Key[Array, ""]) -> tuple[Params, dict[str, Any]]:
    """Draws the module and the dense tables; and what no optimizer trains."""
    params, variables = super().init(key)
    variables.pop(GATES, None)
    num = len(self.objectives)
    trained, state = self.balancer.init(num)
    own = {"state": state, "losses": jnp.zeros((num,))}
    if self.needs_gradients:
      own["cosines"] = jnp.zeros((num, num))
    if trained:
      params["balancer"] = trained
    if self.position_bias is not None:
      tower = self.position_bias.init(jax.random.fold_in(key, 1))
      params |= {TOWER: tower} if tower else {}
    return params, variables | {BALANCING: own}

  def loss(
    self,
    params: Params,
    embeddings: dict[str, Float[Array, "..."]],
    variables: dict[str, Any],
    examples: Batch,
    constants: Any,
    key: Key[Array, ""],
  ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], dict[str, Any]]]:
    """The balanced loss times the weight of the batch; see `Ranking.loss`.

    Args:
      params: of `init`.
      embeddings: of `sparse`.
      variables: of `init`, or of the call before.
      examples: features, "label/COLUMN" of each objective, and maybe "weight"
        and "where".
      constants: none.
      key: for dropout.

    Returns:
      Sum, and (weight, variables). The losses of the tasks are in the
      variables, and may be differentiated there.
    """
    del constants
    own = variables[BALANCING]
    of_model = {k: v for k, v in variables.items() if k != BALANCING}
    logit, of_model = self._apply(
      params, embeddings, of_model, examples, dropout_key=key
    )
    weight = example_weights(examples)
    labels = {
      name.removeprefix(LABEL): column
      for name, column in examples.items()
      if name.startswith(LABEL)
    }
    if self.position_bias is not None:
      logit, labels = self.position_bias.observed(
        self.objectives,
        logit,
        labels,
        params.get(TOWER, {}),
        jax.random.fold_in(key, 1),
      )
    losses, present = task_losses(self.objectives, logit, labels, weight)
    total, own = jnp.sum(losses), own | {"losses": losses}
    if self.balancer.needs_gradients:
      own["present"] = present
    else:
      total, own["state"] = self.balancer.combine_losses(
        losses, present, params.get("balancer", {}), own["state"]
      )
      own["present"] = present
    return total * jnp.sum(weight), (
      jnp.sum(weight),
      of_model | {BALANCING: own},
    )

  def differentiate(self, loss: Callable[..., Any]) -> Callable[..., Any]:
    """Value and gradients of the step's loss by parameters and looked-up rows.

    Args:
      loss: `loss` behind the look-up of rows.

    Returns:
      As of `jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)`.
    """
    whole = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    if not self.needs_gradients:
      return functools.partial(_without_present, whole)
    return functools.partial(self._by_task, loss, whole)

  def _by_task(self, loss, whole, params, rows, variables, *args):
    def losses_of(params, rows):
      _, (weight, new) = loss(params, rows, variables, *args)
      return new[BALANCING]["losses"], (weight, new)

    losses, pull, (weight, new) = jax.vjp(losses_of, params, rows, has_aux=True)
    of_params, of_rows = jax.vmap(pull)(jnp.eye(len(self.objectives)))
    own = dict(new[BALANCING])
    present = own.pop("present")
    of_towers, shared = _parted(of_params)
    cosines, _ = gradient_conflict((shared, of_rows))
    own["cosines"] = (
      _MEMORY * variables[BALANCING]["cosines"] + (1 - _MEMORY) * cosines
    )
    if not self.balancer.needs_gradients:
      value, grads = _without_present(whole, params, rows, variables, *args)
      total, (weight, new) = value
      new = new | {BALANCING: new[BALANCING] | {"cosines": own["cosines"]}}
      return (total, (weight, new)), grads
    weights = own["state"].get("weights", jnp.ones_like(losses))
    (shared, of_rows), own["state"] = self.balancer.combine_gradients(
      (shared, of_rows), losses, present, own["state"]
    )
    summed = jax.tree.map(
      lambda g: jnp.einsum("t,t...->...", weights, g), of_towers
    )
    grads = jax.tree.map(
      lambda g: g * weight, (_joined(summed, shared), of_rows)
    )
    total = jnp.sum(losses) * weight
    return (total, (weight, new | {BALANCING: own})), grads

  # -- Serving --------------------------------------------------------------

  def scores(
    self, weights: Params, examples: Mapping[str, Array]
  ) -> Float[Array, "batch task"]:
    """The logits of each example, without dropout."""
    logits = super().scores(_of_model(weights), examples)
    return logits[:, : len(self.objectives)]

  def gates(
    self, weights: Params, examples: Mapping[str, Array]
  ) -> dict[str, Float[Array, "batch _task _expert"]]:
    """The gates of all mixtures of the head, by their names.

    Args:
      weights: `TrainState.weights`.
      examples: features.
    """
    weights = _of_model(weights)
    tables = weights.get("tables", {})
    embeddings = self.sparse.lookup(tables, examples)
    inputs = self._model_inputs(weights, embeddings, examples)
    variables = {
      name: value
      for name, value in weights.items()
      if name not in ("model", "tables")
    }
    _, told = self.model.apply(
      {"params": weights["model"], **variables}, *inputs, mutable=[GATES]
    )
    leaves = jax.tree_util.tree_leaves_with_path(told.get(GATES, {}))
    return {
      "/".join(str(key.key) for key in path[:-2] if hasattr(key, "key")): leaf
      for path, leaf in leaves
    }


def _of_model(weights: Params) -> Params:
  """Without what only training reads."""
  return {
    name: value
    for name, value in weights.items()
    if name not in (BALANCING, "balancer", TOWER)
  }


def _without_present(whole, *args):
  """Drops what only the step itself asks for."""
  (total, (weight, new)), grads = whole(*args)
  own = {k: v for k, v in new[BALANCING].items() if k != "present"}
  return (total, (weight, new | {BALANCING: own})), grads


def _is_tower(path) -> bool:
  return any(getattr(key, "key", "") in (_TOWERS, TOWER) for key in path)


def _parted(tree):
  """The leaves of towers, and all others; None where a leaf is not."""
  pick = lambda wanted: jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf if _is_tower(path) == wanted else None, tree
  )
  return pick(True), pick(False)


def _joined(towers, shared):
  return jax.tree.map(
    lambda tower, other: other if tower is None else tower,
    towers,
    shared,
    is_leaf=lambda x: x is None,
  )
