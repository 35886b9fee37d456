"""Vectors of several modalities into one: text, image, sound.

With x_m the vector of modality m, and every sum and softmax over those that an
example has,

  concatenation  y = W [x_1; ...; x_M] + b
  weighted       y = sum_m a_m z_m,  a = softmax_m(c)
  attention      y = sum_m a_m z_m,  a = softmax_m(<q, tanh(U z_m + c)>)
  gated          y = sum_m sigmoid(V_m [x_1; ...; x_M] + d_m) * tanh(z_m)

where z_m = W_m x_m + b_m. The weights c are learned numbers, the same for all
examples; those of the attention differ between examples. The gates are Arevalo
et al.: Gated Multimodal Units for Information Fusion, 2017,
https://arxiv.org/abs/1702.01992; the attention is additive, Bahdanau, Cho,
Bengio, ICLR 2015, https://arxiv.org/abs/1409.0473

A modality that is missing counts for nothing, whatever its vector holds; where
all are, y = 0. Modalities are taken in the order of their names.

Deviations from the papers: b_m and d_m, which gated units have not.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, check_range, nearest
from recjax.layers.histories import masked_softmax

Modalities = Mapping[str, Float[Array, "batch _dim"]]
Present = Mapping[str, Bool[Array, " batch"]] | None


def _ordered(
  what: str, modalities: Modalities, present: Present
) -> tuple[dict[str, Array], Bool[Array, "batch modality"]]:
  """Vectors by name, zeros where missing, and which there are."""
  if not modalities:
    raise ConfigError(f"{what} needs at least one modality; got none.")
  present = present or {}
  for name in present:
    if name not in modalities:
      raise ConfigError(
        f"{what}: {name!r} in `present` is no modality; there are"
        f" {', '.join(map(repr, sorted(modalities)))}."
        f"{nearest(name, modalities)}"
      )
  vectors, masks = {}, []
  for name in sorted(modalities):
    vector = modalities[name].astype(jnp.float32)
    mask = present.get(name, jnp.ones(vector.shape[:1], bool))
    vectors[name] = jnp.where(mask[:, None], vector, 0.0)
    masks.append(mask)
  return vectors, jnp.stack(masks, axis=1)


def _projected(
  vectors: Mapping[str, Float[Array, "batch _dim"]], dim: int
) -> Float[Array, "batch modality dim"]:
  """z_m of each modality; called within a module's compact method."""
  parts = [
    nn.Dense(dim, name=f"project_{name}")(x) for name, x in vectors.items()
  ]
  return jnp.stack(parts, axis=1)


class ConcatFusion(nn.Module):
  """One linear map of all vectors behind one another.

  Attributes:
    dim: width of the result.
  """

  dim: int

  def __post_init__(self):
    super().__post_init__()
    check_range("ConcatFusion.dim", self.dim, 1, integer=True)

  @nn.compact
  def __call__(
    self, modalities: Modalities, present: Present = None
  ) -> Float[Array, "batch dim"]:
    """Fuses the modalities.

    Args:
      modalities: name -> vectors.
      present: name -> which examples have it; all have one that is not named.

    Returns:
      One vector an example.

    Raises:
      ConfigError: there is no modality, or `present` names an unknown one.
    """
    vectors, masks = _ordered("ConcatFusion", modalities, present)
    x = jnp.concatenate(list(vectors.values()), axis=1)
    out = nn.Dense(self.dim, name="output")(x)
    return jnp.where(jnp.any(masks, axis=1, keepdims=True), out, 0.0)


class WeightedFusion(nn.Module):
  """The mean of mapped vectors with one learned weight a modality.

  Attributes:
    dim: width of the result.
  """

  dim: int

  def __post_init__(self):
    super().__post_init__()
    check_range("WeightedFusion.dim", self.dim, 1, integer=True)

  @nn.compact
  def __call__(
    self, modalities: Modalities, present: Present = None
  ) -> Float[Array, "batch dim"]:
    """Fuses the modalities; see `ConcatFusion`."""
    vectors, masks = _ordered("WeightedFusion", modalities, present)
    logits = self.param("weights", nn.initializers.zeros, masks.shape[1:])
    weights = masked_softmax(jnp.broadcast_to(logits, masks.shape), masks)
    return jnp.einsum("bm,bmd->bd", weights, _projected(vectors, self.dim))


class AttentionFusion(nn.Module):
  """The mean of mapped vectors with weights that each example chooses.

  Attributes:
    dim: width of the result.
  """

  dim: int

  def __post_init__(self):
    super().__post_init__()
    check_range("AttentionFusion.dim", self.dim, 1, integer=True)

  @nn.compact
  def __call__(
    self, modalities: Modalities, present: Present = None
  ) -> Float[Array, "batch dim"]:
    """Fuses the modalities; see `ConcatFusion`."""
    vectors, masks = _ordered("AttentionFusion", modalities, present)
    z = _projected(vectors, self.dim)
    hidden = jnp.tanh(nn.Dense(self.dim, name="hidden")(z))
    logits = nn.Dense(1, use_bias=False, name="query")(hidden)[..., 0]
    return jnp.einsum("bm,bmd->bd", masked_softmax(logits, masks), z)


class GatedFusion(nn.Module):
  """Gated multimodal units: each modality has a gate that sees all others.

  Attributes:
    dim: width of the result.
  """

  dim: int

  def __post_init__(self):
    super().__post_init__()
    check_range("GatedFusion.dim", self.dim, 1, integer=True)

  @nn.compact
  def __call__(
    self, modalities: Modalities, present: Present = None
  ) -> Float[Array, "batch dim"]:
    """Fuses the modalities; see `ConcatFusion`."""
    vectors, masks = _ordered("GatedFusion", modalities, present)
    values = jnp.tanh(_projected(vectors, self.dim))
    seen = jnp.concatenate(list(vectors.values()), axis=1)
    gates = nn.Dense(masks.shape[1] * self.dim, name="gates")(seen)
    gates = jax.nn.sigmoid(gates.reshape(values.shape))
    return jnp.sum(jnp.where(masks[..., None], gates * values, 0.0), axis=1)
