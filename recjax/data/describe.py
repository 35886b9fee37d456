"""What a data set is like: the numbers behind `recjax data NAME`."""

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Num
from rich import box
from rich import table as rich_table

from recjax.data.interactions import Interactions
from recjax.data.k_core import k_core
from recjax.errors import DataError

K_CORES = (2, 3, 5, 10)
_QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75}
_QUANTILES |= {"95%": 0.95, "max": 1.0}
_MAX_RATING_VALUES = 20


@dataclasses.dataclass(frozen=True)
class CoreSize:
  """What is left where everybody has at least `k` rows."""

  k: int
  num_users: int
  num_items: int
  num_rows: int


@dataclasses.dataclass(frozen=True)
class DataSummary:
  """Counts and distributions of a data set.

  Attributes:
    name: of the data set.
    fingerprint: of its content.
    columns: of the interactions.
    num_users: user ids; some may have no row.
    num_items: item ids; some may have no row.
    num_rows: interactions.
    num_idle_users: user ids without a row.
    num_idle_items: item ids without a row.
    num_repeats: rows whose user had that item in a row before.
    density: distinct (user, item) pairs over num_users * num_items.
    history_lengths: quantiles and mean of rows per user who has any.
    item_counts: quantiles and mean of rows per item that has any.
    item_gini: Gini coefficient of rows per item, idle ones included; 0 if all
      items are alike, near 1 if few items have all rows.
    top_decile_share: share of rows that the most popular tenth of items has.
    first_secs: the earliest timestamp, seconds since 1970; None without.
    last_secs: the latest.
    ratings: value -> rows, where there are few distinct values, or bins.
    k_cores: what each k-core would leave.
  """

  name: str
  fingerprint: str
  columns: tuple[str, ...]
  num_users: int
  num_items: int
  num_rows: int
  num_idle_users: int
  num_idle_items: int
  num_repeats: int
  density: float
  history_lengths: dict[str, float]
  item_counts: dict[str, float]
  item_gini: float
  top_decile_share: float
  first_secs: int | None
  last_secs: int | None
  ratings: dict[str, int] | None
  k_cores: tuple[CoreSize, ...]

  @property
  def span_days(self) -> float | None:
    """Days from the first event to the last; None without timestamps."""
    if self.first_secs is None or self.last_secs is None:
      return None
    return (self.last_secs - self.first_secs) / 86_400

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON."""
    return dataclasses.asdict(self) | {
      "columns": list(self.columns),
      "span_days": self.span_days,
      "k_cores": [dataclasses.asdict(core) for core in self.k_cores],
    }

  def facts(self) -> list[tuple[str, str]]:
    """Pairs of what and how much, as text."""
    idle_users = f" ({self.num_idle_users:,} idle)" * bool(self.num_idle_users)
    idle_items = f" ({self.num_idle_items:,} idle)" * bool(self.num_idle_items)
    facts = [
      ("data set", self.name),
      ("fingerprint", self.fingerprint[:16]),
      ("users", f"{self.num_users:,}{idle_users}"),
      ("items", f"{self.num_items:,}{idle_items}"),
      ("interactions", f"{self.num_rows:,}"),
      ("columns", ", ".join(self.columns)),
      ("density", f"{self.density:.3%}"),
      ("repeated pairs", f"{self.num_repeats:,}"),
      ("history length", _quantile_text(self.history_lengths)),
      ("rows per item", _quantile_text(self.item_counts)),
      (
        "concentration",
        f"Gini {self.item_gini:.3f}; the top 10% of items have"
        f" {self.top_decile_share:.1%} of the rows",
      ),
      ("time span", self._span_text()),
    ]
    if self.ratings is not None:
      pairs = [f"{key}: {rows:,}" for key, rows in self.ratings.items()]
      facts.append(("ratings", ", ".join(pairs)))
    return facts

  def _span_text(self) -> str:
    if self.first_secs is None or self.last_secs is None:
      return "no timestamps"
    dates = [_date(secs) for secs in (self.first_secs, self.last_secs)]
    return f"{dates[0]} to {dates[1]} ({self.span_days:,.1f} days)"

  def lines(self) -> list[str]:
    """The facts and the k-cores, one a line."""
    facts = self.facts()
    facts += [
      (
        f"{core.k}-core",
        f"{core.num_users:,} users, {core.num_items:,} items,"
        f" {core.num_rows:,} interactions",
      )
      for core in self.k_cores
    ]
    width = max(len(what) for what, _ in facts)
    return [f"{what:<{width}}  {value}" for what, value in facts]

  def tables(self) -> tuple[rich_table.Table, rich_table.Table]:
    """The facts, and what each k-core would leave, to be printed by rich."""
    facts = rich_table.Table(box=box.SIMPLE, show_header=False)
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column()
    for what, value in self.facts():
      facts.add_row(what, value)
    cores = rich_table.Table(
      box=box.SIMPLE_HEAD, title="what a k-core would leave", title_style="bold"
    )
    for heading in ("k", "users", "items", "interactions", "of all"):
      cores.add_column(heading, justify="right")
    for core in self.k_cores:
      cores.add_row(
        str(core.k),
        f"{core.num_users:,}",
        f"{core.num_items:,}",
        f"{core.num_rows:,}",
        f"{core.num_rows / self.num_rows:.1%}",
      )
    return facts, cores


def describe(interactions: Interactions) -> DataSummary:
  """Counts, densities and distributions of interactions."""
  user_rows = np.bincount(
    interactions.user_id, minlength=interactions.num_users + 1
  )[1:]
  item_rows = np.bincount(
    interactions.item_id, minlength=interactions.num_items + 1
  )[1:]
  pairs = interactions.user_id.astype(np.int64) * (interactions.num_items + 1)
  pairs = np.sort(pairs + interactions.item_id)
  num_pairs = 1 + int((np.diff(pairs) > 0).sum())
  time = interactions.timestamp
  top = np.sort(item_rows)[::-1][: max(1, round(len(item_rows) / 10))]
  return DataSummary(
    name=interactions.name,
    fingerprint=interactions.fingerprint,
    columns=tuple(interactions.table.column_names),
    num_users=interactions.num_users,
    num_items=interactions.num_items,
    num_rows=len(interactions),
    num_idle_users=int((user_rows == 0).sum()),
    num_idle_items=int((item_rows == 0).sum()),
    num_repeats=len(interactions) - num_pairs,
    density=num_pairs / (interactions.num_users * interactions.num_items),
    history_lengths=_quantiles(user_rows[user_rows > 0]),
    item_counts=_quantiles(item_rows[item_rows > 0]),
    item_gini=gini(item_rows),
    top_decile_share=float(top.sum() / len(interactions)),
    first_secs=None if time is None else int(time.min()),
    last_secs=None if time is None else int(time.max()),
    ratings=_rating_histogram(interactions.rating),
    k_cores=tuple(_core_sizes(interactions)),
  )


def gini(amounts: Num[np.ndarray, " item"]) -> float:
  """Gini coefficient: sum_i (2 i - n - 1) x_i / (n sum_i x_i), x ascending.

  Args:
    amounts: what each item has, 0 or more.

  Returns:
    A number in [0, 1); 0 where none has anything.
  """
  ordered = np.sort(amounts).astype(np.float64)
  num, total = len(ordered), ordered.sum()
  if not total:
    return 0.0
  weights = 2 * np.arange(1, num + 1) - num - 1
  return float((weights * ordered).sum() / (num * total))


def _quantiles(numbers: np.ndarray) -> dict[str, float]:
  values = np.quantile(numbers, list(_QUANTILES.values()))
  out = {name: float(value) for name, value in zip(_QUANTILES, values)}
  return out | {"mean": float(numbers.mean())}


def _quantile_text(quantiles: dict[str, float]) -> str:
  return ", ".join(f"{name} {value:,.4g}" for name, value in quantiles.items())


def _date(secs: int) -> str:
  # Timestamps in other units lead out of the calendar.
  try:
    return (
      datetime.datetime.fromtimestamp(secs, datetime.UTC).date().isoformat()
    )
  except (ValueError, OverflowError, OSError):
    return f"{secs} s"


def _rating_histogram(rating: np.ndarray | None) -> dict[str, int] | None:
  if rating is None:
    return None
  values, counts = np.unique(rating, return_counts=True)
  if len(values) <= _MAX_RATING_VALUES:
    return {f"{value:g}": int(n) for value, n in zip(values, counts)}
  counts, edges = np.histogram(rating, bins=10)
  return {
    f"{low:.3g} to {high:.3g}": int(n)
    for low, high, n in zip(edges[:-1], edges[1:], counts)
  }


def _core_sizes(interactions: Interactions) -> Iterator[CoreSize]:
  left: Interactions | None = interactions
  for k in K_CORES:
    # The cores stand one inside another, so each starts from the last.
    try:
      left = k_core(left, k, k) if left is not None else None
    except DataError:
      left = None
    if left is None:
      yield CoreSize(k, 0, 0, 0)
    else:
      yield CoreSize(k, left.num_users, left.num_items, len(left))
