"""From predictions and labels to the numbers of a table.

All is computed on the host, exactly, in float64. For more examples than
memory holds see `recjax.metrics.streaming`.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Int, Shaped

from recjax.errors import DataError, check_range
from recjax.evaluation.classification_judge import (
  OF_CLASSES,
  OF_PROBABILITIES,
  Judge,
  Rows,
  check_base_rate,
)
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.metrics import calibration, roc

# [batch]; of other lengths, too, for which there is a better message.
_Column = Shaped[Array, "..."] | Shaped[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class SliceResult:
  """What was found on a part of the examples.

  Attributes:
    value: of the column that the examples share.
    num_examples: how many there are.
    num_positives: those with a label above 0.
    metrics: as of `ClassificationResult`: NaN for an AUC of one class.
    intervals: as of `ClassificationResult`.
  """

  value: str
  num_examples: int
  num_positives: int
  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class ClassificationResult:
  """What an evaluation found; keys are such as "auc" and "gauc@user_id".

  Attributes:
    metrics: the values; NaN where one is undefined.
    intervals: their 95% intervals, by DeLong's variance for the AUC and by
      the bootstrap for all others, see
      `recjax.evaluation.classification_intervals`; empty if not asked for.
    floor: what the base rate of the training data reaches as a constant
      prediction; empty without that rate.
    slices: of each column, the values of its parts, the largest first.
    notes: sentences on what is undefined or left out.
    num_examples: how many examples count.
    num_positives: those with a label above 0.
    weight_sum: their summed weights.
    reliability: predicted and observed rates; None if the labels or the
      predictions are no probabilities.
    roc: the ROC curve, thinned; None if the labels are not 0 and 1.
    wall_secs: how long it took.
    protocol: what was asked.
  """

  metrics: dict[str, float]
  intervals: dict[str, tuple[float, float]]
  floor: dict[str, float]
  slices: dict[str, list[SliceResult]]
  notes: tuple[str, ...]
  num_examples: int
  num_positives: int
  weight_sum: float
  reliability: calibration.ReliabilityCurve | None
  roc: roc.RocCurve | None
  wall_secs: float
  protocol: ClassificationProtocol


def evaluate_examples(
  score: _Column | Iterable[Any],
  label: _Column,
  weight: _Column | None = None,
  *,
  protocol: ClassificationProtocol,
  where: _Column | None = None,
  from_logits: bool = False,
  base_rate: float | None = None,
  groups: Mapping[str, _Column] | None = None,
  slices: Mapping[str, _Column] | None = None,
  intervals: bool = True,
  max_slice_values: int = 20,
  seed: int = 0,
) -> ClassificationResult:
  """Judges predictions of labels under a protocol.

  Args:
    score: one an example, or batches of them in the order of the labels: each
      an array, or an array and a mask that is False for padding.
    label: 0 or 1; any number if the protocol asks for the RMSE alone.
    weight: of each example; all 1 without it.
    protocol: how to judge.
    where: which examples count; all without it.
    from_logits: whether the scores are logits and not probabilities.
    base_rate: the mean label of the training data, for the floor.
    groups: by column, the group of each example; those that metrics name.
    slices: by column, a value of each example; metrics are given for each
      value. For cold and warm ids see `cold_warm`.
    intervals: whether to compute intervals.
    max_slice_values: how many values of a column stand alone, the largest
      first; the others are judged together.
    seed: of the bootstrap.

  Returns:
    The numbers.

  Raises:
    DataError: labels, scores or weights can not be used.
    ConfigError: an option is out of range.
  """
  start = time.perf_counter()
  check_range("max_slice_values", max_slice_values, 1, integer=True)
  score = score if hasattr(score, "shape") else _joined(score)
  if protocol.weights == "none":
    weight = None
  columns = _group_columns(protocol, groups or {})
  named = {"scores": score, "weights": weight, "entries of where": where}
  for values in (named, columns, slices or {}):
    _check_lengths(label, values)
  rows, kept = _counted_rows(score, label, weight, where, columns)
  judge = Judge(protocol, from_logits, base_rate, seed)
  _check_values(judge, rows, kept)
  parts = {
    name: _slices(
      judge, rows, np.asarray(values)[kept], max_slice_values, intervals
    )
    for name, values in (slices or {}).items()
  }
  return _judged(judge, rows, parts, intervals, start)


def _judged(
  judge: Judge,
  rows: Rows,
  slices: dict[str, list[SliceResult]],
  intervals: bool,
  start: float,
) -> ClassificationResult:
  metrics = judge.metrics(rows)
  return ClassificationResult(
    metrics=metrics,
    intervals=judge.intervals(rows) if intervals else {},
    floor=_floor(judge, rows),
    slices=slices,
    notes=(*_notes(judge, rows, metrics), *_slice_notes(slices)),
    num_examples=len(rows),
    num_positives=int((rows.label > 0).sum()),
    weight_sum=float(rows.weight.sum()),
    reliability=judge.curve(rows) if _asks_probabilities(judge) else None,
    roc=_roc(rows),
    wall_secs=time.perf_counter() - start,
    # All is exact here, even where other rows of a run pass by.
    protocol=dataclasses.replace(judge.protocol, auc_bins=0),
  )


def _asks_probabilities(judge: Judge) -> bool:
  names = {metric for _, metric, _ in judge.protocol.values()}
  return bool(names & OF_PROBABILITIES)


def cold_warm(
  ids: Int[np.ndarray, " batch"],
  train_counts: Int[np.ndarray, " vocab"],
  *,
  min_count: int = 1,
) -> Shaped[np.ndarray, " batch"]:
  """Slices examples by whether training knows an id well enough.

  Args:
    ids: of each example, such as its item.
    train_counts: training examples of each id.
    min_count: fewer make an id cold.

  Returns:
    "cold" or "warm" for each example; an id beyond the counts is cold.

  Raises:
    DataError: an id is negative.
  """
  if len(ids) and ids.min() < 0:
    raise DataError(f"ids must not be negative; got {ids.min()}.")
  num = len(train_counts)
  count = np.append(train_counts, 0)[np.minimum(ids, num)]
  return np.where(count >= min_count, "warm", "cold")


def _joined(batches: Iterable[Any]) -> np.ndarray:
  """Scores of batches, without their padding."""
  parts = []
  for batch in batches:
    if isinstance(batch, tuple):
      scores, mask = (np.asarray(part) for part in batch)
      parts.append(scores[mask])
    else:
      parts.append(np.asarray(batch))
  return np.concatenate(parts) if parts else np.zeros(0)


def _group_columns(
  protocol: ClassificationProtocol, groups: Mapping[str, _Column]
) -> dict[str, np.ndarray]:
  """The groups that metrics name, as integers."""
  found = {}
  for key, _, column in protocol.values():
    if not column:
      continue
    if column not in groups:
      raise DataError(
        f"the metric {key!r} needs the column {column!r} in groups; there"
        f" {'are ' + ', '.join(map(repr, groups)) if groups else 'is none'}."
      )
    values = np.asarray(groups[column])
    if values.dtype.kind not in "iu":
      values = np.unique(values, return_inverse=True)[1]
    found[column] = values
  return found


def _check_lengths(label: Any, named: Mapping[str, Any]) -> None:
  num = len(label)
  for name, values in {"labels": label, **named}.items():
    if values is not None and np.shape(values) != (num,):
      shape = np.shape(values)
      raise DataError(
        f"there are {num} labels but {shape[0] if shape else 0} {name}"
        f" (shape {shape}): one an example is needed."
      )


def _counted_rows(
  score: Any,
  label: Any,
  weight: Any,
  where: Any,
  groups: dict[str, np.ndarray],
) -> tuple[Rows, Int[np.ndarray, " batch"]]:
  """The examples that count, and where they stand among all."""
  num = len(label)
  weight = np.asarray(np.ones(num) if weight is None else weight, np.float64)
  mask = np.ones(num, bool) if where is None else np.asarray(where)
  wrong = mask & ~(np.isfinite(weight) & (weight >= 0))
  if wrong.any():
    row = int(np.argmax(wrong))
    raise DataError(
      f"weights must be finite and not negative; example {row} has"
      f" {weight[row]} ({int(wrong.sum())} such examples)."
    )
  kept = np.flatnonzero(mask & (weight > 0))
  if not len(kept):
    raise DataError(
      f"no example counts: all {num} are masked or have weight 0."
    )
  rows = Rows(
    np.asarray(score, np.float64),
    np.asarray(label, np.float64),
    weight,
    groups,
  )
  return rows.take(kept), kept


def _check_values(judge: Judge, rows: Rows, kept: np.ndarray) -> None:
  def refuse(wrong: np.ndarray, values: np.ndarray, text: str) -> None:
    if wrong.any():
      row = int(np.argmax(wrong))
      raise DataError(
        f"{text}; example {kept[row]} has {values[row]:g}"
        f" ({int(wrong.sum())} such examples)."
      )

  protocol, score, label = judge.protocol, rows.score, rows.label
  names = {metric for _, metric, _ in protocol.values()}
  refuse(np.isnan(score), score, "scores are NaN: the model has diverged")
  if names & OF_CLASSES:
    refuse((label != 0) & (label != 1), label, "labels must be 0 or 1")
  refuse(~np.isfinite(label), label, "labels must be finite")
  if names & OF_PROBABILITIES and not judge.from_logits:
    refuse(
      (score < 0) | (score > 1),
      score,
      "scores must be probabilities in [0, 1], or give from_logits=True",
    )
  check_base_rate(protocol, judge.base_rate)


def _roc(rows: Rows) -> roc.RocCurve | None:
  if not ((rows.label == 0) | (rows.label == 1)).all():
    return None
  return roc.roc_curve(rows.score, rows.label, rows.weight)


def _floor(judge: Judge, rows: Rows) -> dict[str, float]:
  if judge.base_rate is None:
    return {}
  constant = np.full(len(rows), judge.base_rate)
  plain = dataclasses.replace(judge, from_logits=False)
  return plain.metrics(dataclasses.replace(rows, score=constant))


def _slices(
  judge: Judge,
  rows: Rows,
  values: np.ndarray,
  max_values: int,
  intervals: bool,
) -> list[SliceResult]:
  found, codes = np.unique(values, return_inverse=True)
  sizes = np.bincount(codes)
  largest = np.argsort(-sizes, kind="stable")
  order = np.argsort(codes, kind="stable")
  places = np.split(order, np.cumsum(sizes)[:-1])
  parts = [(str(found[i]), places[i]) for i in largest[:max_values]]
  rest = largest[max_values:]
  if len(rest):
    others = np.concatenate([places[i] for i in rest])
    parts.append((f"other ({len(rest)} values)", others))
  results = []
  for value, index in parts:
    part = rows.take(index)
    results.append(
      SliceResult(
        value=value,
        num_examples=len(part),
        num_positives=int((part.label > 0).sum()),
        metrics=judge.metrics(part),
        intervals=judge.intervals(part) if intervals else {},
      )
    )
  return results


def _notes(
  judge: Judge, rows: Rows, metrics: Mapping[str, float]
) -> Iterable[str]:
  for key, metric, column in judge.protocol.values():
    if metric == "gauc":
      grouped = judge.grouped(rows, column)
      if grouped.num_left_out:
        yield (
          f"{key} leaves out {grouped.num_left_out:,} of"
          f" {grouped.num_groups + grouped.num_left_out:,} groups, which hold"
          f" one class only ({grouped.share_left_out:.1%} of all impressions)."
        )
    elif np.isnan(metrics[key]):
      yield (
        f"{key} is undefined: all {len(rows):,} examples have the label"
        f" {rows.label[0]:g}."
      )


def _slice_notes(
  slices: Mapping[str, list[SliceResult]],
) -> Iterable[str]:
  """Which metrics are undefined in how many slices."""
  for column, parts in slices.items():
    for key in parts[0].metrics:
      undefined = sum(np.isnan(part.metrics[key]) for part in parts)
      if undefined:
        why = "whose labels are all alike"
        if key.startswith("gauc"):
          why = "where no group holds both classes"
        yield (
          f"{key} is undefined in {undefined} of {len(parts)} slices by"
          f" {column!r}, {why}."
        )
