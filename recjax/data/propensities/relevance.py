"""Regressions of relevance on columns, for the M-step of regression EM.

Both are fit to targets in [0, 1] again and again, and go on from where they
were. Values of a column are told apart as they are, whatever their type.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from scipy import optimize, special

from recjax.data.examples import Examples
from recjax.errors import ConfigError, check_range

Rows = Float64[np.ndarray, " row"]


@runtime_checkable
class RelevanceFit(Protocol):
  """A regression with its rows at hand."""

  def update(self, target: Rows, weight: Rows) -> Rows:
    """Fits the targets, and gives what it makes of each row."""
    ...


@runtime_checkable
class RelevanceRegressor(Protocol):
  """Settings of a regression."""

  def open(self, examples: Examples) -> RelevanceFit:
    """Reads its columns."""
    ...


@dataclasses.dataclass(frozen=True)
class LogisticRelevance:
  """sigmoid(b + sum_j w_j[value of column j]), by L-BFGS.

  minimizes  sum_i weight_i bce(logit_i, target_i) + (l2 / 2) sum_j |w_j|^2

  Attributes:
    columns: with a weight for each of their values.
    l2: strength of the penalty, in rows.
    num_steps: of L-BFGS in each update; the next goes on from there.
  """

  columns: tuple[str, ...] = ("user", "item")
  l2: float | int = 0.3
  num_steps: int = 3

  def __post_init__(self):
    _check_columns("LogisticRelevance", self.columns)
    check_range("LogisticRelevance.l2", self.l2, 0.0)
    what = "LogisticRelevance.num_steps"
    check_range(what, self.num_steps, 1, integer=True)

  def open(self, examples: Examples) -> "LogisticFit":
    """Reads the columns; all weights are 0."""
    codes, sizes = [], []
    for column in self.columns:
      found, size = _codes(examples, [column])
      codes.append(found)
      sizes.append(size)
    starts = np.cumsum([1, *sizes])
    places = np.stack(codes) + starts[:-1, None]
    return LogisticFit(self, places, np.zeros(starts[-1]))


@dataclasses.dataclass(eq=False)
class LogisticFit:
  """See `LogisticRelevance`; the bias stands first among the weights."""

  settings: LogisticRelevance
  places: Int64[np.ndarray, "field row"]
  weights: Float64[np.ndarray, " vocab"]

  def update(self, target: Rows, weight: Rows) -> Rows:
    """Fits the targets, and gives the probability of each row."""
    found: Any = optimize.minimize(
      self._loss,
      self.weights,
      (target, weight),
      jac=True,
      method="L-BFGS-B",
      options={"maxiter": self.settings.num_steps},
    )
    self.weights = found.x
    return special.expit(self._logits(self.weights))

  def _logits(self, weights: np.ndarray) -> np.ndarray:
    return weights[0] + weights[self.places].sum(axis=0)

  def _loss(self, weights, target, row_weight):
    logit = self._logits(weights)
    rows = np.logaddexp(0.0, logit) - target * logit
    error = row_weight * (special.expit(logit) - target)
    gradient = self.settings.l2 * weights
    gradient[0] = error.sum()
    for places in self.places:
      gradient += np.bincount(places, error, len(weights))
    penalty = self.settings.l2 / 2 * (weights[1:] @ weights[1:])
    return row_weight @ rows + penalty, gradient


@dataclasses.dataclass(frozen=True)
class RelevanceTable:
  """The mean target of the rows that agree in all columns.

  (sum of targets + strength * mean of all) / (number of rows + strength)

  Attributes:
    columns: that tell what rows are alike, such as query and result.
    strength: of the mean of all, in rows.
  """

  columns: tuple[str, ...] = ("user", "item")
  strength: float | int = 1.0

  def __post_init__(self):
    _check_columns("RelevanceTable", self.columns)
    check_range("RelevanceTable.strength", self.strength, 0.0)

  def open(self, examples: Examples) -> "TableFit":
    """Reads the columns."""
    return TableFit(self, *_codes(examples, self.columns))


@dataclasses.dataclass(frozen=True, eq=False)
class TableFit:
  """See `RelevanceTable`."""

  settings: RelevanceTable
  codes: Int64[np.ndarray, " row"]
  num: int

  def update(self, target: Rows, weight: Rows) -> Rows:
    """The mean target of the rows like each row."""
    strength = self.settings.strength
    everywhere = np.average(target, weights=weight)
    sums = np.bincount(self.codes, weight * target, self.num)
    rows = np.bincount(self.codes, weight, self.num)
    total = rows + strength
    means = (sums + strength * everywhere) / np.where(total > 0, total, 1.0)
    return means[self.codes]


def _check_columns(what: str, columns: Any) -> None:
  if not isinstance(columns, tuple) or not columns:
    raise ConfigError(
      f"{what}.columns must be a tuple of columns such as ('user', 'item');"
      f" got {columns!r}."
    )


def _codes(
  examples: Examples, columns: Sequence[str]
) -> tuple[Int64[np.ndarray, " row"], int]:
  """A number from 0 on for each row, equal for rows that agree; how many."""
  codes = np.zeros(len(examples), np.int64)
  for column in columns:
    examples.column(column)  # Says if there is none.
    values = examples.table.column(column).combine_chunks()
    if not pa.types.is_dictionary(values.type):
      values = values.dictionary_encode(null_encoding="encode")
    own = values.indices.fill_null(len(values.dictionary)).to_numpy()
    codes = codes * (int(own.max()) + 1) + own
    codes = np.unique(codes, return_inverse=True)[1]
  return codes.astype(np.int64), int(codes.max()) + 1
