"""The metrics of a protocol, and their intervals, of given examples."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Num, Shaped

from recjax.errors import DataError, check_range
from recjax.evaluation import classification_intervals
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.metrics import auc, calibration, classification
from recjax.metrics.examples import probabilities

OF_PROBABILITIES = frozenset({"log_loss", "normalized_entropy", "ece"})
"""Metrics of predicted probabilities."""
OF_CLASSES = frozenset({"auc", "gauc"}) | OF_PROBABILITIES
"""Metrics of labels that are 0 or 1."""


def check_base_rate(
  protocol: ClassificationProtocol, base_rate: float | None
) -> None:
  """Raises unless the base rate is one that the protocol can use.

  Args:
    protocol: how examples are judged.
    base_rate: the mean label of the training data, or None.

  Raises:
    ConfigError: the rate of a class is not between 0 and 1.
    DataError: there is none, and the protocol takes its entropy.
  """
  names = {metric for _, metric, _ in protocol.values()}
  if base_rate is not None:
    if names & OF_CLASSES:
      check_range("base_rate", base_rate, 1e-12, 1 - 1e-12)
  elif protocol.entropy_rate == "training" and "normalized_entropy" in names:
    raise DataError(
      "the protocol takes the entropy of the training rate: give base_rate,"
      " the mean label of the training data."
    )


@dataclasses.dataclass(frozen=True)
class Rows:
  """Examples that all count.

  Attributes:
    score: probabilities, logits or other predictions.
    label: of each.
    weight: of each, above 0.
    groups: by column, the group of each.
  """

  score: Float[np.ndarray, " batch"]
  label: Float[np.ndarray, " batch"]
  weight: Float[np.ndarray, " batch"]
  groups: Mapping[str, Num[np.ndarray, " batch"]]

  def __len__(self) -> int:
    return len(self.score)

  def take(self, index: Shaped[np.ndarray, " part"]) -> "Rows":
    """The examples at some places, or where a mask is True."""
    return Rows(
      self.score[index],
      self.label[index],
      self.weight[index],
      {name: codes[index] for name, codes in self.groups.items()},
    )


@dataclasses.dataclass(frozen=True)
class Judge:
  """Turns rows into the numbers of a protocol.

  Attributes:
    protocol: what to compute.
    from_logits: whether the scores are logits.
    base_rate: of the training data; used if the protocol asks for it.
    seed: of the bootstrap.
  """

  protocol: ClassificationProtocol
  from_logits: bool = False
  base_rate: float | None = None
  seed: int = 0

  def metrics(self, rows: Rows) -> dict[str, float]:
    """The values of all metrics; NaN where one is undefined."""
    data = rows.score, rows.label, rows.weight
    logits = self.from_logits
    clip = self.protocol.log_loss_epsilon
    values = {
      "auc": lambda _: auc.auc_metric(*data),
      "gauc": lambda column: self.grouped(rows, column).value,
      "log_loss": lambda _: classification.log_loss_metric(
        *data, from_logits=logits, epsilon=clip
      ),
      "normalized_entropy": lambda _: classification.normalized_entropy_metric(
        *data,
        from_logits=logits,
        epsilon=clip,
        base_rate=self._entropy_rate(),
      ),
      "ece": lambda _: calibration.calibration_error(self.curve(rows)),
      "rmse": lambda _: classification.rmse_metric(*data, from_logits=logits),
    }
    return {
      key: float(values[metric](column))
      for key, metric, column in self.protocol.values()
    }

  def intervals(self, rows: Rows) -> dict[str, tuple[float, float]]:
    """The 95% intervals of all metrics."""
    p = np.asarray(probabilities(rows.score, from_logits=self.from_logits))
    loss = classification.log_losses(
      rows.score,
      rows.label,
      from_logits=self.from_logits,
      epsilon=self.protocol.log_loss_epsilon,
    )
    means = classification_intervals.mean_intervals(
      np.asarray(loss),
      (p - rows.label) ** 2,
      rows.label,
      rows.weight,
      base_rate=self._entropy_rate(),
      seed=self.seed,
    )
    others = {
      "auc": lambda _: classification_intervals.auc_interval(
        rows.score, rows.label, rows.weight
      ),
      "gauc": lambda column: classification_intervals.grouped_auc_interval(
        auc.group_aucs(**self._by_group(rows, column)), seed=self.seed
      ),
      "ece": lambda _: classification_intervals.ece_interval(
        p, rows.label, rows.weight, **self._bins(), seed=self.seed
      ),
    }
    return {
      key: means[metric] if metric in means else others[metric](column)
      for key, metric, column in self.protocol.values()
    }

  def grouped(self, rows: Rows, column: str) -> auc.GroupedAUC:
    """The grouped AUC, with what it leaves out."""
    return auc.grouped_auc_metric(**self._by_group(rows, column))

  def curve(self, rows: Rows) -> calibration.ReliabilityCurve:
    """The reliability curve, in the bins of the protocol."""
    return calibration.reliability_curve(
      rows.score,
      rows.label,
      rows.weight,
      from_logits=self.from_logits,
      **self._bins(),
    )

  def _by_group(self, rows: Rows, column: str) -> dict:
    return {
      "score": rows.score,
      "label": rows.label,
      "group": rows.groups[column],
      "weight": rows.weight,
      "average": self.protocol.group_weight,
    }

  def _bins(self) -> dict:
    protocol = self.protocol
    return {"num_bins": protocol.ece_bins, "binning": protocol.ece_binning}

  def _entropy_rate(self) -> float | None:
    trained = self.protocol.entropy_rate == "training"
    return self.base_rate if trained else None
