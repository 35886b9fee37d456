"""Gates over experts, and what is told of them.

  g_t(x) = softmax(W_t x),   y_t = sum_e g_te f_e

Gate dropout leaves out an expert's gate for a row in training and scales the
others up to a sum of 1, so that a task can not lean on one expert alone (Zhao
et al.: Recommending What Video to Watch Next, RecSys 2019,
https://doi.org/10.1145/3298689.3346997). Where all would be left out, none is.

Gates of a forward pass stand in the collection "gates", if it is mutable.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.layers.dropout import dropout

GATES = "gates"


class ExpertGate(nn.Module):
  """Weights of experts for one or several tasks, by one input for all.

  Attributes:
    num_experts: experts.
    num_tasks: gates over them.
    dropout_rate: at which an expert is left out for a row in training.
  """

  num_experts: int
  num_tasks: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch dim"], *, deterministic: bool
  ) -> Float[Array, "batch task expert"]:
    """The weights, which sum to 1 over experts."""
    shape = self.num_tasks, self.num_experts
    logits = nn.Dense(
      self.num_tasks * self.num_experts, use_bias=False, name="logits"
    )(x)
    gates = jax.nn.softmax(logits.reshape(-1, *shape), axis=-1)
    if self.dropout_rate and not deterministic:
      key = self.make_rng("dropout")
      kept = dropout(key, jnp.ones_like(gates), rate=self.dropout_rate) > 0
      kept |= ~jnp.any(kept, axis=-1, keepdims=True)
      gates = jnp.where(kept, gates, 0.0)
      gates /= jnp.maximum(jnp.sum(gates, axis=-1, keepdims=True), 1e-12)
    self.sow(GATES, "gate", gates)
    return gates


def expert_utilization(
  gates: Float[Array, "batch task expert"], where: Bool[Array, " batch"]
) -> tuple[Float[Array, "task expert"], Float[Array, " task"]]:
  """What each task takes of each expert, and how spread its gates are.

  entropy_t = mean_b -sum_e g_bte ln g_bte / ln E: 1 is even, 0 is one expert.

  Args:
    gates: of some rows.
    where: rows that count.

  Returns:
    The mean gate of each expert, and the mean entropy; 0 if no row counts.
  """
  weight = where / jnp.maximum(jnp.sum(where), 1)
  mean = jnp.einsum("b,bte->te", weight, gates)
  logs = jnp.log(jnp.where(gates > 0, gates, 1.0))
  entropy = -jnp.einsum("b,bte->t", weight, gates * logs)
  most = jnp.log(jnp.maximum(gates.shape[-1], 2))
  return mean, entropy / most
