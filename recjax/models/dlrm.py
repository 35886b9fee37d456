"""DLRM: inner products of fields and of a perceptron over dense columns.

Maxim Naumov, Dheevatsa Mudigere, Hao-Jun Michael Shi, Jianyu Huang, et al.:
Deep Learning Recommendation Model for Personalization and Recommendation
Systems, 2019, https://arxiv.org/abs/1906.00091

  z = BottomMLP(x),  T = [z, e_1, ..., e_n]
  dot  r = [z, (<T_i, T_j>)_{i>j}]
  cat  r = [z, e_1, ..., e_n]
  logit = w^T TopMLP(r) + b

Without dense columns there is no bottom perceptron and no z.

Deviations from the paper: biases start at 0, not at N(0, 1 / width). Batch
norm and dropout are options (BARS uses them, with "cat"); the last layer of
the bottom perceptron, which has the width of the vectors, has a relu alone,
as in FuxiCTR. Defaults are the authors' for Criteo Kaggle.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_choice, check_range
from recjax.layers.fields import flatten_fields, model_inputs
from recjax.layers.interactions import dot_interaction
from recjax.layers.mlp import ACTIVATIONS, MLP, check_mlp_settings

INTERACTIONS = ("dot", "cat")


class DLRM(nn.Module):
  """Bottom perceptron, interaction, top perceptron.

  Attributes:
    dim: width of the vectors of fields and of the bottom's output.
    bottom: hidden widths of the bottom perceptron; its output has `dim`.
    top: hidden widths of the top perceptron.
    interaction: "dot" or "cat".
    include_self: "dot" has the squared lengths of the vectors as well.
    activation: of both perceptrons.
    bottom_dropout_rate: behind each hidden activation of the bottom.
    top_dropout_rate: behind each hidden activation of the top.
    batch_norm: normalize before each hidden activation.
  """

  dim: int = 16
  bottom: tuple[int, ...] = (512, 256, 64)
  top: tuple[int, ...] = (512, 256)
  interaction: str = "dot"
  include_self: bool = False
  activation: str = "relu"
  bottom_dropout_rate: float = 0.0
  top_dropout_rate: float = 0.0
  batch_norm: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_range("DLRM.dim", self.dim, 1, integer=True)
    check_choice("DLRM.interaction", self.interaction, INTERACTIONS)
    check_mlp_settings(
      "DLRM", self.bottom, self.activation, field="bottom", min_layers=0
    )
    check_mlp_settings("DLRM", self.top, field="top", min_layers=0)
    for name in ("bottom_dropout_rate", "top_dropout_rate"):
      check_range(f"DLRM.{name}", getattr(self, name), 0.0, 0.99)

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    return {"embedding": self.dim}

  @nn.compact
  def __call__(
    self,
    embeddings: Mapping[str, Float[Array, "batch _field _dim"]],
    dense: Float[Array, "batch num_dense"] | None = None,
    *,
    deterministic: bool = True,
    where: Bool[Array, " batch"] | None = None,
  ) -> dict[str, Float[Array, "batch *_dim"]]:
    """Scores a batch.

    Args:
      embeddings: "embedding" -> the vector of each field.
      dense: the dense columns, if there are any.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example; "hidden" -> what its output layer reads.
    """
    rows, dense = model_inputs(embeddings, dense, self.groups)
    vectors = rows["embedding"]
    glorot = nn.initializers.glorot_normal()
    z = None
    if dense is not None:
      z = MLP(
        self.bottom,
        self.activation,
        self.bottom_dropout_rate,
        self.batch_norm,
        name="bottom_mlp",
      )(dense, deterministic=deterministic, where=where)
      z = nn.Dense(self.dim, kernel_init=glorot, name="bottom_output")(z)
      z = ACTIVATIONS[self.activation](z)
      vectors = jnp.concatenate([z[:, None], vectors], axis=1)
    top = MLP(
      self.top,
      self.activation,
      self.top_dropout_rate,
      self.batch_norm,
      name="top_mlp",
    )(self._interact(vectors, z), deterministic=deterministic, where=where)
    logit = nn.Dense(1, kernel_init=glorot, name="output")(top)
    return {"logit": logit[:, 0], "hidden": top}

  def _interact(
    self,
    vectors: Float[Array, "batch field dim"],
    z: Float[Array, "batch dim"] | None,
  ) -> Float[Array, "batch input_dim"]:
    if self.interaction == "cat":
      return flatten_fields(vectors)
    if vectors.shape[1] < 2 and not self.include_self:
      raise ConfigError(
        "DLRM.interaction='dot' needs two vectors or more; got one field and"
        " no dense columns. Use interaction='cat'."
      )
    products = dot_interaction(vectors, include_self=self.include_self)
    return products if z is None else jnp.concatenate([z, products], axis=1)
