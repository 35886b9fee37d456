"""Several tasks over one trunk: embeddings, a trunk, a head.

  x = trunk([e_1; ...; e_n; numbers]),   logits = head(x)

The trunk is a ranking model of this package, of which the vector before its
output is taken, or nothing: x are then the embeddings themselves, as in the
papers of `recjax.layers.heads`.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range
from recjax.layers.fields import flatten_fields, model_inputs
from recjax.layers.heads.mmoe import MMoE


class MultiTask(nn.Module):
  """A trunk and a head for several tasks.

  Attributes:
    head: of `recjax.layers.heads`.
    trunk: a model that gives "hidden", such as `DCNv2`; None is none.
    num_tasks: logits of an example.
    dim: width of the vectors of fields, if there is no trunk.
  """

  head: Any = MMoE()
  trunk: Any = None
  num_tasks: int = 2
  dim: int = 4

  def __post_init__(self):
    super().__post_init__()
    check_range("MultiTask.num_tasks", self.num_tasks, 1, integer=True)
    check_range("MultiTask.dim", self.dim, 1, integer=True)
    arguments = inspect.signature(type(self.head).__call__).parameters
    if not isinstance(self.head, nn.Module) or "num_tasks" not in arguments:
      raise ConfigError(
        "MultiTask.head must be a head of recjax.layers.heads, such as"
        f" @mmoe.MMoE(); got {_shown(self.head)}."
      )
    if self.trunk is not None and not (
      isinstance(self.trunk, nn.Module) and hasattr(type(self.trunk), "groups")
    ):
      raise ConfigError(
        "MultiTask.trunk must be a ranking model, such as @dcn_v2.DCNv2(), or"
        f" None; got {_shown(self.trunk)}."
      )

  @property
  def groups(self) -> dict[str, int]:
    """Table groups that the model asks for, with their widths."""
    return {"embedding": self.dim} if self.trunk is None else self.trunk.groups

  @nn.compact
  def __call__(
    self,
    embeddings: Mapping[str, Float[Array, "batch _field _dim"]],
    dense: Float[Array, "batch num_dense"] | None = None,
    *,
    deterministic: bool = True,
    where: Bool[Array, " batch"] | None = None,
  ) -> dict[str, Float[Array, "batch task"]]:
    """Scores a batch.

    Args:
      embeddings: group -> the vector of each field.
      dense: the dense columns, if there are any.
      deterministic: no dropout, running statistics of batch norm.
      where: rows that count in the statistics of a batch; None means all.

    Returns:
      "logit" -> one an example and task.

    Raises:
      ConfigError: the trunk has no vector before its output.
    """
    options = {"deterministic": deterministic, "where": where}
    if self.trunk is None:
      rows, dense = model_inputs(embeddings, dense, self.groups)
      x = flatten_fields(rows["embedding"], dense)
    else:
      out = self.trunk(embeddings, dense, **options)
      if "hidden" not in out:
        raise ConfigError(
          f"{type(self.trunk).__name__} has no vector before its output to"
          " stand below a head; take DCNv2, DCN, DLRM, WideDeep, DeepFM or"
          " another deep model."
        )
      x = out["hidden"]
    return {"logit": self.head(x, num_tasks=self.num_tasks, **options)}


def _shown(value: Any) -> str:
  """A module on one line."""
  if isinstance(value, nn.Module):
    return f"@{type(value).__name__}()"
  return repr(value)
