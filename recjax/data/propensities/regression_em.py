"""Propensities of positions by expectation maximization, without swaps.

Xuanhui Wang, Nadav Golbandi, Michael Bendersky, Donald Metzler, Marc Najork:
Position Bias Estimation for Unbiased Learning to Rank in Personal Search, WSDM
2018, https://doi.org/10.1145/3159652.3159732

  P(click | x, k) = p_k g(x):   it is examined (e), and relevant (r)

  E-step, of a row without a click:
    P(e = 1) = p_k (1 - g) / (1 - p_k g),   P(r = 1) = (1 - p_k) g / (1 - p_k g)
  and both are 1 with a click
  M-step:
    p_k = the mean of P(e = 1) over rows of position k
    g   = a regression of P(r = 1) on x

Only products p g are seen. So p_1 starts at 1, where the E-step leaves it, and
no position is examined more than the first. The others start at their click
rate against that of position 1: what they would be if all positions held like
results.

Deviation from the paper: the regression has P(r = 1) itself as its target, and
not a label drawn by it; the expectation is the same, without the noise.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float64

from recjax.data.propensities.positions import PositionCurve, ShownRows
from recjax.data.propensities.relevance import (
  LogisticRelevance,
  RelevanceRegressor,
)
from recjax.errors import ConfigError, check_range


@dataclasses.dataclass(frozen=True)
class RegressionEM:
  """Steps of EM until the propensities stand still.

  Attributes:
    regressor: of relevance, see `recjax.data.propensities.relevance`.
    num_steps: the most steps.
    tolerance: the end is reached where no propensity moves by more in a step.
  """

  regressor: Any = LogisticRelevance()
  num_steps: int = 300
  tolerance: float = 1e-4

  def __post_init__(self):
    check_range("RegressionEM.num_steps", self.num_steps, 1, integer=True)
    check_range("RegressionEM.tolerance", self.tolerance, 0.0)
    if not isinstance(self.regressor, RelevanceRegressor):
      raise ConfigError(
        "RegressionEM.regressor must be a regression such as"
        f" @relevance.LogisticRelevance(); got {self.regressor!r}."
      )

  @property
  def columns(self) -> tuple[str, ...]:
    """Columns that are no features: none."""
    return ()

  def estimate(self, rows: ShownRows) -> PositionCurve:
    """The curve; its standard errors are not known."""
    last = np.zeros(rows.num_positions)
    for step, (curve, _) in enumerate(self.steps(rows)):
      moved = np.abs(curve - last).max()
      last = curve
      if moved <= self.tolerance and step:
        break
    else:
      logging.warning(
        "RegressionEM: after %d steps a propensity still moved by %.2g.",
        self.num_steps,
        moved,
      )
    return PositionCurve(last / last[0], None, "regression EM")

  def steps(
    self, rows: ShownRows
  ) -> Iterator[
    tuple[Float64[np.ndarray, " len"], Float64[np.ndarray, " row"]]
  ]:
    """Propensities of positions and relevance of rows, after each step."""
    fit = self.regressor.open(rows.examples)
    shown = rows.by_position(np.ones_like(rows.click))
    rates = rows.by_position(rows.click) / shown
    # At 1 a position would stay there, whatever its rows say.
    curve = np.minimum(rates / rates[0], 0.99)
    curve[0] = 1.0
    relevance = fit.update(rows.click, rows.weight * (rows.position == 1))
    for _ in range(self.num_steps):
      p = curve[rows.position - 1]
      seen = np.maximum(1.0 - p * relevance, 1e-12)
      examined = np.where(rows.click == 1, 1.0, p * (1.0 - relevance) / seen)
      relevant = np.where(rows.click == 1, 1.0, (1.0 - p) * relevance / seen)
      curve = rows.by_position(examined) / shown
      relevance = fit.update(relevant, rows.weight)
      yield curve, relevance
