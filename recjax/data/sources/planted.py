"""Data drawn from a known process, at hand without any file."""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa

from recjax.data.interactions import Interactions
from recjax.data.planted_process import PlantedProcess
from recjax.data.ragged import Ragged
from recjax.errors import check_range

# The first events lie between these days: 2024-01-01 and one year later.
_FIRST_SECS = 1_704_067_200
_YEAR_SECS = 366 * 86_400
_MEAN_GAP_SECS = 2 * 86_400.0
_TIME_STREAM = 3


@dataclasses.dataclass(frozen=True)
class PlantedSource:
  """Users who follow `PlantedProcess`; the optimum is known.

  No k-core filter is offered: dropping users or items would change the
  process, and its optimum would not be the optimum of what is left.

  The other settings are those of `PlantedProcess`.

  Attributes:
    num_users: how many users.
    mean_len: their mean number of events.
    min_len: their least number of events.
    seed: draws the process, the users and the times.
  """

  num_users: int = 6000
  num_items: int = 300
  num_clusters: int = 30
  num_user_types: int = 4
  mean_len: float = 25.0
  min_len: int = 5
  zipf_exponent: float = PlantedProcess.zipf_exponent
  concentration: float = PlantedProcess.concentration
  type_share: float = PlantedProcess.type_share
  lag_share: float = PlantedProcess.lag_share
  noise: float = PlantedProcess.noise
  seed: int = 0
  name: str = "planted"

  def __post_init__(self):
    where = "PlantedSource."
    check_range(where + "num_users", self.num_users, 1, integer=True)
    self.process()
    check_range(
      where + "min_len", self.min_len, 1, self.num_items, integer=True
    )
    check_range(where + "mean_len", self.mean_len, self.min_len, self.num_items)

  def process(self) -> PlantedProcess:
    """The process that the data are drawn from."""
    return PlantedProcess(
      num_items=self.num_items,
      num_clusters=self.num_clusters,
      num_user_types=self.num_user_types,
      zipf_exponent=self.zipf_exponent,
      concentration=self.concentration,
      type_share=self.type_share,
      lag_share=self.lag_share,
      noise=self.noise,
      seed=self.seed,
    )

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """None: the data is generated."""
    del data_dir
    return ()

  def read(self, data_dir: pathlib.Path) -> Interactions:
    """Draws the data, the same for the same settings.

    Args:
      data_dir: not looked at.

    Returns:
      Interactions with timestamps; the items have a feature `cluster`.
    """
    del data_dir
    process = self.process()
    histories = process.sample(
      self.num_users, self.mean_len, self.min_len, seed=self.seed
    )
    return Interactions.from_columns(
      self.name,
      {
        "user_id": (histories.row_ids + 1).astype(np.int32),
        "item_id": histories.values,
        "timestamp": _times(histories, self.seed),
      },
      num_users=self.num_users,
      num_items=self.num_items,
      users=pa.table({"raw_id": _raw_ids(self.num_users)}),
      items=pa.table(
        {
          "raw_id": _raw_ids(self.num_items),
          "cluster": pa.array(process.cluster_of_item[1:]),
        }
      ),
    )


def _times(histories: Ragged, seed: int) -> np.ndarray:
  """Seconds: a start within a year, then gaps of two days in the mean."""
  random = np.random.default_rng([seed, _TIME_STREAM])
  starts = random.integers(_YEAR_SECS, size=len(histories))
  gaps = 1 + random.exponential(_MEAN_GAP_SECS, len(histories.values))
  # Of all gaps in a row, the sum since the user's first event remains.
  total = np.cumsum(gaps.astype(np.int64))
  since_first = total - np.repeat(
    total[histories.offsets[:-1]], histories.lengths
  )
  return _FIRST_SECS + np.repeat(starts, histories.lengths) + since_first


def _raw_ids(num: int) -> pa.Array:
  return pa.array(np.arange(1, num + 1)).cast(pa.string())
