"""Tables with fewer rows than ids: hashing, quotient-remainder, multi-hash.

A compression maps an id to one or more rows of its table and says how these
rows become one embedding. Id 0, padding, is never mapped.
"""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from recjax.errors import check_choice, check_range


@runtime_checkable
class Compression(Protocol):
  """Maps ids to rows."""

  @property
  def num_parts(self) -> int:
    """Rows an id reads."""
    ...

  def num_rows(self, num_ids: int) -> int:
    """Rows of a table for ids 0 to num_ids - 1, row 0 included."""
    ...

  def rows(self, ids: Int[Array, "*ids"]) -> Int[Array, "*ids parts"]:
    """The rows of each id; those of id 0 mean nothing."""
    ...

  def compose(
    self, parts: Float[Array, "*ids parts dim"]
  ) -> Float[Array, "*ids dim"]:
    """One embedding out of the rows of an id."""
    ...


@dataclasses.dataclass(frozen=True)
class Hashing:
  """Each id is hashed to one of `num_buckets` rows (the hashing trick).

  Weinberger et al.: Feature Hashing for Large Scale Multitask Learning, ICML
  2009, https://arxiv.org/abs/0902.2206

  With `num_hashes` > 1 an id reads so many rows by independent hashes and is
  their sum; two ids then share all rows very rarely (the idea of hash
  embeddings, Svenstrup et al., NeurIPS 2017, https://arxiv.org/abs/1709.03933,
  without their importance weights).

  Attributes:
    num_buckets: rows besides row 0.
    num_hashes: rows an id reads.
    seed: of the hashes.
  """

  num_buckets: int
  num_hashes: int = 1
  seed: int = 0

  def __post_init__(self):
    check_range("Hashing.num_buckets", self.num_buckets, 1, integer=True)
    check_range("Hashing.num_hashes", self.num_hashes, 1, 16, integer=True)
    check_range("Hashing.seed", self.seed, 0, 2**31 - 1, integer=True)

  @property
  def num_parts(self) -> int:
    """Rows an id reads."""
    return self.num_hashes

  def num_rows(self, num_ids: int) -> int:
    """Rows of the table, whatever the ids."""
    del num_ids
    return self.num_buckets + 1

  def rows(self, ids: Int[Array, "*ids"]) -> Int[Array, "*ids parts"]:
    """The rows of each id, from 1."""
    word = jnp.asarray(ids, jnp.uint32)[..., None]
    # Mixed before they are counted on: seeds next to each other share no hash.
    salt = _mixed(np.full(1, self.seed, np.uint32) + np.uint32(0x9E3779B9))
    salt = _mixed(salt + np.arange(self.num_hashes, dtype=np.uint32))
    word = _mixed(word ^ salt.reshape((1,) * (word.ndim - 1) + (-1,)))
    return (word % np.uint32(self.num_buckets) + 1).astype(jnp.int32)

  def compose(
    self, parts: Float[Array, "*ids parts dim"]
  ) -> Float[Array, "*ids dim"]:
    """The sum of the rows."""
    return jnp.sum(parts, axis=-2)

  def collision_rate(self, num_ids: int) -> float:
    """The share of ids 1 to num_ids - 1 all of whose rows another id has.

    Counted, not estimated: all ids are hashed, which takes memory for them.
    """
    ids = np.arange(1, num_ids, dtype=np.int32)
    if len(ids) == 0:
      return 0.0
    rows = np.sort(np.asarray(self.rows(jnp.asarray(ids))), axis=1)
    _, inverse, counts = np.unique(
      rows, axis=0, return_inverse=True, return_counts=True
    )
    return float(np.mean(counts[inverse.reshape(-1)] > 1))


@dataclasses.dataclass(frozen=True)
class QuotientRemainder:
  """An id reads the rows of its quotient and of its remainder.

  E[i] = R[i mod m] * Q[i div m], by element, or their sum. No two ids share
  both rows, so each has an embedding of its own out of m + n / m rows.

  Shi et al.: Compositional Embeddings Using Complementary Partitions, KDD
  2020, https://arxiv.org/abs/1909.02107

  Attributes:
    num_remainders: m; 0 takes the root of the number of ids, which needs the
      fewest rows.
    operation: "multiply" or "add".
    num_ids: ids run from 0 to num_ids - 1; needed for m = 0 alone.
  """

  num_remainders: int = 0
  operation: str = "multiply"
  num_ids: int = 0

  def __post_init__(self):
    check_range(
      "QuotientRemainder.num_remainders", self.num_remainders, 0, integer=True
    )
    check_choice(
      "QuotientRemainder.operation", self.operation, ("multiply", "add")
    )
    if not self.num_remainders:
      check_range("QuotientRemainder.num_ids", self.num_ids, 1, integer=True)

  @property
  def num_parts(self) -> int:
    """Rows an id reads."""
    return 2

  @property
  def _modulus(self) -> int:
    return self.num_remainders or math.ceil(math.sqrt(self.num_ids))

  def num_rows(self, num_ids: int) -> int:
    """Rows of remainders and quotients together, and row 0."""
    return 1 + self._modulus + -(-num_ids // self._modulus)

  def rows(self, ids: Int[Array, "*ids"]) -> Int[Array, "*ids parts"]:
    """The row of the remainder, and that of the quotient."""
    remainder = 1 + ids % self._modulus
    quotient = 1 + self._modulus + ids // self._modulus
    return jnp.stack([remainder, quotient], axis=-1)

  def compose(
    self, parts: Float[Array, "*ids parts dim"]
  ) -> Float[Array, "*ids dim"]:
    """Product or sum of both rows."""
    if self.operation == "add":
      return jnp.sum(parts, axis=-2)
    return parts[..., 0, :] * parts[..., 1, :]

  def collision_rate(self, num_ids: int) -> float:
    """None: no two ids share both rows."""
    del num_ids
    return 0.0


def _mixed(word):
  """The finalizer "lowbias32" of the Hash Prospector (public domain)."""
  word = (word ^ (word >> 16)) * np.uint32(0x7FEB352D)
  word = (word ^ (word >> 15)) * np.uint32(0x846CA68B)
  return word ^ (word >> 16)
