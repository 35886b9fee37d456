"""A protocol: everything that defines a reported number.

Two numbers may stand in one column only when the hashes of their protocols
are equal.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from recjax.data.eval_set import PER
from recjax.errors import ConfigError, check_choice, check_range
from recjax.evaluation.candidates import (
  AllItems,
  Candidates,
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
)
from recjax.metrics.ranking import NDCG_IDEALS, RECALL_DENOMINATORS
from recjax.metrics.ranks import TIE_RULES

METRICS = ("hit_rate", "recall", "precision", "ndcg", "mrr", "map")
EXCLUDE_SEEN = ("history", "train", "none")
_METRIC = re.compile(r"([a-z_]+)(?:@(\d+))?")


def hash_fields(fields: Mapping[str, object]) -> str:
  """12 hex digits of SHA-256 over the canonical JSON of the fields."""
  text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a ranking is judged.

  A target is always a candidate, also where it was seen before; a target that
  is listed twice counts once; items tied with it are settled by `ties`.

  Attributes:
    candidates: what a target is ranked among.
    exclude_seen: seen items that are no candidates, for `AllItems`:
      "history" (all the model may see), "train" or "none".
    cutoffs: where the lists are cut.
    metrics: names such as "ndcg", computed at every cut-off, "ndcg@5" at one
      cut-off, "mrr" without one.
    ties: "expected", "optimistic" or "pessimistic".
    recall_denominator: "targets" or "min_k_targets".
    ndcg_ideal: "min_k_targets" or "retrieved".
    max_users: users judged (queries, if `per` is "event"), a random choice
      of them when there are more; 0 for all.
    user_seed: of that choice.
    selection: how the model was selected, in words.
    preprocessing: how the data were filtered, in words.
    split: the canonical name of the split.
    per: "user" means one value a user, over all the user's targets; "event"
      one value a target, so that a user counts as often as there are targets.
  """

  candidates: Candidates = AllItems()
  exclude_seen: str = "history"
  cutoffs: tuple[int, ...] = (10,)
  metrics: tuple[str, ...] = ("hit_rate", "ndcg", "mrr")
  ties: str = "expected"
  recall_denominator: str = "targets"
  ndcg_ideal: str = "min_k_targets"
  max_users: int = 0
  user_seed: int = 0
  selection: str = "best validation"
  preprocessing: str = ""
  split: str = ""
  per: str = "user"

  def __post_init__(self) -> None:
    if not isinstance(self.candidates, Candidates):
      raise ConfigError(
        "candidates must be AllItems(), UniformNegatives(...),"
        " PopularityNegatives(...) or GivenLists(...); got"
        f" {self.candidates!r}."
      )
    check_choice("exclude_seen", self.exclude_seen, EXCLUDE_SEEN)
    check_choice("ties", self.ties, TIE_RULES)
    check_choice(
      "recall_denominator", self.recall_denominator, RECALL_DENOMINATORS
    )
    check_choice("ndcg_ideal", self.ndcg_ideal, NDCG_IDEALS)
    check_choice("per", self.per, PER)
    check_range("max_users", self.max_users, 0, integer=True)
    check_range("user_seed", self.user_seed, 0, integer=True)
    for what in ("cutoffs", "metrics"):
      value = getattr(self, what)
      if not isinstance(value, tuple) or not value:
        raise ConfigError(
          f"{what} must be a tuple with at least one entry; got {value!r}."
        )
    for k in self.cutoffs:
      check_range("a cut-off", k, 1, integer=True)
    for name in self.metrics:
      match = _METRIC.fullmatch(str(name))
      check_choice("a metric", match[1] if match else name, METRICS)
      if match and match[2]:
        check_range(f"the cut-off of {name!r}", int(match[2]), 1)

  def values(self) -> tuple[tuple[str, str, int | None], ...]:
    """(key in results, metric, cut-off or None) of every number, in order."""
    out = []
    for name in self.metrics:
      metric, k = _METRIC.fullmatch(name).groups()  # pyright: ignore
      if k is not None:
        out.append((name, metric, int(k)))
      elif metric == "mrr":
        out.append((name, metric, None))
      else:
        out += [(f"{metric}@{k}", metric, k) for k in self.cutoffs]
    return tuple(dict.fromkeys(out))

  def choose(self, num: int) -> Int[np.ndarray, " chosen"]:
    """Which of `num` queries are judged, in their order: `max_users` of them.

    Args:
      num: queries there are.
    """
    if not self.max_users or num <= self.max_users:
      return np.arange(num)
    rng = np.random.default_rng(self.user_seed)
    return np.sort(rng.choice(num, self.max_users, replace=False))

  def to_dict(self) -> dict[str, object]:
    """All fields, as JSON knows them; `per` only where it is "event"."""
    fields: dict[str, object] = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }
    fields["candidates"] = self.candidates.to_dict()
    fields["cutoffs"] = list(self.cutoffs)
    fields["metrics"] = list(self.metrics)
    if self.per == "user":
      del fields["per"]
    return fields

  def hash(self) -> str:
    """12 hex digits of SHA-256 over all that defines a number.

    Cut-offs and metrics are left out, for a number's own name holds them: the
    `ndcg@10` of a table with four columns is that of one with a single column.
    So are settings without effect: `exclude_seen` among given candidates and
    `user_seed` when all users are judged; and `per` where it is "user", which
    all protocols were before there was a choice.
    """
    fields = self.to_dict()
    del fields["cutoffs"], fields["metrics"]
    if not isinstance(self.candidates, AllItems):
      del fields["exclude_seen"]
    if not self.max_users:
      del fields["user_seed"]
    return hash_fields(fields)

  def describe(self) -> str:
    """One line for tables."""
    parts = [self.preprocessing, self.split, self.candidates.describe()]
    if isinstance(self.candidates, AllItems):
      seen = {"none": "seen items kept", "history": "seen items filtered"}
      parts.append(seen.get(self.exclude_seen, "training items filtered"))
    parts.append(f"{self.ties} ties")
    if self.recall_denominator != "targets":
      parts.append("recall over min(k, targets)")
    if self.ndcg_ideal == "retrieved":
      parts.append("NDCG over the retrieved ideal")
    if self.per == "event":
      parts.append("one query an event")
    if self.max_users:
      parts.append(f"at most {self.max_users:,} {self.per}s")
    parts.append(self.selection)
    return "; ".join(part for part in parts if part)


def full_catalogue_protocol(**changes: object) -> Protocol:
  """Ranks all items that the user has not seen, with expected ties.

  Sampled candidates do not keep the order of models; the whole catalogue does.

  Args:
    **changes: fields of `Protocol` that differ.

  Returns:
    The protocol.

  References:
    Walid Krichene, Steffen Rendle. On Sampled Metrics for Item
    Recommendation. KDD 2020. https://doi.org/10.1145/3394486.3403226
    Anton Klenitskiy, Alexey Vasilev. Turning Dross Into Gold Loss. RecSys
    2023. https://arxiv.org/abs/2309.07602
  """
  return dataclasses.replace(Protocol(), **changes)


def sasrec_paper_protocol(**changes: object) -> Protocol:
  """The protocol of the SASRec paper, as its official code has it.

  100 items drawn uniformly with replacement, training items excluded: at test
  the validation item and the target itself may be drawn, and the target's own
  copies tie with it. The target stands first in a list that NumPy argsorts,
  so it wins its ties up to the whims of an unstable sort: "optimistic" here.
  More than 10,000 users are sampled down to 10,000; the official code draws
  them and the negatives anew, unseeded, at each evaluation.

  Args:
    **changes: fields of `Protocol` that differ.

  Returns:
    The protocol.

  References:
    Wang-Cheng Kang, Julian McAuley. Self-Attentive Sequential
    Recommendation. ICDM 2018. https://arxiv.org/abs/1808.09781
    https://github.com/kang205/SASRec, util.py
  """
  preset = Protocol(
    candidates=UniformNegatives(num=100, exclude="train"),
    ties="optimistic",
    max_users=10_000,
    split="leave_one_out(min_actions=3)",
  )
  return dataclasses.replace(preset, **changes)


def bert4rec_paper_protocol(**changes: object) -> Protocol:
  """The protocol of the BERT4Rec paper, as its official code has it.

  100 items drawn by popularity without replacement; the whole history and the
  target are excluded. Popularity is counted over all data, test included.
  Ties as in `sasrec_paper_protocol`.

  Args:
    **changes: fields of `Protocol` that differ.

  Returns:
    The protocol.

  References:
    Fei Sun et al. BERT4Rec: Sequential Recommendation with Bidirectional
    Encoder Representations from Transformer. CIKM 2019.
    https://arxiv.org/abs/1904.06690
    https://github.com/FeiSun/BERT4Rec, run.py
  """
  preset = Protocol(
    candidates=PopularityNegatives(num=100, counts_from="all"),
    ties="optimistic",
    split="leave_one_out(min_actions=3)",
  )
  return dataclasses.replace(preset, **changes)


def ncf_protocol(path: str, **changes: object) -> Protocol:
  """The protocol of the NCF paper: 99 given negatives a user.

  The positive is the last entry of a dictionary whose largest are taken, so it
  loses its ties: "pessimistic". Items listed twice merge.

  Args:
    path: the `*.test.negative` file.
    **changes: fields of `Protocol` that differ.

  Returns:
    The protocol.

  References:
    Xiangnan He et al. Neural Collaborative Filtering. WWW 2017.
    https://arxiv.org/abs/1708.05031
    https://github.com/hexiangnan/neural_collaborative_filtering, evaluate.py
  """
  preset = Protocol(
    candidates=GivenLists(path),
    metrics=("hit_rate", "ndcg"),
    ties="pessimistic",
    selection="best test epoch",
    split="given files",
  )
  return dataclasses.replace(preset, **changes)


def tfrs_protocol(**changes: object) -> Protocol:
  """The protocol of TensorFlow Recommenders' tutorials, as their code has it.

  Every test event is a query (`FactorizedTopK` counts examples, not users),
  ranked among all items; items seen in training are not excluded. The
  tutorials split 100,000 ratings of MovieLens-100K at random, 80 to 20, have
  no validation part and take the weights of the last epoch.

  Two things are not copied. Their items are titles, 18 of which stand twice
  among the 1,682 candidates. And they compare the target's score, a sum of
  products, with those of a matrix product, among them the target's own: where
  the two are rounded differently, a target stands below itself, which costs
  top-1 most.

  Args:
    **changes: fields of `Protocol` that differ.

  Returns:
    The protocol.

  References:
    TensorFlow Recommenders: retrieval.
    https://www.tensorflow.org/recommenders/examples/basic_retrieval
    https://github.com/tensorflow/recommenders, metrics/factorized_top_k.py
  """
  preset = Protocol(
    exclude_seen="none",
    cutoffs=(1, 5, 10, 50, 100),
    metrics=("hit_rate",),
    per="event",
  )
  return dataclasses.replace(preset, **changes)
