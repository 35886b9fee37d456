"""Lists of items with clicks that depend on the position, as planted.

  z = b + a(user) + a(item),        p(relevant = 1) = sigmoid(z)
  p(examined = 1 | position k) = k^-eta
  click = examined * relevant

The model of examination is that of Richardson, Dominowska and Ragno:
Predicting Clicks: Estimating the Click-Through Rate for New Ads. WWW 2007,
https://doi.org/10.1145/1242572.1242643; methods that take the position out of
clicks, such as PAL (Guo et al., RecSys 2019,
https://doi.org/10.1145/3298689.3347033), can be judged by true relevance.

A logging ranker sorts each list by falling score

  s(item) = r g(item) + sqrt(1 - r^2) e(item) + h n,    a(item) = stddev g(item)

with normal g and e, drawn once for an item, and n, drawn anew for every row.
So the ranker has favourites of its own: with r < 1 they stand high, are
examined more and are clicked more than their relevance accounts for. That is
what a model without positions learns. With h > 0 an item is seen at many
positions, which tells both apart.

In a share of lists the ranker's order is intervened in: a rank k > 1 is drawn
evenly, and the items of rank 1 and k change their places or, with the chance
1/2, do not. Over such lists both positions hold like items, so that their
clicks tell the propensities (Joachims, Swaminathan and Schnabel: Unbiased
Learning-to-Rank with Biased Feedback, WSDM 2017,
https://doi.org/10.1145/3018661.3018699).
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64
from scipy import optimize, special

from recjax.data.examples import PARTS, Examples, ExampleSplit
from recjax.errors import ConfigError, check_range

_WEIGHTS, _ROWS, _RATES, _SWAPS = 1, 2, 3, 4
_RATE_ROWS = 1 << 17


@dataclasses.dataclass(frozen=True)
class PlantedPositions:
  """Impressions with `user`, `item`, `position` and the label `click`.

  Rows of a list follow each other, from position 1 on; an item may stand twice
  in a list. These columns are for judging and no features: `list`, the number
  of the list; `true_relevance`, sigmoid(z); `true_propensity`, k^-eta;
  `relevant` and `examined`, which were drawn by them. With `swap_share` there
  are two more: `swap`, the rank k of the list's intervention or 0, and
  `swapped`, which is 1 where rank 1 and k have changed places.

  Attributes:
    num_train: lists for training.
    num_validation: lists for validation.
    num_test: lists for test.
    list_len: items of a list.
    num_users: how many users.
    num_items: how many items.
    relevance_rate: expected share of relevant rows.
    eta: how steeply examination falls; 0 is no bias.
    correlation: r, of the ranker's score and relevance, in [-1, 1].
    exploration: h, the noise of the ranker.
    swap_share: of lists with an intervention, half of which are swapped.
    stddev: of the weights of users and items.
    seed: draws weights and rows.
    name: how reports call it.
  """

  num_train: int = 10_000
  num_validation: int = 2_000
  num_test: int = 2_000
  list_len: int = 10
  num_users: int = 500
  num_items: int = 500
  relevance_rate: float = 0.3
  eta: float | int = 1.0
  correlation: float | int = 0.3
  exploration: float | int = 0.5
  swap_share: float | int = 0.0
  stddev: float | int = 1.0
  seed: int = 0
  name: str = "planted_positions"

  def __post_init__(self):
    where = "PlantedPositions."
    for field in ("num_train", "list_len", "num_users", "num_items"):
      number = getattr(self, field)
      check_range(where + field, number, 1, 2**31 - 1, integer=True)
    check_range(where + "num_validation", self.num_validation, 0, integer=True)
    check_range(where + "num_test", self.num_test, 0, integer=True)
    check_range(where + "relevance_rate", self.relevance_rate, 1e-6, 1 - 1e-6)
    check_range(where + "eta", self.eta, 0)
    check_range(where + "correlation", self.correlation, -1, 1)
    check_range(where + "exploration", self.exploration, 0)
    check_range(where + "swap_share", self.swap_share, 0, 1)
    if self.swap_share and self.list_len < 2:
      raise ConfigError(
        "PlantedPositions.swap_share needs lists of 2 items at least; got"
        f" list_len={self.list_len}."
      )
    check_range(where + "stddev", self.stddev, 0)
    check_range(where + "seed", self.seed, 0, integer=True)

  @property
  def label_columns(self) -> tuple[str, ...]:
    """`click` alone."""
    return ("click",)

  @property
  def mask_columns(self) -> tuple[str, ...]:
    """The list, and what only planted data tell."""
    swaps = ("swap", "swapped") if self.swap_share else ()
    return (
      "list",
      "true_relevance",
      "true_propensity",
      "relevant",
      "examined",
      *swaps,
    )

  @functools.cached_property
  def _weights(self) -> dict[str, np.ndarray]:
    random = np.random.default_rng([self.seed, _WEIGHTS])
    users = random.normal(size=self.num_users)
    good, liked = random.normal(size=(2, self.num_items))
    r = self.correlation
    score = r * good + np.sqrt(1 - r**2) * liked
    return {
      "user": self.stddev * users,
      "item": self.stddev * good,
      "score": score,
    }

  @functools.cached_property
  def bias(self) -> float:
    """The b of z, from rows of the same process."""
    random = np.random.default_rng([self.seed, _RATES])
    users = random.integers(self.num_users, size=_RATE_ROWS)
    items = random.integers(self.num_items, size=_RATE_ROWS)
    logits = self._weights["user"][users] + self._weights["item"][items]
    excess = lambda bias: float(
      special.expit(logits + bias).mean() - self.relevance_rate
    )
    found: Any = optimize.brentq(excess, -1000.0, 1000.0)
    return float(found)

  @property
  def propensities(self) -> Float64[np.ndarray, " len"]:
    """The chance of being examined at position 1, 2, ..."""
    return np.arange(1, self.list_len + 1) ** -float(self.eta)

  def logits(self, table: pa.Table) -> Float64[np.ndarray, " row"]:
    """The true z of rows."""
    users, items = (table.column(name).to_numpy() for name in ("user", "item"))
    weights = self._weights
    return self.bias + weights["user"][users] + weights["item"][items]

  def _table(self, place: int, num_lists: int) -> pa.Table:
    random = np.random.default_rng([self.seed, _ROWS, place])
    shape = (num_lists, self.list_len)
    users = random.integers(self.num_users, size=num_lists)
    items = random.integers(self.num_items, size=shape)
    scores = self._weights["score"][items]
    scores += self.exploration * random.normal(size=shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    items = np.take_along_axis(items, order, axis=1)
    swaps = self._swap(place, items) if self.swap_share else {}
    ids = {
      "user": np.repeat(users, self.list_len),
      "item": items.reshape(-1),
      "position": np.tile(np.arange(1, self.list_len + 1), num_lists),
      "list": np.repeat(np.arange(num_lists), self.list_len),
    }
    ids |= {name: np.repeat(x, self.list_len) for name, x in swaps.items()}
    columns = {name: pa.array(ids[name].astype(np.int32)) for name in ids}
    relevance = special.expit(self.logits(pa.table(columns)))
    propensity = np.tile(self.propensities, num_lists)
    relevant = random.random(len(relevance)) < relevance
    examined = random.random(len(relevance)) < propensity
    floats = {
      "click": relevant & examined,
      "true_relevance": relevance,
      "true_propensity": propensity,
      "relevant": relevant,
      "examined": examined,
    }
    for name, values in floats.items():
      columns[name] = pa.array(values.astype(np.float32))
    return pa.table(columns)

  def _swap(self, place: int, items: np.ndarray) -> dict[str, np.ndarray]:
    """Intervenes in ranked items, and tells in which lists and where."""
    random = np.random.default_rng([self.seed, _SWAPS, place])
    num_lists = len(items)
    is_chosen = random.random(num_lists) < self.swap_share
    rank = random.integers(2, self.list_len + 1, size=num_lists)
    is_swapped = is_chosen & (random.random(num_lists) < 0.5)
    rows, other = np.flatnonzero(is_swapped), rank[is_swapped] - 1
    items[rows, 0], items[rows, other] = items[rows, other], items[rows, 0]
    return {"swap": np.where(is_chosen, rank, 0), "swapped": is_swapped}

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """None: the data is generated."""
    del data_dir
    return ()

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """Draws all rows."""
    del data_dir
    sizes = (self.num_train, self.num_validation, self.num_test)
    return ExampleSplit(
      *(
        Examples.from_table(
          f"{self.name} {part}",
          self._table(place, num_lists),
          label=self.label_columns[0],
        )
        for place, (part, num_lists) in enumerate(zip(PARTS, sizes))
      )
    )
