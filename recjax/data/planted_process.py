"""A generator whose optimal recommender is known: planted truth.

The process. Items are dealt out to C clusters. A user is of one of M hidden
types z, all equally likely. The first cluster is any; the next one hangs on
the clusters a and b of the last two items and on the type,

  P_z(c | a, b) = noise / C + (1 - noise) ((1 - lag_share) A_z[a, c]
    + lag_share B[b, c]),    A_z = (1 - type_share) A_0 + type_share D_z,

the rows of A_0, B and D_z drawn from a Dirichlet distribution of total weight
`concentration` (small values make few successors likely); while there is no a
or b yet, its row is uniform. Inside a cluster an item is drawn by a Zipf
law w, and nobody takes an item twice, so that leaving out the items seen is
part of the process. For an item i that is not in the history h,

  p(i | h, z) = P_z(c(i) | a, b) w(i) / sum over j not in h of
    P_z(c(j) | a, b) w(j),

and 0 for an item in h.

The optimum. Forward filtering gives the exact posterior of the type,

  p(z | h) proportional to prod_t p(h_t | h_1..h_(t-1), z),

and p(i | h) = sum_z p(z | h) p(i | h, z) is the best that can be known of the
next item. With one target, ranking by p(i | h) maximizes the expected NDCG@k
and hit rate@k at every k at once. History lengths and times are drawn apart
from the items, so the last event of a user is a draw from p(. | h).
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from recjax.data.ragged import Ragged
from recjax.errors import DataError, check_range

# Users worked on at once; part of the meaning of a seed, so it is no setting.
_SAMPLE_BLOCK = 4096
# The scores of one block of users are about this many floats at most.
_PREDICT_FLOATS = 1 << 23
_USER_STREAM, _PARAMETER_STREAM = 1, 2


@dataclasses.dataclass(frozen=True)
class PlantedProcess:
  """A mixture of second-order Markov chains over clusters of items.

  Attributes:
    num_items: size of the catalogue; ids run from 1.
    num_clusters: C, latent topics; clusters differ by at most one in size.
    num_user_types: M, hidden kinds of users, each with an A_z of its own.
    zipf_exponent: w(i) is proportional to rank ** -zipf_exponent, the rank
      being that of the item inside its cluster; 0 makes items equal.
    concentration: total weight of the Dirichlet rows of A and B.
    type_share: how much of A_z belongs to the type alone, in [0, 1].
    lag_share: how much the last item but one decides, in [0, 1].
    noise: probability of a jump to a cluster at random, in (0, 1].
    seed: draws the clusters and the chains.
  """

  num_items: int = 300
  num_clusters: int = 30
  num_user_types: int = 4
  zipf_exponent: float = 1.2
  concentration: float = 0.3
  type_share: float = 0.1
  lag_share: float = 0.25
  noise: float = 0.05
  seed: int = 0

  def __post_init__(self):
    where = "PlantedProcess."
    check_range(where + "num_items", self.num_items, 1, integer=True)
    check_range(
      where + "num_clusters", self.num_clusters, 1, self.num_items, integer=True
    )
    check_range(where + "num_user_types", self.num_user_types, 1, integer=True)
    check_range(where + "zipf_exponent", self.zipf_exponent, 0)
    check_range(where + "concentration", self.concentration, 1e-3)
    check_range(where + "type_share", self.type_share, 0, 1)
    check_range(where + "lag_share", self.lag_share, 0, 1)
    check_range(where + "noise", self.noise, 1e-6, 1)
    check_range(where + "seed", self.seed, 0, integer=True)

  # -- What was drawn once -------------------------------------------------

  @functools.cached_property
  def cluster_of_item(self) -> Int[np.ndarray, " vocab"]:
    """The cluster of every item, from 1; padding stands in cluster 0."""
    table = self._items_in_cluster
    clusters = np.zeros(self.num_items + 1, np.int32)
    clusters[table] = np.arange(1, self.num_clusters + 1)[:, None]
    clusters[0] = 0
    return _sealed(clusters)

  @functools.cached_property
  def item_weight(self) -> Float[np.ndarray, " vocab"]:
    """w(i), which sums to 1 inside each cluster; 0 for padding."""
    table = self._items_in_cluster
    ranks = np.arange(1, table.shape[1] + 1, dtype=np.float64)
    weights = np.where(table > 0, ranks**-self.zipf_exponent, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    flat = np.zeros(self.num_items + 1)
    flat[table[table > 0]] = weights[table > 0]
    return _sealed(flat)

  @functools.cached_property
  def successors(self) -> Float[np.ndarray, "type state cluster"]:
    """A: row a tells what follows cluster a; row 0 stands for no item yet."""
    shared, own = self._chains(1, 1), self._chains(2, self.num_user_types)
    return _sealed((1 - self.type_share) * shared + self.type_share * own)

  @functools.cached_property
  def lagged_successors(self) -> Float[np.ndarray, "state cluster"]:
    """B: row b tells what follows cluster b at one item's distance."""
    return _sealed(self._chains(3, 1)[0])

  def _chains(self, stream: int, num: int) -> np.ndarray:
    """Dirichlet rows [num, state, cluster]; state 0 leads anywhere."""
    random = np.random.default_rng([self.seed, _PARAMETER_STREAM, stream])
    alpha = np.full(self.num_clusters, self.concentration / self.num_clusters)
    chains = random.dirichlet(alpha, size=(num, self.num_clusters + 1))
    chains[:, 0] = 1 / self.num_clusters
    return chains

  @functools.cached_property
  def _items_in_cluster(self) -> np.ndarray:
    """[cluster, rank] -> item, 0 where a cluster has no item of that rank."""
    random = np.random.default_rng([self.seed, _PARAMETER_STREAM, 0])
    width = -(-self.num_items // self.num_clusters)
    flat = np.zeros(width * self.num_clusters, np.int32)
    flat[: self.num_items] = random.permutation(self.num_items) + 1
    return np.ascontiguousarray(flat.reshape(width, self.num_clusters).T)

  @functools.cached_property
  def _rank_of_item(self) -> np.ndarray:
    """The place of every item in its cluster, from 0; the likeliest first."""
    table = self._items_in_cluster
    ranks = np.zeros(self.num_items + 1, np.int64)
    ranks[table] = np.arange(table.shape[1])
    return ranks

  def _untouched(self, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [user, cluster, rank] of the items not taken, and their sums."""
    weights = self.item_weight[self._items_in_cluster]
    free = np.broadcast_to(weights, (num, *weights.shape)).copy()
    return free, free.sum(axis=2)

  def next_cluster(
    self,
    types: Int[np.ndarray, " user"],
    states: Int[np.ndarray, "user two"],
  ) -> Float[np.ndarray, "user cluster"]:
    """P_z(c | a, b), the items taken not yet considered.

    Args:
      types: z, from 0.
      states: the clusters (a, b) of the last item and of the one before it; 0
        where there is none.
    """
    return self._mixed(self.successors[types, states[:, 0]], states)

  def _next_cluster_of_types(self, states: np.ndarray) -> np.ndarray:
    """P_z(c | a, b) of all types: [type, user, cluster]."""
    return self._mixed(self.successors[:, states[:, 0]], states)

  def _mixed(self, successors: np.ndarray, states: np.ndarray) -> np.ndarray:
    lagged = self.lagged_successors[states[:, 1]]
    mixed = (1 - self.lag_share) * successors + self.lag_share * lagged
    return self.noise / self.num_clusters + (1 - self.noise) * mixed

  # -- Drawing -------------------------------------------------------------

  def sample(
    self,
    num_users: int,
    mean_len: float = 25.0,
    min_len: int = 5,
    seed: int = 0,
  ) -> Ragged:
    """Draws the histories of users 1 to num_users, in rows 0 to num_users - 1.

    Lengths are min_len + a negative binomial number (shape 4), at most
    num_items, and independent of the items.

    Args:
      num_users: how many histories.
      mean_len: their mean length in events, before the cut at num_items.
      min_len: their least length.
      seed: draws lengths and items; the process itself stays the same.

    Raises:
      ConfigError: a number out of range.
    """
    check_range("num_users", num_users, 1, integer=True)
    check_range("min_len", min_len, 1, self.num_items, integer=True)
    check_range("mean_len", mean_len, min_len, self.num_items)
    check_range("seed", seed, 0, integer=True)
    blocks = []
    for block, start in enumerate(range(0, num_users, _SAMPLE_BLOCK)):
      random = np.random.default_rng([self.seed, _USER_STREAM, seed, block])
      num = min(_SAMPLE_BLOCK, num_users - start)
      spread = random.gamma(4.0, (mean_len - min_len) / 4.0, num)
      lengths = np.minimum(min_len + random.poisson(spread), self.num_items)
      types = random.integers(self.num_user_types, size=num)
      blocks.append((self._sample_block(random, lengths, types), lengths))
    offsets = np.concatenate([[0], *(lengths for _, lengths in blocks)])
    values = np.concatenate([values for values, _ in blocks])
    return Ragged(values, np.cumsum(offsets).astype(np.int64))

  def _sample_block(
    self, random: np.random.Generator, lengths: np.ndarray, types: np.ndarray
  ) -> np.ndarray:
    """The items of one block of users, one user after another."""
    num = len(lengths)
    free, mass = self._untouched(num)
    states = np.zeros((num, 2), np.int64)
    out = np.zeros((num, int(lengths.max())), np.int32)
    for step in range(out.shape[1]):
      live = np.flatnonzero(lengths > step)
      chance = self.next_cluster(types[live], states[live]) * mass[live]
      cluster = _draw(chance, random.random(num)[live])
      rank = _draw(free[live, cluster], random.random(num)[live])
      out[live, step] = self._items_in_cluster[cluster, rank]
      free[live, cluster, rank] = 0.0
      mass[live, cluster] = free[live, cluster].sum(axis=1)
      states[live, 1] = states[live, 0]
      states[live, 0] = cluster + 1
    return out[np.arange(out.shape[1]) < lengths[:, None]]

  # -- Predicting ----------------------------------------------------------

  def predictive(self, histories: Ragged) -> Float[np.ndarray, "user vocab"]:
    """p(next item | history), exactly; column 0 (padding) is 0.

    Args:
      histories: whole histories, oldest item first; rows may be empty.

    Raises:
      DataError: an id is outside 1..num_items, an item stands twice in a
        history, or a history holds every item already.
    """
    out = np.empty((len(histories), self.num_items + 1))
    for rows, block in self.predictive_blocks(histories):
      out[rows] = block
    return out

  def predictive_blocks(
    self, histories: Ragged
  ) -> Iterator[
    tuple[Int[np.ndarray, " batch"], Float[np.ndarray, "batch vocab"]]
  ]:
    """Yields (rows, `predictive` of these rows), a block at a time."""
    self._check(histories)
    for rows in self._blocks(len(histories)):
      yield rows, self._predict_block(histories.take(rows))

  def type_posterior(self, histories: Ragged) -> Float[np.ndarray, "user type"]:
    """p(type | history) by forward filtering."""
    self._check(histories)
    out = np.empty((len(histories), self.num_user_types))
    for rows in self._blocks(len(histories)):
      out[rows] = _softmax(self._filter(histories.take(rows))[0])
    return out

  def _blocks(self, num: int) -> Iterator[np.ndarray]:
    size = max(1, _PREDICT_FLOATS // (self.num_items + 1))
    for start in range(0, num, size):
      yield np.arange(start, min(start + size, num))

  def _check(self, histories: Ragged) -> None:
    values = histories.values
    if len(values) and not 1 <= values.min() <= values.max() <= self.num_items:
      raise DataError(
        f"histories must hold ids in 1..{self.num_items}; found"
        f" {values.min()}..{values.max()}. Were they drawn from this process?"
      )
    key = np.sort(histories.row_ids * (self.num_items + 1) + values)
    if np.any(np.diff(key) == 0):
      raise DataError(
        "nobody takes an item twice in the planted process, yet a history"
        " holds one twice. Were the histories drawn from it?"
      )
    if len(histories) and histories.lengths.max() >= self.num_items:
      raise DataError("a history holds every item: there is no next one.")

  def _filter(
    self, histories: Ragged
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-posterior of types, mass left in the clusters, last clusters."""
    num = len(histories)
    items = histories.padded(int(histories.lengths.max(initial=0)))
    log_posterior = np.zeros((num, self.num_user_types))
    free, mass = self._untouched(num)
    states = np.zeros((num, 2), np.int64)
    for step in range(items.shape[1]):
      live = np.flatnonzero(histories.lengths > step)
      item = items[live, step]
      cluster = self.cluster_of_item[item] - 1
      chains = self._next_cluster_of_types(states[live])
      norm = np.einsum("zuc,uc->uz", chains, mass[live])
      taken = chains[:, np.arange(len(live)), cluster].T
      log_posterior[live] += np.log(taken) - np.log(norm)
      free[live, cluster, self._rank_of_item[item]] = 0.0
      mass[live, cluster] = free[live, cluster].sum(axis=1)
      states[live, 1] = states[live, 0]
      states[live, 0] = cluster + 1
    return log_posterior, mass, states

  def _predict_block(self, histories: Ragged) -> np.ndarray:
    log_posterior, mass, states = self._filter(histories)
    chains = self._next_cluster_of_types(states)
    norm = np.einsum("zuc,uc->uz", chains, mass)
    share = _softmax(log_posterior) / norm
    clusters = np.einsum("uz,zuc->uc", share, chains)
    out = np.zeros((len(histories), self.num_items + 1))
    out[:, 1:] = clusters[:, self.cluster_of_item[1:] - 1]
    out *= self.item_weight
    out[histories.row_ids, histories.values] = 0.0
    return out


def _draw(chance: np.ndarray, uniform: np.ndarray) -> np.ndarray:
  """One index a row, with probability proportional to `chance`."""
  total = np.cumsum(chance, axis=1)
  # Strictly below the total, whatever the rounding; `<=` then never picks an
  # entry of chance 0.
  below = np.minimum(uniform * total[:, -1], np.nextafter(total[:, -1], 0.0))
  return (total <= below[:, None]).sum(axis=1)


def _softmax(logits: np.ndarray) -> np.ndarray:
  shares = np.exp(logits - logits.max(axis=1, keepdims=True))
  return shares / shares.sum(axis=1, keepdims=True)


def _sealed(array: np.ndarray) -> np.ndarray:
  array.flags.writeable = False
  return array
