"""Numbers: statistics of the training rows, and the transforms made of them.

Count, mean, spread and range are exact and merged block by block. Quantiles
come from a sample of up to 262,144 training rows, drawn without replacement
by the number of the row (`Reservoir`); with fewer rows they are exact. The
share of rows below a sampled q-quantile has a standard error of
sqrt(q (1 - q) / 262,144), at most 0.1%.
"""

import dataclasses

import numpy as np
from jaxtyping import Float32, Float64, Int32

from recjax.features import hashing
from recjax.features.raw_columns import Place
from recjax.features.specs import Bucketized, Numeric

RESERVOIR_ROWS = 1 << 18


class Reservoir:
  """A uniform sample of rows that come block by block.

  Every row has a random number (`hashing.uniform`); the rows with the smallest
  ones are kept. How rows are cut into blocks has no effect.
  """

  def __init__(self, size: int = RESERVOIR_ROWS):
    self._size = size
    self._keys = np.zeros(0, np.uint64)
    self._values = np.zeros(0, np.float64)

  def add(self, values: Float64[np.ndarray, " row"], first_row: int) -> None:
    """Sees the values of consecutive rows; NaN is passed over."""
    keys = hashing.uniform(0, first_row, len(values))
    wanted = ~np.isnan(values)
    if len(self._keys) == self._size:
      wanted &= keys < self._keys.max()
    self._keys = np.concatenate([self._keys, keys[wanted]])
    self._values = np.concatenate([self._values, values[wanted]])
    if len(self._keys) > self._size:
      kept = np.argpartition(self._keys, self._size - 1)[: self._size]
      self._keys, self._values = self._keys[kept], self._values[kept]

  @property
  def values(self) -> Float64[np.ndarray, " sample"]:
    """The sample, sorted."""
    return np.sort(self._values)


class NumericFit:
  """Statistics of a Numeric or Bucketized feature."""

  def __init__(self, spec: Numeric | Bucketized):
    self._spec = spec
    self._count, self._mean, self._squares = 0, 0.0, 0.0
    self._low, self._high = np.inf, -np.inf
    if isinstance(spec, Bucketized):
      sampled = spec.num_quantiles > 0
    else:
      sampled = spec.transform == "quantile"
    self._reservoir = Reservoir() if sampled else None

  def add(self, values: Float64[np.ndarray, " row"], first_row: int) -> None:
    """Sees the values of consecutive training rows; NaN is a missing one."""
    if self._reservoir is not None:
      self._reservoir.add(values, first_row)
    values = values[~np.isnan(values)]
    if not len(values):
      return
    # The pairwise update of Chan, Golub and LeVeque (1979).
    mean = float(values.mean())
    squares = float(np.sum((values - mean) ** 2))
    total = self._count + len(values)
    gap = mean - self._mean
    self._squares += squares + gap**2 * self._count * len(values) / total
    self._mean += gap * len(values) / total
    self._count = total
    self._low = min(self._low, float(values.min()))
    self._high = max(self._high, float(values.max()))

  def finish(self) -> "NumericEncoder | BucketEncoder":
    """The encoder."""
    if isinstance(self._spec, Bucketized):
      return BucketEncoder(self._boundaries())
    seen = self._count > 0
    return NumericEncoder(
      transform=self._spec.transform,
      fill=self._spec.fill,
      mean=self._mean,
      std=float(np.sqrt(self._squares / self._count)) if seen else 0.0,
      low=self._low if seen else 0.0,
      high=self._high if seen else 0.0,
      quantiles=self._quantiles(),
    )

  def _boundaries(self) -> Float64[np.ndarray, " bound"]:
    assert isinstance(self._spec, Bucketized)
    if self._spec.num_intervals:
      if not self._count:
        return np.zeros(0)
      ends = self._low, self._high
      return np.unique(np.linspace(*ends, self._spec.num_intervals + 1)[1:-1])
    if self._reservoir is None:
      return np.array(self._spec.boundaries, np.float64)
    sample = self._reservoir.values
    if not len(sample):
      return sample
    inner = np.linspace(0, 1, self._spec.num_quantiles + 1)[1:-1]
    return np.unique(np.quantile(sample, inner))

  def _quantiles(self) -> Float64[np.ndarray, " quantile"]:
    if self._reservoir is None or not len(self._reservoir.values):
      return np.zeros(0)
    assert isinstance(self._spec, Numeric)
    sample = self._reservoir.values
    num = min(self._spec.num_quantiles, len(sample))
    return np.quantile(sample, np.linspace(0, 1, num))


@dataclasses.dataclass(frozen=True, eq=False)
class NumericEncoder:
  """The transforms of `specs.Numeric` with the statistics they need.

  Attributes:
    transform: the name.
    fill: what a missing value counts as.
    mean: of the training rows that have a value; so are the others.
    std: with divisor n.
    low: the least value.
    high: the largest value.
    quantiles: equally spaced ones from the least to the largest.
  """

  transform: str
  fill: float | int | str
  mean: float
  std: float
  low: float
  high: float
  quantiles: Float64[np.ndarray, " quantile"]

  def encode(
    self, values: Float64[np.ndarray, " row"], place: Place
  ) -> Float32[np.ndarray, " row"]:
    """Fills missing values, then transforms.

    Raises:
      DataError: a value is missing and fill is "error", or the result is too
        large for float32.
    """
    missing = np.isnan(values)
    if self.fill == "error" and missing.any():
      fault = "and fill='error' refuses missing values. Give fill a number."
      place.fail(int(np.flatnonzero(missing)[0]), None, fault)
    if missing.any():
      fill = self.mean if isinstance(self.fill, str) else float(self.fill)
      values = np.where(missing, fill, values)
    result = self._transform(values)
    too_large = np.abs(result) > np.finfo(np.float32).max
    if too_large.any():
      row = int(np.flatnonzero(too_large)[0])
      place.fail(row, float(values[row]), "which is too large for float32.")
    return result.astype(np.float32)

  def _transform(
    self, x: Float64[np.ndarray, " row"]
  ) -> Float64[np.ndarray, " row"]:
    if self.transform == "min_max":
      width = self.high - self.low
      return (x - self.low) / width if width else np.zeros_like(x)
    if self.transform == "z_score":
      return (x - self.mean) / self.std if self.std else np.zeros_like(x)
    if self.transform == "log":
      return np.log1p(np.maximum(x, 0.0))
    if self.transform == "quantile":
      return self._share_below(x)
    return x

  def _share_below(
    self, x: Float64[np.ndarray, " row"]
  ) -> Float64[np.ndarray, " row"]:
    """The empirical distribution function; the middle of a step at a tie."""
    q = self.quantiles
    if len(q) < 2 or q[0] == q[-1]:
      return np.where(x < self.low, 0.0, np.where(x > self.high, 1.0, 0.5))
    shares = np.linspace(0, 1, len(q))
    upper = np.interp(x, q, shares)
    lower = -np.interp(-x, -q[::-1], -shares[::-1])
    middle = (upper + lower) / 2
    return np.where(x <= q[0], 0.0, np.where(x >= q[-1], 1.0, middle))

  def state(self) -> tuple[dict, dict[str, np.ndarray]]:
    """What to save."""
    facts = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name != "quantiles"
    }
    return {"class": "numeric"} | facts, {"quantiles": self.quantiles}


@dataclasses.dataclass(frozen=True, eq=False)
class BucketEncoder:
  """The interval in which a number lies.

  Attributes:
    boundaries: increasing.
  """

  boundaries: Float64[np.ndarray, " bound"]

  @property
  def num_ids(self) -> int:
    """Padding and the intervals."""
    return 2 + len(self.boundaries)

  @property
  def collision_rate(self) -> float:
    """Nothing is hashed."""
    return 0.0

  def encode(
    self, values: Float64[np.ndarray, " row"], place: Place
  ) -> Int32[np.ndarray, " row"]:
    """1 + the number of boundaries at or below, 0 where missing."""
    del place
    ids = 1 + np.searchsorted(self.boundaries, values, side="right")
    return np.where(np.isnan(values), 0, ids).astype(np.int32)

  def state(self) -> tuple[dict, dict[str, np.ndarray]]:
    """What to save."""
    return {"class": "buckets"}, {"boundaries": self.boundaries}


def log_square(
  values: Float64[np.ndarray, " row"],
) -> Float64[np.ndarray, " row"]:
  """floor(ln(x)^2) where x > 2, the whole part of x elsewhere; NaN stays."""
  with np.errstate(invalid="ignore"):
    large = values > 2
    return np.where(
      large,
      np.floor(np.log(np.where(large, values, 1.0)) ** 2),
      np.trunc(values),
    )
