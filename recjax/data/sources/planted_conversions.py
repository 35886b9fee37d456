"""Clicks and conversions with selection bias, where all chances are known.

  z_t = b_t + a_t(user) + a_t(item) + a_t(context) + p_t(user) q(item)
  p(click = 1) = sigmoid(z_click),   p(potential = 1) = sigmoid(z_conversion)
  conversion = click * potential

`potential` is whether the row would convert if it were clicked. It is drawn
for every row, and independently of the click given z. What is clicked is not a
fair sample for conversions all the same: each weight of the two tasks has the
correlation r,

  a_conversion = r a_click + sqrt(1 - r^2) a',   p_conversion likewise,

so with r > 0 rows that are clicked convert more often than others would. The
weights are normal, so r is the correlation of the whole logits as well, over
the draw of weights. Users and contexts are uniform; the k-th item has the
probability ln((k+1)/k) / ln(items + 1), which is close to Zipf's law.
"""

import dataclasses
import functools
import pathlib

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from scipy import optimize, special

from recjax.data.examples import PARTS, Examples, ExampleSplit
from recjax.errors import check_range

FIELDS = ("user", "item", "context")
_WEIGHTS, _ROWS, _RATES = 1, 2, 3
_RATE_ROWS = 1 << 17


@dataclasses.dataclass(frozen=True)
class PlantedConversions:
  """Rows with `user`, `item`, `context` and the labels of two tasks.

  Labels are `click` and `conversion`, which is 0 where nothing is clicked.
  These columns are for judging and no features: `true_ctr` and `true_cvr`, the
  probabilities of a click and of a conversion if clicked, and
  `potential_conversion`, which is drawn by the latter for all rows.

  Attributes:
    num_train: rows for training.
    num_validation: rows for validation.
    num_test: rows for test.
    num_users: how many users.
    num_items: how many items.
    num_contexts: how many contexts.
    click_rate: expected share of clicks.
    conversion_rate: expected share of potential conversions, over all rows.
    correlation: r, of click and conversion weights, in [-1, 1].
    stddev: of the weights of users, items and contexts.
    interaction_stddev: of p(user) q(item).
    rank: the length of p and q.
    seed: draws weights and rows.
    name: how reports call it.
  """

  num_train: int = 100_000
  num_validation: int = 20_000
  num_test: int = 20_000
  num_users: int = 1000
  num_items: int = 1000
  num_contexts: int = 10
  click_rate: float = 0.1
  conversion_rate: float = 0.1
  correlation: float | int = 0.5
  stddev: float | int = 0.7
  interaction_stddev: float | int = 0.7
  rank: int = 4
  seed: int = 0
  name: str = "planted_conversions"

  def __post_init__(self):
    where = "PlantedConversions."
    for field in ("train", "users", "items", "contexts"):
      number = getattr(self, f"num_{field}")
      check_range(f"{where}num_{field}", number, 1, 2**31 - 1, integer=True)
    check_range(where + "num_validation", self.num_validation, 0, integer=True)
    check_range(where + "num_test", self.num_test, 0, integer=True)
    check_range(where + "click_rate", self.click_rate, 1e-6, 1 - 1e-6)
    check_range(where + "conversion_rate", self.conversion_rate, 1e-6, 1 - 1e-6)
    check_range(where + "correlation", self.correlation, -1, 1)
    check_range(where + "stddev", self.stddev, 0)
    check_range(where + "interaction_stddev", self.interaction_stddev, 0)
    check_range(where + "rank", self.rank, 1, integer=True)
    check_range(where + "seed", self.seed, 0, integer=True)

  @property
  def label_columns(self) -> tuple[str, ...]:
    """`click` and `conversion`."""
    return ("click", "conversion")

  @property
  def mask_columns(self) -> tuple[str, ...]:
    """What only planted data tell."""
    return ("true_ctr", "true_cvr", "potential_conversion")

  # -- The model --------------------------------------------------------------

  @functools.cached_property
  def _weights(self) -> dict[str, np.ndarray]:
    """Of each field [2, num], p [2, user, rank] and q [item, rank]."""
    random = np.random.default_rng([self.seed, _WEIGHTS])
    sizes = (self.num_users, self.num_items, self.num_contexts)
    weights = {
      field: self.stddev * self._correlated(random.normal(size=(2, size)))
      for field, size in zip(FIELDS, sizes)
    }
    tastes = random.normal(size=(2, self.num_users, self.rank))
    shrink = self.interaction_stddev / np.sqrt(self.rank)
    weights["p"] = shrink * self._correlated(tastes)
    weights["q"] = random.normal(size=(self.num_items, self.rank))
    return weights

  def _correlated(self, draws: np.ndarray) -> np.ndarray:
    r = self.correlation
    return np.stack([draws[0], r * draws[0] + np.sqrt(1 - r**2) * draws[1]])

  def _unbiased(self, ids: dict[str, np.ndarray]) -> np.ndarray:
    """Both z without b."""
    weights = self._weights
    total = sum(weights[field][:, ids[field]] for field in FIELDS)
    tastes, traits = weights["p"][:, ids["user"]], weights["q"][ids["item"]]
    return (total + np.einsum("trk,rk->tr", tastes, traits)).T

  @functools.cached_property
  def biases(self) -> Float64[np.ndarray, "task"]:
    """The b of both tasks, from rows of the same process."""
    random = np.random.default_rng([self.seed, _RATES])
    logits = self._unbiased(self._ids(random, _RATE_ROWS))
    rates = (self.click_rate, self.conversion_rate)
    found = []
    for values, rate in zip(logits.T, rates):
      excess = lambda bias, values=values, rate=rate: float(
        special.expit(values + bias).mean() - rate
      )
      found.append(optimize.brentq(excess, -1000.0, 1000.0))
    return np.array(found)

  def logits(self, table: pa.Table) -> Float64[np.ndarray, "row task"]:
    """The true z of rows."""
    ids = {field: table.column(field).to_numpy() for field in FIELDS}
    return self._unbiased(ids) + self.biases[None, :]

  # -- Rows -------------------------------------------------------------------

  def _ids(
    self, random: np.random.Generator, num_rows: int
  ) -> dict[str, Int64[np.ndarray, " row"]]:
    powers = np.exp(random.random(num_rows) * np.log(self.num_items + 1))
    return {
      "user": random.integers(self.num_users, size=num_rows),
      "item": np.minimum(powers.astype(np.int64), self.num_items) - 1,
      "context": random.integers(self.num_contexts, size=num_rows),
    }

  def _table(self, place: int, num_rows: int) -> pa.Table:
    random = np.random.default_rng([self.seed, _ROWS, place])
    ids = self._ids(random, num_rows)
    chances = special.expit(self._unbiased(ids) + self.biases[None, :])
    drawn = random.random((num_rows, 2)) < chances
    floats = {
      "click": drawn[:, 0],
      "conversion": drawn[:, 0] & drawn[:, 1],
      "true_ctr": chances[:, 0],
      "true_cvr": chances[:, 1],
      "potential_conversion": drawn[:, 1],
    }
    columns = {name: values.astype(np.int32) for name, values in ids.items()}
    for name, values in floats.items():
      columns[name] = values.astype(np.float32)
    return pa.table(columns)

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
          self._table(place, num_rows),
          label=self.label_columns[0],
        )
        for place, (part, num_rows) in enumerate(zip(PARTS, sizes))
      )
    )
