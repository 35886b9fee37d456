"""What training asks of a balancer: one loss, or one gradient, of T tasks.

A balancer is a frozen dataclass without arrays. What it learns is kept by the
caller: parameters that the optimizer trains, and a state that no optimizer
trains and that checkpoints hold. A task without rows in a batch is told by
`present`; it changes nothing for the others, whatever stands in its place.
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, PyTree

from recjax.types import Params

State = dict[str, Any]
"""Arrays that no optimizer trains."""
TaskGradients = PyTree[Float[Array, "task ..."]]
"""Gradients of the tasks' mean losses by the shared parameters."""
Gradients = PyTree[Float[Array, "..."]]


@runtime_checkable
class LossBalancer(Protocol):
  """Combines losses before they are differentiated."""

  needs_gradients: ClassVar[bool]  # False

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """What the optimizer trains, and what it does not; {} if nothing."""
    ...

  def combine_losses(
    self,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    params: Params,
    state: State,
  ) -> tuple[Float[Array, ""], State]:
    """The loss that is differentiated, by the model and by `params`.

    Args:
      losses: mean loss of each task in the batch.
      present: which tasks have rows in the batch.
      params: of `init`, trained since.
      state: of `init`, or of the call before.

    Returns:
      The combined loss, and the next state.
    """
    ...


@runtime_checkable
class GradientBalancer(Protocol):
  """Combines the gradients of the parameters that tasks share."""

  needs_gradients: ClassVar[bool]  # True

  def init(self, num_tasks: int) -> tuple[Params, State]:
    """What the optimizer trains, and what it does not; {} if nothing."""
    ...

  def combine_gradients(
    self,
    grads: TaskGradients,
    losses: Float[Array, " task"],
    present: Bool[Array, " task"],
    state: State,
  ) -> tuple[Gradients, State]:
    """The gradient that the optimizer sees.

    Args:
      grads: any tree of arrays with a leading axis of tasks.
      losses: mean loss of each task in the batch.
      present: which tasks have rows in the batch.
      state: of `init`, or of the call before.

    Returns:
      The tree without the leading axis, scaled like the sum of the tasks'
      gradients, and the next state.
    """
    ...


Balancer = LossBalancer | GradientBalancer
