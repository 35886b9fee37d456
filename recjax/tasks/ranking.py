"""Pointwise ranking: labelled examples in, one logit each out.

loss = sum_i w_i l(logit_i, y_i) / sum_i w_i, with l the binary cross-entropy of
clicks, or the squared error of ratings.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.groups import (
  CategoricalField,
  TableSettings,
  make_collections,
  stack_fields,
)
from recjax.errors import check_choice
from recjax.types import Batch, Params

LOSSES = ("binary_cross_entropy", "squared_error")


@dataclasses.dataclass(frozen=True)
class NumericField:
  """A feature of floats.

  Attributes:
    name: in the batch.
    dim: width of a vector; 1 is a single number, [batch].
  """

  name: str
  dim: int = 1


@dataclasses.dataclass(frozen=True)
class Ranking:
  """A model that scores examples, with its tables.

  Attributes:
    model: of `recjax.models`, with `groups`.
    fields: categorical features, in the order in which the model sees them.
    numeric: features of floats, in their order.
    tables: (group, settings) pairs; the group "" is for all others.
    loss_name: "binary_cross_entropy" or "squared_error".
  """

  model: Any
  fields: tuple[CategoricalField, ...]
  numeric: tuple[NumericField, ...] = ()
  tables: tuple[tuple[str, TableSettings], ...] = (("", TableSettings()),)
  loss_name: str = "binary_cross_entropy"

  def __post_init__(self):
    check_choice("Ranking.loss_name", self.loss_name, LOSSES)

  @functools.cached_property
  def _collections(self) -> tuple[EmbeddingCollection, EmbeddingCollection]:
    groups: dict[str, int] = self.model.groups
    return make_collections(groups, self.fields, dict(self.tables))

  @property
  def dense(self) -> EmbeddingCollection:
    """The tables that optax trains."""
    return self._collections[0]

  @property
  def sparse(self) -> EmbeddingCollection:
    """The tables that have a row-wise optimizer."""
    return self._collections[1]

  def init(self, key: Key[Array, ""]) -> tuple[Params, dict[str, Any]]:
    """Draws the module and the dense tables; and the module's variables."""
    model_key, table_key = jax.random.split(key)
    params: dict[str, Any] = {}
    if self.dense.tables:
      params["tables"] = self.dense.init(table_key)
    # Two rows: batch norm has nothing to average over one.
    shape = lambda group, dim: jnp.zeros((2, self._num_fields(group), dim))
    groups: dict[str, int] = self.model.groups
    width = sum(field.dim for field in self.numeric)
    variables = self.model.init(
      model_key,
      {group: shape(group, dim) for group, dim in groups.items()},
      jnp.zeros((2, width)) if width else None,
    )
    variables = dict(variables)
    return params | {"model": variables.pop("params")}, variables

  def _num_fields(self, group: str) -> int:
    return sum(not f.groups or group in f.groups for f in self.fields)

  def micro_batches(self, batch: Batch) -> tuple[Batch, Int[Array, ""]]:
    """The batch as one part."""
    return jax.tree.map(lambda x: x[None], batch), jnp.int32(1)

  def examples(self, part: Batch, constants: Any, key: Key[Array, ""]) -> Batch:
    """The examples as they are."""
    del constants, key
    return part

  def loss(
    self,
    params: Params,
    embeddings: dict[str, Float[Array, "..."]],
    variables: dict[str, Any],
    examples: Batch,
    constants: Any,
    key: Key[Array, ""],
  ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], dict[str, Any]]]:
    """The weighted sum of the losses, the sum of weights, new variables.

    Args:
      params: of `init`.
      embeddings: of `sparse`.
      variables: running averages, if the model keeps any.
      examples: features, "label", and maybe "weight" and "where".
      constants: none.
      key: for dropout.

    Returns:
      Sum, and (weight, variables).
    """
    del constants
    logit, variables = self._apply(
      params, embeddings, variables, examples, dropout_key=key
    )
    label = examples["label"]
    weight = example_weights(examples)
    if self.loss_name == "squared_error":
      losses = jnp.square(logit - label)
    else:
      # softplus(s) - y s, which is never infinite.
      losses = jax.nn.softplus(logit) - label * logit
    total = jnp.sum(jnp.where(weight > 0, losses * weight, 0.0))
    return total, (jnp.sum(weight), variables)

  def scores(
    self, weights: Params, examples: Mapping[str, Array]
  ) -> Float[Array, "batch *task"]:
    """The logit of each example, without dropout.

    Args:
      weights: `TrainState.weights`.
      examples: features.

    Returns:
      One logit an example, or one for each task.
    """
    tables = weights.get("tables", {})
    variables = {
      name: value
      for name, value in weights.items()
      if name not in ("model", "tables")
    }
    embeddings = self.sparse.lookup(tables, examples)
    return self._apply(
      weights, embeddings, variables, examples, dropout_key=None
    )[0]

  def _model_inputs(self, params, embeddings, examples):
    """The vectors of each group, and the numbers."""
    if self.dense.tables:
      embeddings = embeddings | self.dense.lookup(params["tables"], examples)
    groups: dict[str, int] = self.model.groups
    num_rows = jax.tree.leaves(examples)[0].shape[0]
    rows = {
      group: stack_fields(embeddings, group, self.fields)
      if self._num_fields(group)
      else jnp.zeros((num_rows, 0, dim))
      for group, dim in groups.items()
    }
    return rows, self._numeric_columns(examples)

  def _apply(self, params, embeddings, variables, examples, *, dropout_key):
    inputs = self._model_inputs(params, embeddings, examples)
    all_variables = {"params": params["model"], **variables}
    if dropout_key is None:
      return self.model.apply(all_variables, *inputs)["logit"], variables
    out, updated = self.model.apply(
      all_variables,
      *inputs,
      deterministic=False,
      where=examples.get("where"),
      mutable=list(variables),
      rngs={"dropout": dropout_key},
    )
    return out["logit"], dict(updated)

  def _numeric_columns(
    self, examples
  ) -> Float[Array, "batch num_dense"] | None:
    if not self.numeric:
      return None
    columns = [examples[field.name] for field in self.numeric]
    wide = [x if x.ndim == 2 else x[:, None] for x in columns]
    return jnp.concatenate(wide, axis=1)


def example_weights(examples: Mapping[str, Array]) -> Float[Array, " batch"]:
  """The weight of each example; 0 where it only fills up a batch."""
  weight = examples.get("weight")
  if weight is None:
    weight = jnp.ones(examples["label"].shape, jnp.float32)
  if "where" in examples:
    weight = jnp.where(examples["where"], weight, 0.0)
  return weight
