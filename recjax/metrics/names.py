"""What the name of a metric tells: its kind, and which values are better."""

_LESS_IS_BETTER = (
  "log_loss",
  "normalized_entropy",
  "ece",
  "rmse",
  "miscalibration",
  "exposure_disparity",
  "merit_disparity",
)
# More is not better: lists at random have most of it, or least.
_NEITHER = (
  "novelty",
  "diversity",
  "coverage",
  "gini",
  "average_popularity",
  "popularity_lift",
)


def kind_of(name: str) -> str:
  """A name without its cut-off and its task or feature: "ndcg", "rmse_gap"."""
  return name.partition("/")[0].partition("@")[0]


def better(name: str) -> int:
  """1 where larger is better, -1 where smaller is, 0 where neither."""
  kind = kind_of(name)
  if kind in _LESS_IS_BETTER or kind.endswith("_gap"):
    return -1
  return 0 if kind in _NEITHER else 1
