"""How names and numbers are written in plots, tables and reports."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recjax.metrics.names import kind_of

_METRICS = {
  "hit_rate": "HR",
  "ndcg": "NDCG",
  "mrr": "MRR",
  "map": "MAP",
  "auc": "AUC",
  "gauc": "GAUC",
  "ece": "ECE",
  "rmse": "RMSE",
}
_RANKING = ("ndcg", "hit_rate", "recall", "precision", "mrr", "map")
_OF_LISTS = (
  "novelty",
  "diversity",
  "serendipity",
  "coverage",
  "gini",
  "average_popularity",
  "popularity_lift",
  "miscalibration",
  "exposure_disparity",
  "merit_disparity",
)
_OF_GROUPS = ("_gap", "_ratio")


def metric_label(name: str) -> str:
  """The usual spelling: "hit_rate@10" is "HR@10", "auc/click" "AUC click"."""
  name, _, task = name.partition("/")
  kind, at, cutoff = name.partition("@")
  of_groups = ""
  for ending in _OF_GROUPS:
    if kind.endswith(ending):
      kind, of_groups = kind.removesuffix(ending), ending.replace("_", " ")
  text = _METRICS.get(kind, kind.replace("_", " "))
  text = text if text[:1].isupper() else text.capitalize()
  text += of_groups + at + cutoff
  return f"{text} {re.sub('[_/]', ' ', task)}" if task else text


def is_of_lists(name: str) -> bool:
  """Whether a metric tells of lists or groups, and not how right they are."""
  kind = kind_of(name)
  return kind in _OF_LISTS or kind.endswith(_OF_GROUPS)


def headline(names: Iterable[str]) -> str:
  """The metric that stands for a run: how right it is, at cut-off 10.

  Args:
    names: of metrics, at least one.
  """
  ordered = sorted(names, key=metric_order)
  right = [name for name in ordered if not is_of_lists(name)] or ordered
  return next((name for name in right if name.endswith("@10")), right[0])


def floor_label(result: Mapping[str, Any]) -> str:
  """How the floor of a run is called: by popularity, or by the base rate."""
  return f"{result.get('floor_name', 'popularity')} (floor)"


def metric_order(name: str) -> tuple[int, int, str]:
  """Sorts metrics by kind, then by cut-off as a number; of lists come last."""
  kind = kind_of(name)
  cutoff = name.partition("/")[0].partition("@")[2]
  if kind in _RANKING:
    place = _RANKING.index(kind)
  elif kind in _OF_LISTS:
    place = len(_RANKING) + 1 + _OF_LISTS.index(kind)
  else:
    place = len(_RANKING)
    place += (1 + len(_OF_LISTS)) * kind.endswith(_OF_GROUPS)
  return place, int(cutoff) if cutoff.isdigit() else -1, name


def number(value: float | int | None) -> str:
  """Four digits after the point, as the papers have it; a dash for None."""
  if value is None:
    return "–"
  return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"


def p_value(value: float | None) -> str:
  """Two digits, or that it is below .0001; a dash for None and NaN."""
  if value is None or math.isnan(value):
    return "–"
  return "<.0001" if value < 1e-4 else f"{value:.2g}"


def metrics_line(
  metrics: Mapping[str, float | None],
  intervals: Mapping[str, Sequence[float | None]],
  protocol_hash: str,
) -> str:
  """The test metrics in a line, with their intervals and the protocol.

  What is NaN, or null in a record, is undefined.
  """
  known = lambda number: number is not None and math.isfinite(number)
  parts = []
  for name, value in metrics.items():
    text = f"{value:.4f}" if known(value) else "undefined"
    ends = intervals.get(name, (None, None))
    if all(map(known, ends)):
      text += f" [{ends[0]:.4f}, {ends[1]:.4f}]"
    parts.append(f"{name} {text}")
  return f"test {'  '.join(parts)}  protocol {protocol_hash}"


def result_line(result: Mapping[str, Any]) -> str:
  """`metrics_line` of what result.json holds."""
  return metrics_line(
    result["metrics"], result["intervals"], result["protocol_hash"]
  )


def duration(secs: float | int | None) -> str:
  """A time one can read: "12 s", "3 min 20 s", "2 h 05 min"."""
  if secs is None:
    return "–"
  if secs < 1:
    return f"{secs:.1f} s"
  whole = round(secs)
  if whole < 60:
    return f"{whole} s"
  if whole < 3600:
    return f"{whole // 60} min {whole % 60:02d} s"
  return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def short_device(text: str) -> str:
  """A device text without what stands in parentheses."""
  return re.sub(r"\s*\([^()]*(\([^()]*\)[^()]*)*\)", "", text).strip()
