"""Negatives drawn on the device, inside the training step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from recjax.errors import ConfigError, DataError, check_choice, check_range

TOTAL = 2**30
"""Popularity is held as shares of so many tickets, exact in int32."""


@dataclasses.dataclass(frozen=True)
class NegativeSampling:
  """How negatives are drawn.

  Attributes:
    num: negatives of each positive, or of each row of a batch.
    distribution: "uniform" over the items, or "popularity": in proportion to
      the training count to the power `alpha`.
    alpha: exponent of "popularity".
    exclude: "sequence" redraws a negative that stands in the user's own
      window of the training sequence, twice at most; "none" does not look,
      and is needed by `shared`.
    shared: one set of negatives for all positions of a row of the batch,
      instead of one for each position.
  """

  num: int = 1
  distribution: str = "uniform"
  alpha: float = 1.0
  exclude: str = "sequence"
  shared: bool = False

  def __post_init__(self):
    check_range("NegativeSampling.num", self.num, 1, integer=True)
    check_choice(
      "NegativeSampling.distribution",
      self.distribution,
      ("uniform", "popularity"),
    )
    check_range("NegativeSampling.alpha", self.alpha, 0.0, 1.0)
    check_choice("NegativeSampling.exclude", self.exclude, ("sequence", "none"))
    if self.shared and self.exclude != "none":
      raise ConfigError(
        "NegativeSampling.exclude must be 'none' with shared=True: one set"
        f" serves the users of a whole row; got {self.exclude!r}."
      )

  def cumulative_tickets(
    self, counts: Num[np.ndarray, " vocab"]
  ) -> Int[np.ndarray, " vocab"]:
    """Items' shares of TOTAL, summed up; what the device draws from.

    Args:
      counts: training count of every id; entry 0 is padding.

    Returns:
      int32 [vocab]: entry i is the number of tickets of the ids up to i.

    Raises:
      DataError: no item was ever counted.
    """
    weights = np.power(np.maximum(counts.astype(np.float64), 0.0), self.alpha)
    weights = np.where(counts > 0, weights, 0.0)
    weights[0] = 0.0
    if not weights.any():
      raise DataError(
        "no item occurs in the training rows, so none can be drawn by"
        " popularity; use distribution='uniform'."
      )
    shares = np.cumsum(weights) / weights.sum()
    return np.round(shares * TOTAL).astype(np.int32)

  def draw(
    self,
    key: Key[Array, ""],
    shape: tuple[int, ...],
    *,
    num_items: int,
    tickets: Int[Array, " vocab"] | None,
  ) -> Int[Array, "..."]:
    """Draws ids of any shape.

    Args:
      key: a typed random key.
      shape: shape of the result.
      num_items: ids run from 1 to it.
      tickets: of `cumulative_tickets`; needed by "popularity" alone.

    Returns:
      int32 ids.
    """
    if self.distribution == "uniform":
      return jax.random.randint(key, shape, 1, num_items + 1, jnp.int32)
    assert tickets is not None
    ticket = jax.random.randint(key, shape, 0, TOTAL, jnp.int32)
    return jnp.searchsorted(tickets, ticket, side="right").astype(jnp.int32)

  def log_probability(
    self,
    item_id: Int[Array, "..."],
    *,
    num_items: int,
    tickets: Int[Array, " vocab"] | None,
  ) -> Float[Array, "..."]:
    """Log q(i): the probability with which an id is drawn.

    Exact where nothing is excluded; exclusion by redrawing changes it a
    little, and is switched off where the correction matters.
    """
    if self.distribution == "uniform":
      return jnp.full(item_id.shape, -np.log(num_items), jnp.float32)
    assert tickets is not None
    share = tickets[item_id] - tickets[jnp.maximum(item_id - 1, 0)]
    return jnp.log(jnp.maximum(share, 1) / TOTAL)

  def draw_for_rows(
    self,
    key: Key[Array, ""],
    item_id: Int[Array, "rows len"],
    target_id: Int[Array, "rows len"],
    segment_id: Int[Array, "rows len"],
    *,
    num_items: int,
    tickets: Int[Array, " vocab"] | None,
  ) -> Int[Array, "rows places k"]:
    """Draws negatives for packed rows.

    Args:
      key: a typed random key.
      item_id: inputs.
      target_id: positives.
      segment_id: sequence of each place.
      num_items: ids run from 1 to it.
      tickets: of `cumulative_tickets`.

    Returns:
      [rows, len, num] ids, or [rows, 1, num] if they are shared.
    """
    rows, length = item_id.shape
    places = 1 if self.shared else length
    # The redraws come out of the same call: small calls cost more than bits.
    draws = self.draw(
      key,
      (1 if self.exclude == "none" else 3, rows, places, self.num),
      num_items=num_items,
      tickets=tickets,
    )
    negative = draws[0]
    for redrawn in draws[1:]:
      taken = _in_own_sequence(negative, item_id, target_id, segment_id)
      negative = jnp.where(taken, redrawn, negative)
    return negative


def _in_own_sequence(
  negative: Int[Array, "rows len k"],
  item_id: Int[Array, "rows len"],
  target_id: Int[Array, "rows len"],
  segment_id: Int[Array, "rows len"],
) -> Bool[Array, "rows len k"]:
  """Which negatives stand anywhere in the sequence of their place."""
  # An item and its segment as one number, so that one comparison does; it
  # may wrap around, which could at most redraw a negative without need.
  code = lambda ids, segments: ids * 8191 + segments
  inputs = code(item_id, segment_id)[:, None, None, :]
  targets = code(target_id, segment_id)[:, None, None, :]
  negatives = code(negative, segment_id[:, :, None])[..., None]
  return jnp.any((negatives == inputs) | (negatives == targets), axis=-1)
