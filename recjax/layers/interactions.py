"""Products of the vectors of fields.

Factorization machine, Rendle: Factorization Machines, ICDM 2010,
https://doi.org/10.1109/ICDM.2010.127

  sum_{i<j} <e_i, e_j> = (|sum_i e_i|^2 - sum_i |e_i|^2) / 2

Dot interaction, Naumov et al.: DLRM, 2019, https://arxiv.org/abs/1906.00091

  (<e_i, e_j>)_{i>j}, row by row of the lower triangle

Compressed interaction network, Lian et al.: xDeepFM, KDD 2018,
https://arxiv.org/abs/1803.05170

  X^k_h = sum_ij W^{k,h}_ij (X^{k-1}_i * X^0_j),  p^k_h = sum_d X^k_{h,d}

Two-stream bilinear fusion, Mao et al.: FinalMLP, AAAI 2023,
https://arxiv.org/abs/2304.00902

  b + <w_1, x> + <w_2, y> + sum_h x_h^T W_h y_h
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from recjax.errors import ConfigError, check_choice, check_range
from recjax.layers.mlp import ACTIVATIONS, check_layer_sizes


def fm_interaction(
  fields: Float[Array, "batch field dim"],
) -> Float[Array, " batch"]:
  """Sum of the inner products of all pairs of fields, in linear time.

  Args:
    fields: one vector a field.

  Returns:
    sum_{i<j} <e_i, e_j> of each example.

  References:
    Rendle, ICDM 2010, lemma 3.1.
  """
  total = jnp.sum(fields, axis=1)
  return 0.5 * (jnp.sum(total**2, axis=1) - jnp.sum(fields**2, axis=(1, 2)))


def dot_interaction(
  fields: Float[Array, "batch field dim"], *, include_self: bool = False
) -> Float[Array, "batch num_pairs"]:
  """Inner products of all pairs of fields, row by row of the lower triangle.

  Args:
    fields: one vector a field.
    include_self: the squared lengths <e_i, e_i> as well.

  Returns:
    <e_1, e_0>, <e_2, e_0>, <e_2, e_1>, ...
  """
  return _lower_triangle(include_self, fields)


def _pairs(num_fields: int, include_self: bool) -> tuple[np.ndarray, ...]:
  return np.tril_indices(num_fields, 0 if include_self else -1)


# Left alone, the gradient of the selection is a scatter and of the product two
# matrix products: together twice the time of this on CPU.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _lower_triangle(
  include_self: bool, fields: Float[Array, "batch field dim"]
) -> Float[Array, "batch num_pairs"]:
  rows, columns = _pairs(fields.shape[1], include_self)
  return jnp.einsum("bid,bjd->bij", fields, fields)[:, rows, columns]


def _lower_triangle_forward(include_self, fields):
  return _lower_triangle(include_self, fields), fields


def _lower_triangle_backward(include_self, fields, gradient):
  """d/de_i = sum_j (G + G^T)_ij e_j, where G is the gradient's triangle."""
  num_fields = fields.shape[1]
  rows, columns = _pairs(num_fields, include_self)
  # Where each entry of G + G^T stands; a 0 is put behind the pairs.
  place = np.full((num_fields, num_fields), len(rows))
  place[rows, columns] = place[columns, rows] = np.arange(len(rows))
  padded = jnp.pad(gradient, ((0, 0), (0, 1)))
  twice = np.where(np.eye(num_fields, dtype=bool), 2, 1).astype(gradient.dtype)
  both = padded[:, place] * twice[None]
  return (jnp.einsum("bij,bjd->bid", both, fields),)


_lower_triangle.defvjp(_lower_triangle_forward, _lower_triangle_backward)


class CIN(nn.Module):
  """The compressed interaction network of xDeepFM.

  Attributes:
    layers: feature maps of each layer.
    activation: of the feature maps, one of recjax.layers.mlp.ACTIVATIONS.
    use_bias: a bias for each feature map, which the paper has not.
  """

  layers: tuple[int, ...]
  activation: str = "identity"
  use_bias: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_layer_sizes("CIN.layers", self.layers)
    check_choice("CIN.activation", self.activation, ACTIVATIONS)

  @nn.compact
  def __call__(
    self, fields: Float[Array, "batch field dim"]
  ) -> Float[Array, "batch num_maps"]:
    """Applies the layers.

    Args:
      fields: X^0, one vector a field.

    Returns:
      The feature maps of all layers, summed over the embedding's width.
    """
    batch, _, dim = fields.shape
    first = jnp.swapaxes(fields, 1, 2)  # [batch, dim, field]
    maps, pooled = first, []
    for number, size in enumerate(self.layers):
      products = maps[:, :, :, None] * first[:, :, None, :]
      maps = nn.Dense(
        size,
        use_bias=self.use_bias,
        kernel_init=nn.initializers.glorot_normal(),
        name=f"layer_{number}",
      )(products.reshape(batch, dim, -1))
      maps = ACTIVATIONS[self.activation](maps)
      pooled.append(jnp.sum(maps, axis=1))
    return jnp.concatenate(pooled, axis=1)


class BilinearFusion(nn.Module):
  """Fuses two streams into one logit, head by head.

  The last axis of each stream is cut into `num_heads` equal parts; part h of
  the one meets only part h of the other.

  Attributes:
    num_heads: parts; must divide both widths.
  """

  num_heads: int = 1

  def __post_init__(self):
    super().__post_init__()
    check_range("BilinearFusion.num_heads", self.num_heads, 1, integer=True)

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch left_dim"], y: Float[Array, "batch right_dim"]
  ) -> Float[Array, " batch"]:
    """Gives b + <w_1, x> + <w_2, y> + sum_h x_h^T W_h y_h.

    Args:
      x: the one stream.
      y: the other.

    Returns:
      One logit an example.

    Raises:
      ConfigError: `num_heads` does not divide the widths.
    """
    heads, glorot = self.num_heads, nn.initializers.glorot_normal()
    if x.shape[1] % heads or y.shape[1] % heads:
      raise ConfigError(
        f"BilinearFusion.num_heads must divide the widths {x.shape[1]} and"
        f" {y.shape[1]} of both streams; got {heads}."
      )
    parts = lambda z: z.reshape(z.shape[0], heads, -1)
    left, right = parts(x), parts(y)
    kernel = self.param(
      "bilinear",
      # One output with so many inputs, as in the authors' code.
      lambda key, shape: glorot(key, (int(np.prod(shape)), 1)).reshape(shape),
      (heads, left.shape[2], right.shape[2]),
    )
    mixed = jnp.einsum("bhi,hij->bhj", left, kernel)
    logit = jnp.sum(mixed * right, axis=(1, 2))
    logit += nn.Dense(1, kernel_init=glorot, name="left")(x)[:, 0]
    return (
      logit
      + nn.Dense(1, use_bias=False, kernel_init=glorot, name="right")(y)[:, 0]
    )
