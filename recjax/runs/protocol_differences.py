"""What the difference of two protocols means for their numbers, in sentences.

A pure function of two protocols as records hold them. Where it is known whose
numbers are higher for one and the same model, it is said; "higher" is "as high
or higher". Numbers of the two are not comparable in any case.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

_NAMES = ("A", "B")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_Told = tuple[str, int]
"""A sentence, and 1 where A's numbers are higher, -1 where B's are, 0 else."""


@dataclasses.dataclass(frozen=True)
class FieldDifference:
  """One field that two protocols have otherwise.

  Attributes:
    field: its name; "candidates.num" for one of the candidates.
    a: what the one has; None if its record does not hold it.
    b: what the other has.
    text: what that means for the numbers.
    higher: "a" or "b" where its numbers are known to be higher, at least
      usually; "" where nothing is known, or nothing changes.
  """

  field: str
  a: Any
  b: Any
  text: str
  higher: str = ""

  def line(self, names: tuple[str, str] = _NAMES) -> str:
    """The difference in one line.

    Args:
      names: of the two.
    """
    text = f"{self.field}: {names[0]} {_show(self.a)}, {names[1]}"
    text += f" {_show(self.b)}. {self.text}"
    if self.higher:
      name = names["ab".index(self.higher)]
      text += f" By this alone, the numbers of {name} are higher."
    return text


def explain_protocols(
  a: Mapping[str, Any], b: Mapping[str, Any]
) -> list[FieldDifference]:
  """Explains every field that differs.

  Args:
    a: a protocol, of `to_dict` or of result.json.
    b: another.

  Returns:
    The differences in the order of the fields; none for equal protocols.
  """
  a, b = _complete(a), _complete(b)
  if ("candidates" in a) != ("candidates" in b) and {**a, **b}.keys() & _LABELS:
    text = (
      "One protocol ranks items, the other judges predictions of labels: they"
      " have no metric in common."
    )
    one, two = ("lists" if "candidates" in x else "labels" for x in (a, b))
    return [FieldDifference("kind", one, two, text)]
  found = []
  for field in {**a, **b}:
    one, two = a.get(field), b.get(field)
    if one == two:
      continue
    if field == "candidates" and one and two:
      found += _candidates(a, b)
    else:
      found.append(_explained(field, one, two, _without_effect(field, a, b)))
  return found


def explanation_lines(
  a: Mapping[str, Any],
  b: Mapping[str, Any],
  names: tuple[str, str] = _NAMES,
) -> list[str]:
  """The lines of `explain_protocols`.

  Args:
    a: a protocol.
    b: another.
    names: of the two.
  """
  return [each.line(names) for each in explain_protocols(a, b)]


def _complete(protocol: Mapping[str, Any]) -> dict[str, Any]:
  """With the fields that are left out where they are what they always were."""
  found = dict(protocol)
  if isinstance(candidates := found.get("candidates"), Mapping):
    if candidates.get("kind") == "all_items":
      found["candidates"] = {"among": "all", **candidates}
    found.setdefault("per", "user")
  if "ece_bins" in found:
    found.setdefault("auc_bins", 0)
  return found


def _explained(field: str, a: Any, b: Any, idle: str = "") -> FieldDifference:
  if idle:
    return FieldDifference(field, a, b, idle)
  if a is None or b is None:
    text = "One of the records does not hold it, so nobody can tell."
    return FieldDifference(field, a, b, text)
  tell = FIELDS.get(field)
  if tell is None:
    text = "What it changes is not written down; see docs/protocols.md."
    return FieldDifference(field, a, b, text)
  text, sign = tell(a, b)
  return FieldDifference(field, a, b, text, ("b", "", "a")[sign + 1])


def _without_effect(
  field: str, a: Mapping[str, Any], b: Mapping[str, Any]
) -> str:
  """Why a difference changes nothing; "" where it does."""
  kinds = [(x.get("candidates") or {}).get("kind") for x in (a, b)]
  if field == "exclude_seen" and "all_items" not in kinds and any(kinds):
    return "Without effect: candidates are given, not filtered."
  if field == "user_seed" and not (a.get("max_users") or b.get("max_users")):
    return "Without effect: all users are judged."
  return ""


# --- Candidates --------------------------------------------------------------


def _candidates(
  a: Mapping[str, Any], b: Mapping[str, Any]
) -> list[FieldDifference]:
  one, two = a["candidates"], b["candidates"]
  if one.get("kind") != two.get("kind"):
    text, sign = _kinds(one, two)
    higher = ("b", "", "a")[sign + 1]
    return [
      FieldDifference(
        "candidates", _describe(one), _describe(two), text, higher
      )
    ]
  return [
    _explained(f"candidates.{name}", one.get(name), two.get(name))
    for name in {**one, **two}
    if one.get(name) != two.get(name)
  ]


def _describe(candidates: Mapping[str, Any]) -> str:
  kind = candidates.get("kind")
  if kind == "all_items":
    among = candidates.get("among", "all")
    return "the whole catalogue" if among == "all" else "all unseen items"
  if kind == "given_lists":
    return "given lists"
  return f"{candidates.get('num')} {kind} negatives"


def _kinds(a: Mapping[str, Any], b: Mapping[str, Any]) -> _Told:
  kinds = {str(a.get("kind")): 1, str(b.get("kind")): -1}
  if "all_items" in kinds:
    sampled = next(kind for kind in kinds if kind != "all_items")
    text = {
      "uniform": "A target competes with some drawn items and not with all, and"
      " a rank among them sees the coarse end of the list alone.",
      "popularity": "A target competes with some popular items and not with"
      " all. They are harder than uniform draws, and still few.",
      "given_lists": "A target competes with a short list and not with all.",
    }.get(sampled, "A target competes with other items.")
    text += (
      " Sampled metrics can reverse the order of two models; `recjax report`"
      " shows their bias on the same run."
    )
    return text, kinds[sampled]
  if kinds.keys() == {"uniform", "popularity"}:
    return (
      "Popular items are harder to beat than uniform draws, for a model that"
      " has learned anything of popularity.",
      kinds["uniform"],
    )
  return "A target competes with items that came about otherwise.", 0


def _num(a: Any, b: Any) -> _Told:
  text = (
    "Among fewer drawn items a target ranks higher; the value of a sampled"
    " metric hangs on the number of draws."
  )
  return text, 1 if a < b else -1


def _with_replacement(a: Any, b: Any) -> _Told:
  return (
    "With replacement an item that is drawn twice counts twice: a target's"
    " rank is the same on average and spreads a little more. It matters where"
    " the draws are many beside the catalogue.",
    0,
  )


# --- Fields ------------------------------------------------------------------


def _in_order(text: str, *low_to_high: str) -> Callable[[Any, Any], _Told]:
  """A field whose values are known from the lowest numbers to the highest."""

  def tell(a: Any, b: Any) -> _Told:
    if a not in low_to_high or b not in low_to_high:
      return text, 0
    places = low_to_high.index(a), low_to_high.index(b)
    return text, (places[0] > places[1]) - (places[0] < places[1])

  return tell


def _either(text: str) -> Callable[[Any, Any], _Told]:
  """A field that moves numbers in no known direction, or not at all."""
  return lambda a, b: (text, 0)


def _fewer_users(a: Any, b: Any) -> _Told:
  return (
    "Some users, drawn at random, stand for all: right on average, with wider"
    " intervals; 0 is all.",
    0,
  )


_COLUMNS = (
  "Without effect on a number: its name holds it, and it has no part in the"
  " hash."
)
_HARD_SEEN = (
  "Items that a user has seen, and a model likes, take places above the target"
  " where they are candidates."
)
FIELDS: dict[str, Callable[[Any, Any], _Told]] = {
  # Of ranked lists.
  "candidates.num": _num,
  "candidates.with_replacement": _with_replacement,
  "candidates.exclude": _in_order(
    f"{_HARD_SEEN} Where the target itself may be drawn, its copies tie with"
    " it.", "none", "train", "history", "history_and_targets",
  ),
  "candidates.seed": _either(
    "Other draws of the same kind: a matter of chance, about as wide as the"
    " intervals."
  ),
  "candidates.counts_from": _either(
    "Counts over all data know the test, a little: items popular in the test"
    " part are drawn more often there."
  ),
  "candidates.digest": _either(
    "The lists hold other items. Short lists, and lists of items that nobody"
    " likes, give higher numbers."
  ),
  "candidates.among": _in_order(
    "Among the items without a training event alone there are fewer"
    " candidates, and chance is another; only new items are targets that such"
    " a number speaks of.", "all", "unseen",
  ),
  "exclude_seen": _in_order(_HARD_SEEN, "none", "train", "history"),
  "cutoffs": _either(_COLUMNS),
  "metrics": _either(_COLUMNS),
  "ties": _in_order(
    "It decides where scores are equal, and only there. Under optimistic ties"
    " a constant scorer has a hit rate of 1, under pessimistic ones of 0, and"
    " chance under expected ones.", "pessimistic", "expected", "optimistic",
  ),
  "recall_denominator": _in_order(
    "Hits are divided by all targets, or by min(k, targets), so that a recall"
    " of 1 can be reached. It changes recall alone, of users with more than k"
    " targets.", "targets", "min_k_targets",
  ),
  "ndcg_ideal": _in_order(
    "The ideal list holds min(k, targets) targets, or only those that were"
    " found, which forgives misses. It changes NDCG alone, of users with"
    " several targets.", "min_k_targets", "retrieved",
  ),
  "max_users": _fewer_users,
  "user_seed": _either(
    "Other users are drawn: a matter of chance, about as wide as the intervals."
  ),
  "per": _either(
    "Per user, each user has one value over all targets; per event, each"
    " target has one, so that a user with forty events counts forty times."
    " Whose numbers are higher hangs on whether users with many events are"
    " easier."
  ),
  # Of all.
  "selection": _either(
    "The weights were chosen otherwise. Chosen by the test part, numbers are"
    " too high, the more epochs or settings were tried."
  ),
  "preprocessing": _either(
    "Other events are left, so users, items and targets are others. Filters"
    " that leave denser data usually raise numbers."
  ),
  "split": _either(
    "Other events are asked for, after other histories. A split that trains on"
    " what comes after its test usually raises numbers."
  ),
  # Of labelled examples.
  "weights": _either(
    "An example counts by its weight, or as 1: the metrics are means over"
    " other populations."
  ),
  "log_loss_epsilon": _either(
    "Probabilities are clipped to it: a wrong prediction of 0 or 1 costs"
    " -log(epsilon). It changes log-loss and normalized entropy, and a smaller"
    " epsilon makes sure mistakes dearer."
  ),
  "entropy_rate": _either(
    "Another base rate stands under the normalized entropy, and changes it"
    " alone: the nearer a rate is to one half, the lower is the number."
  ),
  "ece_bins": _either(
    "It changes the calibration error alone. In finer bins errors cancel less,"
    " so that more bins usually give a higher error."
  ),
  "ece_binning": _either(
    "It changes the calibration error alone: bins of equal width, or of"
    " equally many examples."
  ),
  "auc_bins": _either(
    "It changes the AUC alone: that of scores in bins is off by what a note of"
    " the run tells, and 0 is the exact one."
  ),
  "group_weight": _either(
    "It changes the grouped AUC alone: what a group weighs in the mean."
  ),
}  # fmt: skip
"""What each field changes, by its name."""
_LABELS = frozenset(
  {
    "weights",
    "log_loss_epsilon",
    "entropy_rate",
    "ece_bins",
    "ece_binning",
    "auc_bins",
    "group_weight",
  }
)


def _show(value: Any) -> str:
  if value is None:
    return "unknown"
  if isinstance(value, (list, tuple)):
    return ", ".join(map(str, value))
  text = repr(value) if value == "" else str(value)
  return text[:12] if _DIGEST.fullmatch(text) else text
