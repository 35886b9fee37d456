"""A protocol of labelled examples: everything that defines a reported number.

Two numbers may stand in one column only when the hashes of their protocols
are equal. For ranked lists see `recjax.evaluation.protocol`.
"""

import dataclasses
import re
import sys

from recjax.errors import ConfigError, check_choice, check_range, nearest
from recjax.evaluation.protocol import hash_fields
from recjax.metrics.auc import GROUP_WEIGHTS
from recjax.metrics.calibration import BINNINGS
from recjax.metrics.classification import EPSILON

METRICS = ("auc", "gauc", "log_loss", "normalized_entropy", "ece", "rmse")
WEIGHTS = ("given", "none")
ENTROPY_RATES = ("evaluated", "training")
_METRIC = re.compile(r"([a-z_]+)(?:@(\w+))?")


@dataclasses.dataclass(frozen=True)
class ClassificationProtocol:
  """How predictions of labels are judged.

  Attributes:
    metrics: names out of "auc", "log_loss", "normalized_entropy", "ece" (the
      expected calibration error), "rmse", and "gauc@COLUMN": the mean of the
      AUCs inside the groups of a column, such as "gauc@user_id".
    weights: "given" counts an example by its weight, "none" as 1.
    log_loss_epsilon: probabilities are clipped to [epsilon, 1 - epsilon]
      in the log-loss and the normalized entropy.
    entropy_rate: the base rate of the normalized entropy: that of the
      "evaluated" examples, or of the "training" ones as in its paper.
    ece_bins: how many bins the calibration error has.
    ece_binning: "equal_width" or "equal_mass".
    auc_bins: in how many bins scores are put for the AUC; 0 is the exact one.
      It is told, and not asked for: an experiment sets it where test rows are
      judged as they pass by, see `recjax.evaluation.running_judge`.
    group_weight: what a group weighs in the mean: "impressions", "size",
      "clicks" or "uniform"; see `recjax.metrics.auc.grouped_auc_metric`.
    selection: how the model was selected, in words; "" is told by the
      experiment.
    preprocessing: how the data were filtered, in words.
    split: the canonical name of the split.
  """

  metrics: tuple[str, ...] = ("auc", "log_loss", "normalized_entropy", "ece")
  weights: str = "given"
  log_loss_epsilon: float = EPSILON
  entropy_rate: str = "evaluated"
  ece_bins: int = 15
  ece_binning: str = "equal_width"
  auc_bins: int = 0
  group_weight: str = "impressions"
  selection: str = ""
  preprocessing: str = ""
  split: str = ""

  def __post_init__(self) -> None:
    check_choice("weights", self.weights, WEIGHTS)
    check_range("log_loss_epsilon", self.log_loss_epsilon, 1e-30, 0.1)
    check_choice("entropy_rate", self.entropy_rate, ENTROPY_RATES)
    check_range("ece_bins", self.ece_bins, 1, integer=True)
    check_range("auc_bins", self.auc_bins, 0, integer=True)
    check_choice("ece_binning", self.ece_binning, BINNINGS)
    check_choice("group_weight", self.group_weight, GROUP_WEIGHTS)
    if not isinstance(self.metrics, tuple) or not self.metrics:
      raise ConfigError(
        "metrics must be a tuple with at least one entry; got"
        f" {self.metrics!r}."
      )
    for name in self.metrics:
      _check_metric(name)

  def values(self) -> tuple[tuple[str, str, str], ...]:
    """(key in results, metric, column of groups or "") of every number."""
    found = []
    for name in dict.fromkeys(self.metrics):
      metric, _, column = name.partition("@")
      found.append((name, metric, column))
    return tuple(found)

  def to_dict(self) -> dict[str, object]:
    """All fields, as JSON knows them; without `auc_bins` where it is 0.

    So the hash of an exact AUC is what it was before there were others.
    """
    fields = dataclasses.asdict(self)
    if not self.auc_bins:
      del fields["auc_bins"]
    fields["metrics"] = list(self.metrics)
    return fields

  def hash(self) -> str:
    """12 hex digits of SHA-256 over all that defines a number.

    The metrics are left out, for a number's own name holds them: the `auc` of
    a table with four columns is that of one with a single column.
    """
    fields = self.to_dict()
    del fields["metrics"]
    return hash_fields(fields)

  def describe(self) -> str:
    """One line for tables."""
    names = {metric for _, metric, _ in self.values()}
    parts = [self.preprocessing, self.split]
    if self.weights == "none":
      parts.append("example weights ignored")
    if self.auc_bins and "auc" in names:
      parts.append(f"AUC of scores in {self.auc_bins:,} bins")
    if names & {"log_loss", "normalized_entropy"}:
      parts.append(f"probabilities clipped at {self.log_loss_epsilon:.2g}")
    if "normalized_entropy" in names and self.entropy_rate == "training":
      parts.append("entropy of the training rate")
    if "ece" in names:
      binning = self.ece_binning.replace("_", " ")
      parts.append(f"ECE over {self.ece_bins} bins of {binning}")
    if "gauc" in names:
      parts.append(f"groups weighted by {self.group_weight}")
    parts.append(self.selection)
    return "; ".join(part for part in parts if part)


def _check_metric(name: object) -> None:
  match = _METRIC.fullmatch(str(name))
  metric = match[1] if match else name
  if metric not in METRICS:
    shown = [m if m != "gauc" else "gauc@COLUMN" for m in METRICS]
    raise ConfigError(
      f"a metric must be one of {', '.join(map(repr, shown))}; got {name!r}."
      f"{nearest(str(metric), METRICS)}"
    )
  column = match[2] if match else None
  if metric == "gauc" and not column:
    raise ConfigError(
      "the grouped AUC must name the column of its groups, such as"
      f" 'gauc@user_id'; got {name!r}."
    )
  if metric != "gauc" and column:
    raise ConfigError(f"only 'gauc' takes a column; got {name!r}.")


def bars_protocol(**changes: object) -> ClassificationProtocol:
  """The protocol of the BARS benchmark for click-through rates.

  AUC and log-loss of scikit-learn, which clips probabilities at the resolution
  of float64: a float32 prediction of exactly 0 or 1 that is wrong costs 36
  nats. Examples have no weights; the best validation AUC picks the epoch.

  Args:
    **changes: fields of `ClassificationProtocol` that differ.

  Returns:
    The protocol.

  References:
    Jieming Zhu et al. BARS: Towards Open Benchmarking for Recommender
    Systems. SIGIR 2022. https://arxiv.org/abs/2205.09626
    https://github.com/reczoo/FuxiCTR, fuxictr/metrics.py
  """
  preset = ClassificationProtocol(
    metrics=("auc", "log_loss"),
    weights="none",
    log_loss_epsilon=sys.float_info.epsilon,
  )
  return dataclasses.replace(preset, **changes)  # pyright: ignore
