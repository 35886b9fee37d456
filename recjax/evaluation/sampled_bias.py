"""What sampling did to the metrics of one evaluation, as a record holds it."""

import dataclasses
from typing import Any

from recjax.evaluation.candidates import AllItems
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.sampled_estimators import Corrected

HEADLINE = "mle"
"""The estimate that tables show. It is a mean over a distribution of ranks, and
so lies where the metric does."""


@dataclasses.dataclass(frozen=True)
class MetricBias:
  """A metric among drawn candidates, beside that in the whole catalogue.

  Attributes:
    sampled: among the draws.
    full: in the catalogue; None where it was not measured.
    full_interval: its 95% interval, over users.
    bias: sampled - full.
    bias_interval: of the bias, over users, each with both values.
    corrected: estimates of the full metric from the draws, by estimator.
  """

  sampled: float
  full: float | None = None
  full_interval: tuple[float, float] | None = None
  bias: float | None = None
  bias_interval: tuple[float, float] | None = None
  corrected: dict[str, Corrected] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SampledBias:
  """The bias of all metrics of an evaluation.

  Attributes:
    metrics: by key.
    full_protocol: the protocol of the full metrics; None without them.
    not_corrected: why there are no corrected estimates; "" where there are.
    blind_below: of uniform draws, the median over queries of items in the
      pool for each draw. Ranks below it look alike, and what corrected
      estimates say of cut-offs below it is mostly their prior's.
    wall_secs: how long the full ranking took.
  """

  metrics: dict[str, MetricBias]
  full_protocol: Protocol | None = None
  not_corrected: str = ""
  blind_below: float | None = None
  wall_secs: float = 0.0

  def to_dict(self) -> dict[str, Any]:
    """What result.json holds under "sampled_bias"."""
    rows = {}
    for key, found in self.metrics.items():
      row = dataclasses.asdict(found)
      row["corrected"] = {
        name: estimate._asdict() for name, estimate in found.corrected.items()
      }
      rows[key] = row
    protocol = self.full_protocol
    return {
      "metrics": rows,
      "headline": HEADLINE,
      "full_protocol": protocol and protocol.to_dict(),
      "full_protocol_text": protocol.describe() if protocol else "",
      "full_protocol_hash": protocol.hash() if protocol else "",
      "not_corrected": self.not_corrected,
      "blind_below": self.blind_below,
      "wall_secs": self.wall_secs,
    }

  def lines(self) -> list[str]:
    """One line a metric, for a terminal."""
    found = []
    for key, row in self.metrics.items():
      text = f"{key} sampled {row.sampled:.4f}"
      if row.full is not None and row.bias is not None:
        text += f"  full {row.full:.4f}{_ends(row.full_interval)}"
        text += f"  bias {row.bias:+.4f}{_ends(row.bias_interval, '+')}"
      if HEADLINE in row.corrected:
        value, interval = row.corrected[HEADLINE]
        text += f"  corrected ({HEADLINE}) {value:.4f}{_ends(interval)}"
      found.append(text)
    if self.not_corrected:
      found.append(f"not corrected: {self.not_corrected}")
    return found


def _ends(interval: tuple[float, float] | None, sign: str = "") -> str:
  if interval is None:
    return ""
  low, high = interval
  return f" [{low:{sign}.4f}, {high:{sign}.4f}]"


def full_counterpart(protocol: Protocol) -> Protocol:
  """The protocol that ranks the whole catalogue, and is otherwise the same.

  Items that are never drawn are no candidates; targets always are. Of given
  lists nobody knows what was left out: there, `exclude_seen` of the protocol
  says it.

  Args:
    protocol: with sampled candidates.
  """
  seen = {"history_and_targets": "history"}
  exclude = getattr(protocol.candidates, "exclude", protocol.exclude_seen)
  return dataclasses.replace(
    protocol,
    candidates=AllItems(),
    exclude_seen=seen.get(exclude, exclude),
  )
