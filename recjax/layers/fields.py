"""How fields and dense columns enter a ranking model.

A field is one feature of an example; its rows come from the tables. A dense
column is a number. Both give linear terms, and both can give vectors:

  linear  b + sum_i w_i + sum_j u_j x_j
  vectors e_1, ..., e_n, x_1 v_1, ..., x_m v_m

where w_i and e_i are the rows that were looked up for field i.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from recjax.errors import ConfigError, nearest


def model_inputs(
  embeddings: Mapping[str, Float[Array, "batch _field _dim"]],
  dense: Float[Array, "batch num_dense"] | None,
  groups: Mapping[str, int],
  *,
  num_fields: int | None = None,
) -> tuple[dict[str, Array], Array | None]:
  """Checks what a model is given and turns it into float32.

  Args:
    embeddings: group -> rows of its tables, one for each field. The number of
      fields and the width differ between groups.
    dense: the dense columns, if there are any.
    groups: group -> width, as the model asks for.
    num_fields: fields that each group must have; None means any number.

  Returns:
    The groups asked for, and the dense columns or None.

  Raises:
    ConfigError: a group is missing or has another width.
  """
  rows = {}
  for name, dim in groups.items():
    if name not in embeddings:
      raise ConfigError(
        f"The model needs the table group {name!r} of width {dim}; got the"
        f" groups {', '.join(map(repr, embeddings)) or 'none'}."
        f"{nearest(name, embeddings)}"
      )
    value = embeddings[name]
    if value.shape[2] != dim:
      raise ConfigError(
        f"Tables of the group {name!r} must have width {dim}, as the model"
        f" says in `groups`; got rows of width {value.shape[2]}."
      )
    if num_fields is not None and value.shape[1] != num_fields:
      raise ConfigError(
        f"The group {name!r} must have {num_fields} fields; got"
        f" {value.shape[1]}."
      )
    rows[name] = value.astype(jnp.float32)
  if dense is None or dense.shape[1] == 0:
    return rows, None
  return rows, dense.astype(jnp.float32)


def refuse_dense(
  what: str, dense: Float[Array, "batch num_dense"] | None
) -> None:
  """Raises ConfigError if a model of users and items is given more."""
  if dense is not None:
    raise ConfigError(
      f"{what} knows users and items alone and takes no dense columns; got"
      f" {dense.shape[1]}. DeepFM, DCNv2 and DLRM do."
    )


def flatten_fields(
  fields: Float[Array, "batch field dim"],
  dense: Float[Array, "batch num_dense"] | None = None,
) -> Float[Array, "batch input_dim"]:
  """All rows of an example behind one another, then its dense columns."""
  flat = fields.reshape(fields.shape[0], fields.shape[1] * fields.shape[2])
  return flat if dense is None else jnp.concatenate([flat, dense], axis=1)


class LinearTerms(nn.Module):
  """b + sum_i w_i + sum_j u_j x_j; b and u start at 0."""

  @nn.compact
  def __call__(
    self,
    weights: Float[Array, "batch field 1"],
    dense: Float[Array, "batch num_dense"] | None = None,
  ) -> Float[Array, " batch"]:
    """Sums the terms.

    Args:
      weights: w, one row of width 1 for each field.
      dense: x, the dense columns, if there are any.

    Returns:
      The logit of each example.
    """
    zeros = nn.initializers.zeros
    logit = jnp.sum(weights, axis=(1, 2)) + self.param("bias", zeros, ())
    if dense is None:
      return logit
    return logit + dense @ self.param("dense", zeros, dense.shape[1:])


class FieldVectors(nn.Module):
  """Appends x_j v_j, a vector for each dense column, to those of the fields.

  v_j is drawn from N(0, 2 / (1 + dim)), as a linear map from one number to
  `dim` would be.
  """

  @nn.compact
  def __call__(
    self,
    fields: Float[Array, "batch field dim"],
    dense: Float[Array, "batch num_dense"] | None = None,
  ) -> Float[Array, "batch num_vectors dim"]:
    """Gives the vectors of all fields.

    Args:
      fields: rows that were looked up.
      dense: x, the dense columns, if there are any.

    Returns:
      The rows and behind them the vectors of the dense columns.
    """
    if dense is None:
      return fields
    dim = fields.shape[2]
    vectors = self.param(
      "dense",
      nn.initializers.normal((2.0 / (1 + dim)) ** 0.5),
      (dense.shape[1], dim),
    )
    return jnp.concatenate([fields, dense[:, :, None] * vectors[None]], axis=1)
