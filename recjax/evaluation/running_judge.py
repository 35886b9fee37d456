r"""Metrics of labelled examples that pass by, for more than memory holds.

Log-loss, normalized entropy, RMSE and the calibration error in bins of equal
width are those of `recjax.evaluation.classification`, but for the rounding of
float32. The AUC is that of scores in NUM_BINS bins, which differs from the
exact one by at most half of the pairs that share a bin,

  1/2 \sum_b p_b n_b / (\sum_b p_b \sum_b n_b).

A note tells how much that is, and the protocol how many bins there were. Bins
of logits z are of equal width in z / (1 + |z| / 8), so that no logit lies
beyond the last one. The interval is DeLong's with the same bins. All other
intervals are bootstraps over 1,024 blocks of rows, to which rows are dealt by a
hash of their number. Memory holds bins and blocks, whatever the number of
examples.
"""

import dataclasses
import decimal
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Bool, Float

from recjax.errors import ConfigError, DataError
from recjax.evaluation import classification_intervals
from recjax.evaluation.classification import ClassificationResult
from recjax.evaluation.classification_intervals import MAX_BLOCKS
from recjax.evaluation.classification_judge import (
  OF_CLASSES,
  OF_PROBABILITIES,
  Judge,
  Rows,
  check_base_rate,
)
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.features import hashing
from recjax.metrics import auc, calibration, classification, roc
from recjax.metrics.examples import probabilities
from recjax.metrics.streaming import (
  StreamingAUC,
  StreamingCalibration,
  StreamingMeans,
)

NUM_BINS = 2**17
_EDGE = 8.0
_FAR = 1e-3
_Column = Float[np.ndarray, " row"] | Float[Array, " row"]


def binned(protocol: ClassificationProtocol) -> ClassificationProtocol:
  """The protocol of examples that pass by, whose AUC is one of bins."""
  names = {metric for _, metric, _ in protocol.values()}
  bins = NUM_BINS if "auc" in names else 0
  return dataclasses.replace(protocol, auc_bins=bins)


def check_in_passing(protocol: ClassificationProtocol, what: str) -> None:
  """Raises ConfigError for metrics that need all examples at once.

  Args:
    protocol: how examples are judged.
    what: names them and says what to do, for the message.
  """
  for key, metric, _ in protocol.values():
    if metric == "gauc":
      raise ConfigError(f"{key!r} needs the rows of a group together, {what}")
    if metric == "ece" and protocol.ece_binning != "equal_width":
      raise ConfigError(
        "ece_binning='equal_mass' needs all predictions before their bins are"
        f" known, {what}"
      )


class RunningJudge:
  """Judges examples that are added batch by batch.

  Attributes:
    protocol: how they are judged.
    from_logits: whether the scores are logits.
    base_rate: the mean label of the training data, for the floor and where the
      protocol takes the entropy of the training rate.
    seed: of the bootstrap.

  Raises:
    ConfigError: a metric needs all examples at once, or the base rate is none.
    DataError: the base rate is needed and not given.
  """

  def __init__(
    self,
    protocol: ClassificationProtocol,
    *,
    from_logits: bool,
    base_rate: float | None = None,
    num_bins: int = NUM_BINS,
    seed: int = 0,
  ):
    check_in_passing(protocol, "but examples pass by.")
    check_base_rate(protocol, base_rate)
    self._names = {metric for _, metric, _ in protocol.values()}
    bins = num_bins if "auc" in self._names else 0
    self.protocol = dataclasses.replace(protocol, auc_bins=bins)
    self.from_logits = from_logits
    self.base_rate, self.seed = base_rate, seed
    self._start = time.perf_counter()
    means = StreamingMeans.init(
      from_logits=from_logits, epsilon=protocol.log_loss_epsilon
    )
    self._state: dict[str, Any] = {"means": means}
    if "auc" in self._names:
      low, high = (-_EDGE, _EDGE) if from_logits else (0.0, 1.0)
      masses = StreamingAUC.init(num_bins=num_bins, low=low, high=high)
      # With weights, variances need the sums of their squares.
      self._state |= {"masses": masses, "squares": masses}
    if self._names & OF_PROBABILITIES:
      self._state["bins"] = StreamingCalibration.init(
        resolution=protocol.ece_bins, from_logits=from_logits
      )
    self._num_rows = 0
    self._num_positives, self._num_negatives = 0, 0
    # Of w, w loss, w (p - y)^2 and w y; and of w (p - y) in each bin.
    self._sums = np.zeros((4, MAX_BLOCKS))
    self._gaps = np.zeros((protocol.ece_bins, MAX_BLOCKS))
    self._label_squares = 0.0

  def add(
    self,
    score: _Column,
    label: _Column,
    weight: _Column | None = None,
    where: Bool[np.ndarray, " row"] | None = None,
  ) -> None:
    """Adds a batch; batches of one size are fastest.

    Args:
      score: of each row.
      label: of each row; NaN where it does not count.
      weight: of each row; all 1 without it.
      where: False for what only fills up a batch; all count without it.

    Raises:
      DataError: a label, score or weight can not be used.
    """
    score, label = np.asarray(score, np.float32), np.asarray(label, np.float32)
    if weight is None or self.protocol.weights == "none":
      weight = np.ones(len(score), np.float32)
    weight = np.asarray(weight, np.float32)
    filled = np.ones(len(score), bool) if where is None else where
    where = np.isfinite(label) & filled
    self._check(score, label, weight, where)
    where &= weight > 0
    self._state = _updated(
      self._state, score, label, weight, where, squash=self.from_logits
    )
    draw = hashing.uniform(self.seed, self._num_rows, len(score))
    blocks = (draw % np.uint64(MAX_BLOCKS)).astype(np.int64)
    self._num_rows += int(filled.sum())
    kept = (x[where].astype(np.float64) for x in (score, label, weight))
    self._add_to_blocks(*kept, blocks=blocks[where])

  def _check(self, score, label, weight, where) -> None:
    rules = [
      (~(np.isfinite(weight) & (weight >= 0)), weight,
       "weights must be finite and not negative"),
      (np.isnan(score), score, "scores are NaN: the model has diverged"),
    ]  # fmt: skip
    if self._names & OF_CLASSES:
      bad = (label != 0) & (label != 1)
      rules.append((bad, label, "labels must be 0 or 1"))
    if self._names & OF_PROBABILITIES and not self.from_logits:
      text = "scores must be probabilities in [0, 1], or give from_logits=True"
      rules.append(((score < 0) | (score > 1), score, text))
    for bad, values, text in rules:
      if (bad & where).any():
        row = int(np.argmax(bad & where))
        raise DataError(
          f"{text}; example {self._num_rows + row} has {values[row]:g}."
        )

  def _add_to_blocks(self, score, label, weight, *, blocks) -> None:
    p = np.asarray(probabilities(score, from_logits=self.from_logits))
    loss = np.zeros_like(p)
    if self._names & OF_PROBABILITIES:
      loss = classification.log_losses(
        score,
        label,
        from_logits=self.from_logits,
        epsilon=self.protocol.log_loss_epsilon,
      )
      bins = calibration.bin_index(
        p, weight, num_bins=len(self._gaps), binning="equal_width"
      )
      place = np.asarray(bins, np.int64) * MAX_BLOCKS + blocks
      np.add.at(self._gaps.reshape(-1), place, weight * (p - label))
    rows = (weight, weight * loss, weight * (p - label) ** 2, weight * label)
    for sums, row in zip(self._sums, rows):
      np.add.at(sums, blocks, row)
    self._num_positives += int((label > 0).sum())
    self._num_negatives += int((label <= 0).sum())
    self._label_squares += float(np.sum(weight * label**2))

  @property
  def auc_error(self) -> float:
    """How far the AUC may be from the exact one; NaN where it is undefined."""
    positive, negative = self._masses("masses")
    pairs = positive.sum() * negative.sum()
    return float(np.sum(positive * negative) / pairs / 2) if pairs else np.nan

  def warn(self, name: str) -> None:
    """Logs a warning if the AUC may be far from the exact one.

    Args:
      name: of what is judged, for the message.
    """
    if "auc" in self._names and self.auc_error > _FAR:
      logging.warning(
        "%s: scores are so close to each other, or equal, that their AUC in %s"
        " bins is right to %.1g alone. Raise StreamConfig.exact_rows if memory"
        " holds all of them, or select by another metric.",
        name,
        f"{self.protocol.auc_bins:,}",
        _up(self.auc_error),
      )

  # -- What was found ---------------------------------------------------------

  def result(self, *, intervals: bool = True) -> ClassificationResult:
    """The numbers of all examples so far.

    Args:
      intervals: whether to compute intervals.

    Raises:
      DataError: no example counts.
    """
    num = self._num_positives + self._num_negatives
    if not num:
      raise DataError(
        f"no example counts: all {self._num_rows} are masked or have weight 0."
      )
    metrics, ends, notes = {}, {}, []
    means = self._state["means"].result(base_rate=self._entropy_rate)
    found = self._delong() if "masses" in self._state else None
    curve = self._curve()
    for key, metric, _ in self.protocol.values():
      if metric == "auc" and found is not None:
        metrics[key] = float(found.auc)
      elif metric == "ece" and curve is not None:
        metrics[key] = float(calibration.calibration_error(curve))
      else:
        metrics[key] = float(means[metric])
      notes += self._notes(key, metric, metrics[key], num)
    if intervals:
      ends = self._intervals(found)
    return ClassificationResult(
      metrics=metrics,
      intervals=ends,
      floor=self._floor(),
      slices={},
      notes=tuple(notes),
      num_examples=num,
      num_positives=self._num_positives,
      weight_sum=float(self._sums[0].sum()),
      reliability=curve,
      roc=self._roc(),
      wall_secs=time.perf_counter() - self._start,
      protocol=self.protocol,
    )

  @property
  def _entropy_rate(self) -> float | None:
    trained = self.protocol.entropy_rate == "training"
    return self.base_rate if trained else None

  def _masses(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of positives and negatives, in float64."""
    state = self._state[name]
    sums = (state.positive, state.negative)
    positive, negative = (
      np.asarray(s.high, np.float64) + np.asarray(s.low) for s in sums
    )
    return positive, negative

  def _delong(self) -> auc.DeLong:
    return auc.delong_from_masses(
      *self._masses("masses"),
      self._masses("squares"),
      (self._num_positives, self._num_negatives),
    )

  def _curve(self) -> calibration.ReliabilityCurve | None:
    if "bins" not in self._state:
      return None
    found = self._state["bins"].curve(num_bins=self.protocol.ece_bins)
    return calibration.ReliabilityCurve(
      *(np.asarray(x, np.float64) for x in found)
    )

  def _roc(self) -> roc.RocCurve | None:
    if "masses" not in self._state:
      return None
    return roc.roc_from_masses(*self._masses("masses"))

  def _intervals(
    self, found: auc.DeLong | None
  ) -> dict[str, tuple[float, float]]:
    ends = classification_intervals.intervals_of_sums(
      self._sums, base_rate=self._entropy_rate, seed=self.seed
    )
    if found is not None:
      ends["auc"] = classification_intervals.delong_interval(found)
    if "ece" in self._names:
      ends["ece"] = classification_intervals.ece_interval_of_sums(
        self._gaps, self._sums[0], seed=self.seed
      )
    return {key: ends[metric] for key, metric, _ in self.protocol.values()}

  def _floor(self) -> dict[str, float]:
    """What the base rate reaches: examples are alike but for their label."""
    rate = self.base_rate
    if rate is None:
      return {}
    weight, _, _, positive = self._sums.sum(axis=1)
    if not self._names & OF_CLASSES:
      square = self._label_squares - 2 * rate * positive + rate**2 * weight
      return {"rmse": float(np.sqrt(square / weight))}
    weights = np.array([weight - positive, positive])
    rows = Rows(np.full(2, rate), np.array([0.0, 1.0]), weights, {})
    judge = Judge(self.protocol, False, rate, self.seed)
    has_rows = [self._num_negatives > 0, self._num_positives > 0]
    return judge.metrics(rows.take(np.array(has_rows)))

  def _notes(self, key: str, metric: str, value: float, num: int):
    if np.isnan(value):
      label = self._sums[3].sum() / self._sums[0].sum()
      yield (
        f"{key} is undefined: all {num:,} examples have the label {label:g}."
      )
    elif metric == "auc":
      yield (
        f"{key} is that of scores in {self.protocol.auc_bins:,} bins, right to"
        f" {_up(self.auc_error):.1g}: of {num:,} examples not all scores are in"
        " memory."
      )


def _up(bound: float) -> float:
  """Rounded up to one digit, for it is a bound."""
  one = decimal.Context(prec=1, rounding=decimal.ROUND_CEILING)
  return float(one.create_decimal(repr(bound)))


@functools.partial(jax.jit, static_argnames="squash")
def _updated(state, score, label, weight, where, *, squash: bool):
  place = _squashed(score) if squash else score
  columns = {
    "masses": (place, weight),
    "squares": (place, weight**2),
    "means": (score, weight),
    "bins": (score, weight),
  }
  new = {}
  for name, running in state.items():
    score, weight = columns[name]
    new[name] = running.update(score, label, weight, where)
  return new


def _squashed(score):
  """Only the order matters to an AUC; an infinite logit lies at the edge."""
  inside = jnp.where(jnp.isinf(score), 0.0, score)
  inside = inside / (1 + jnp.abs(inside) / _EDGE)
  return jnp.where(jnp.isinf(score), jnp.sign(score) * _EDGE, inside)
