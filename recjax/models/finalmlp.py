"""FinalMLP: two perceptrons with gates of their own, fused bilinearly.

Kelong Mao, Jieming Zhu, Liangcai Su, Guohao Cai, Yuru Li, Zhenhua Dong:
FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction, AAAI 2023,
https://arxiv.org/abs/2304.00902

  e = [e_1, ..., e_n],  g_s = 2 sigmoid(Gate_s(c_s)),  s = 1, 2
  o_s = MLP_s(g_s * e)
  logit = b + <w_1, o_1> + <w_2, o_2> + sum_h o_{1,h}^T W_h o_{2,h}

Gate_s is a perceptron with relus. Its context c_s are rows of tables of its
own (group "gate1" or "gate2", over whichever fields the run puts there, say
the user or the item), or a vector that is learned. A dense column x_j is a
field with the vector x_j v_j.

Deviations from the paper: none. The learned vector starts at 0, as in the
authors' code; the relus behind it then pass no gradient, and the gate learns
through its last bias alone, which can express all that a constant gate can.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.fields import FieldVectors, flatten_fields, model_inputs
from recjax.layers.interactions import BilinearFusion
from recjax.layers.mlp import MLP, check_layer_sizes, check_mlp_settings


class FinalMLP(nn.Module):
  """Two gated streams and their bilinear fusion.

  Attributes:
    dim: width of the vectors of fields.
    hidden1: widths of the first stream.
    hidden2: widths of the second stream.
    gating: gate the input of each stream.
    gate_hidden: widths of the gates' hidden layers.
    gate1_context: the first gate has the table group "gate1".
    gate2_context: the second gate has the table group "gate2".
    num_heads: parts of the streams that meet each other in the fusion.
    activation: of both streams.
    dropout_rate1: behind each activation of the first stream.
    dropout_rate2: behind each activation of the second stream.
    batch_norm1: normalize before each activation of the first stream.
    batch_norm2: normalize before each activation of the second stream.
  """

  dim: int = 10
  hidden1: tuple[int, ...] = (400, 400, 400)
  hidden2: tuple[int, ...] = (400, 400, 400)
  gating: bool = True
  gate_hidden: tuple[int, ...] = (64,)
  gate1_context: bool = False
  gate2_context: bool = False
  num_heads: int = 1
  activation: str = "relu"
  dropout_rate1: float = 0.0
  dropout_rate2: float = 0.0
  batch_norm1: bool = False
  batch_norm2: bool = False

  def __post_init__(self):
    super().__post_init__()
    for name in ("dim", "num_heads"):
      check_range(f"FinalMLP.{name}", getattr(self, name), 1, integer=True)
    check_layer_sizes("FinalMLP.gate_hidden", self.gate_hidden, min_layers=0)
    for name in ("hidden1", "hidden2"):
      check_mlp_settings(
        "FinalMLP", getattr(self, name), self.activation, field=name
      )
    for name in ("dropout_rate1", "dropout_rate2"):
      check_range(f"FinalMLP.{name}", getattr(self, name), 0.0, 0.99)
    widths = self.hidden1[-1], self.hidden2[-1]
    if any(width % self.num_heads for width in widths):
      raise ConfigError(
        f"FinalMLP.num_heads must divide {widths[0]} and {widths[1]}, the last"
        f" widths of hidden1 and hidden2; got {self.num_heads}."
      )
    if not self.gating and (self.gate1_context or self.gate2_context):
      raise ConfigError(
        "FinalMLP.gate1_context and gate2_context need gating=True; got"
        " gating=False."
      )

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    contexts = {"gate1": self.gate1_context, "gate2": self.gate2_context}
    gates = {name: self.dim for name, used in contexts.items() if used}
    return {"embedding": self.dim, **gates}

  @nn.compact
  def __call__(
    self,
    embeddings: Mapping[str, Float[Array, "batch _field _dim"]],
    dense: Float[Array, "batch num_dense"] | None = None,
    *,
    deterministic: bool = True,
    where: Bool[Array, " batch"] | None = None,
  ) -> dict[str, Float[Array, " batch"]]:
    """Scores a batch.

    Args:
      embeddings: "embedding" -> the vector of each field; "gate1" and
        "gate2", where asked for -> those of the gates' contexts.
      dense: the dense columns, if there are any.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example.
    """
    rows, dense = model_inputs(embeddings, dense, self.groups)
    flat = flatten_fields(
      FieldVectors(name="vectors")(rows["embedding"], dense)
    )
    left, right = flat, flat
    if self.gating:
      left = flat * self._gate("gate1", rows, flat)
      right = flat * self._gate("gate2", rows, flat)
    streams = (
      ("mlp1", left, self.hidden1, self.dropout_rate1, self.batch_norm1),
      ("mlp2", right, self.hidden2, self.dropout_rate2, self.batch_norm2),
    )
    outputs = [
      MLP(hidden, self.activation, dropout_rate, batch_norm, name=name)(
        x, deterministic=deterministic, where=where
      )
      for name, x, hidden, dropout_rate, batch_norm in streams
    ]
    return {"logit": BilinearFusion(self.num_heads, name="fusion")(*outputs)}

  def _gate(
    self,
    name: str,
    rows: Mapping[str, Float[Array, "batch _field dim"]],
    flat: Float[Array, "batch input_dim"],
  ) -> Float[Array, "_batch input_dim"]:
    """2 sigmoid(Gate(c)); one row where the context is learned."""
    if name in rows:
      context = flatten_fields(rows[name])
    else:
      context = self.param(
        f"{name}_vector", nn.initializers.zeros, (1, self.dim)
      )
    hidden = MLP(self.gate_hidden, name=name)(context, deterministic=True)
    logits = nn.Dense(
      flat.shape[1],
      kernel_init=nn.initializers.glorot_normal(),
      name=f"{name}_output",
    )(hidden)
    return 2 * jax.nn.sigmoid(logits)
