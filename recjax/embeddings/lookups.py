"""What a feature reads of a table, and what it asks of a batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array

from recjax.embeddings.combiners import COMBINERS
from recjax.errors import ConfigError, check_choice


@dataclasses.dataclass(frozen=True)
class Lookup:
  """A feature that reads a table; several may read the same.

  Attributes:
    feature: name of the ids in the batch, [batch] or [batch, len].
    table: name of the table.
    combiner: how the rows of a list become one: "sum", "mean" (by the sum of
      the weights) or "sqrtn" (by the root of the sum of their squares). With
      "none" a list stays one, [batch, len, dim], as sequence models read it.
    weights: name of float weights in the batch, shaped like the ids; "" is
      1 for every id but 0.
    name: of the embedding; "" is `feature`.
  """

  feature: str
  table: str
  combiner: str = "none"
  weights: str = ""
  name: str = ""

  def __post_init__(self):
    check_choice(f"Lookup({self.feature!r}).combiner", self.combiner, COMBINERS)
    if self.weights and self.combiner == "none":
      raise ConfigError(
        f"Lookup({self.feature!r}).weights needs a combiner: without one"
        f" nothing is weighted; choose one of {', '.join(COMBINERS[1:])}."
      )

  @property
  def output(self) -> str:
    """The name of the embedding."""
    return self.name or self.feature

  def ids_in(self, batch: Mapping[str, Any]) -> Any:
    """The ids in a batch.

    Raises:
      ConfigError: they are not there, or no lists and there is a combiner.
    """
    check_choice(f"Lookup({self.output!r}).feature", self.feature, batch)
    ids = batch[self.feature]
    if ids.ndim == 1 and self.combiner != "none":
      raise ConfigError(
        f"Lookup({self.output!r}).combiner must be 'none' for a feature of"
        f" one value; {self.feature!r} is no list and the combiner is"
        f" {self.combiner!r}."
      )
    return ids

  def weights_in(self, batch: Mapping[str, Any]) -> Array | None:
    """The weights in a batch; None where all are 1.

    Raises:
      ConfigError: they are not there, or of another shape than the ids.
    """
    if not self.weights:
      return None
    owner = f"Lookup({self.output!r}).weights"
    check_choice(owner, self.weights, batch)
    weights, ids = batch[self.weights], batch[self.feature]
    if weights.shape != ids.shape:
      raise ConfigError(
        f"{owner} must have the shape of the ids {self.feature!r},"
        f" {ids.shape}; {self.weights!r} has {weights.shape}."
      )
    return weights
