"""New items: a share of the items is held out with all their events.

No held-out item has a training event, so an id says nothing of it and only
content can. Rank them among themselves (`AllItems(among="unseen")`): then the
chance of a random order is known.
"""

import dataclasses

import numpy as np

from recjax.data.interactions import Interactions
from recjax.data.split import TEST, TRAIN, VALIDATION, Split, split_by_part
from recjax.errors import ConfigError, DataError, check_range


@dataclasses.dataclass(frozen=True)
class ColdItems:
  """Random items are for test, others for validation, the rest for training.

  The shares are of the items with at least `min_events` events. A model that
  is judged on test may see events of validation items in a history, though it
  was not trained on them.

  Attributes:
    test: share of these items whose events are all for test, in (0, 1).
    validation: share whose events are all for validation, in [0, 1).
    min_events: items with fewer events are never held out; at least 1.
    seed: of the draw. The test items do not change with `validation`.
  """

  test: float = 0.1
  validation: float = 0.05
  min_events: int = 1
  seed: int = 0

  def __post_init__(self):
    check_range("ColdItems.validation", self.validation, 0, 1)
    check_range("ColdItems.test", self.test, 0, 1)
    check_range("ColdItems.min_events", self.min_events, 1, integer=True)
    check_range("ColdItems.seed", self.seed, 0, integer=True)
    if self.test == 0 or self.test + self.validation > 1 - 1e-9:
      raise ConfigError(
        "ColdItems.test must be above 0 and, with ColdItems.validation, below"
        f" 1; got {self.test} and {self.validation}."
      )

  def __call__(self, interactions: Interactions) -> Split:
    """Splits; DataError if a part would be empty."""
    name = (
      f"cold_items(validation={self.validation}, test={self.test},"
      f" min_events={self.min_events}, seed={self.seed})"
    )
    size = interactions.num_items + 1
    counts = np.bincount(interactions.item_id, minlength=size)
    items = np.flatnonzero(counts >= self.min_events)
    if not len(items):
      raise DataError(
        f"{name}: no item of {interactions.name!r} has {self.min_events}"
        f" events; the most popular one has {counts.max()}."
      )
    order = np.random.default_rng(self.seed).permutation(items)
    in_test = round(self.test * len(items))
    in_validation = round(self.validation * len(items))
    part = np.full(size, TRAIN, np.int8)
    part[order[:in_test]] = TEST
    part[order[in_test : in_test + in_validation]] = VALIDATION
    needs = (TRAIN, VALIDATION, TEST) if self.validation else (TRAIN, TEST)
    return split_by_part(name, interactions, part[interactions.item_id], needs)
