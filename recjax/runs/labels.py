"""How names and numbers are written in plots, tables and reports."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

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


def metric_label(name: str) -> str:
  """The usual spelling: "hit_rate@10" is "HR@10", "auc/click" "AUC click"."""
  name, _, task = name.partition("/")
  kind, at, cutoff = name.partition("@")
  text = _METRICS.get(kind, kind.replace("_", " "))
  text = (text if text[:1].isupper() else text.capitalize()) + at + cutoff
  return f"{text} {task.replace('_', ' ')}" if task else text


def floor_label(result: Mapping[str, Any]) -> str:
  """How the floor of a run is called: by popularity, or by the base rate."""
  return f"{result.get('floor_name', 'popularity')} (floor)"


def metric_order(name: str) -> tuple[int, int, str]:
  """Sorts metrics by kind, then by cut-off as a number."""
  kind, _, cutoff = name.partition("@")
  kinds = ("ndcg", "hit_rate", "recall", "precision", "mrr", "map")
  place = kinds.index(kind) if kind in kinds else len(kinds)
  return place, int(cutoff) if cutoff.isdigit() else -1, name


def number(value: float | int | None) -> str:
  """Four digits after the point, as the papers have it; a dash for None."""
  if value is None:
    return "–"
  return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"


def metrics_line(
  metrics: Mapping[str, float],
  intervals: Mapping[str, Sequence[float | None]],
  protocol_hash: str,
) -> str:
  """The test metrics in a line, with their intervals and the protocol."""
  parts = []
  for name, value in metrics.items():
    low, high = intervals.get(name, (None, None))
    interval = "" if low is None else f" [{low:.4f}, {high:.4f}]"
    parts.append(f"{name} {value:.4f}{interval}")
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
