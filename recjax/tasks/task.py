"""What training asks of a task: examples, a loss, and no optimizer."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, Key

from recjax.embeddings.collection import EmbeddingCollection
from recjax.types import Batch, Params

NO_TABLES = EmbeddingCollection((), ())
"""Of a task whose tables are all dense."""


@runtime_checkable
class Task(Protocol):
  """A module, a loss and labels; no state, no optimizer."""

  @property
  def sparse(self) -> EmbeddingCollection:
    """The tables that have a row-wise optimizer."""
    ...

  def init(self, key: Key[Array, ""]) -> tuple[Params, dict[str, Any]]:
    """Draws the parameters of optax, and what no optimizer trains."""
    ...

  def micro_batches(self, batch: Batch) -> tuple[Any, Int[Array, ""]]:
    """The batch in parts along a leading axis, and how many are in use."""
    ...

  def examples(self, part: Any, constants: Any, key: Key[Array, ""]) -> Batch:
    """A part with what is drawn for it, such as negatives."""
    ...

  def loss(
    self,
    params: Params,
    embeddings: dict[str, Float[Array, "..."]],
    variables: dict[str, Any],
    examples: Batch,
    constants: Any,
    key: Key[Array, ""],
  ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], dict[str, Any]]]:
    """The sum of the losses, the sum of their weights, and new variables.

    Args:
      params: of `init`.
      embeddings: of `sparse`, for the ids of `examples`.
      variables: of `init`, or of the call before.
      examples: of `examples`.
      constants: arrays that every step reads.
      key: for dropout and whatever else is random.

    Returns:
      Sum, and (weight, variables). A *sum*, so that parts add up to exactly
      the gradient of the whole batch.
    """
    ...
