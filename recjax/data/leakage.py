"""What a split lets training know that it could not know in life.

Each check counts events (or pairs) and comes to a verdict:

  found    the leak is there, so many times
  none     it was looked for and is not there
  unknown  the data can not tell, or nobody said
  note     no leak, but worth knowing

The checks:

  two_parts: events that stand in more than one part.
  time_order: held-out events that happened before the last training event,
    so that a model is trained on a time it is not asked about yet.
  future_training: pairs of a training and a held-out event in which the
    training event is later; the share is how much of training lies in the
    future of a held-out event, in the mean.
  own_history: held-out events whose item the user had taken before: in
    training, or for test also in validation. Protocols that filter the items
    seen can never rank these targets.
  cold_items: held-out events whose item does not occur in training. No leak;
    an id-based model can only guess them.
  vocabulary: ids that are known only because held-out rows were looked at.
  popularity: held-out rows among those that popularity was counted on.
  negatives_drawable: test positives that a sampler may draw as negatives of
    their own user. A sampler that excludes them in training knows the test
    set; one that draws them in an evaluation ranks a right answer as wrong.
  negatives_drawn: sampled negatives that are test positives of their user.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from recjax.data.interactions import Interactions

# One axis; the parts of a split have different lengths.
Rows = Int[np.ndarray, " _"]


@dataclasses.dataclass(frozen=True)
class Finding:
  """The outcome of one check.

  Attributes:
    check: the check's name; see `leakage_report`.
    part: "validation", "test", or "all".
    verdict: "found", "none", "unknown" or "note".
    count: how many were found; None if unknown.
    total: among how many.
    text: the finding in a sentence.
  """

  check: str
  part: str
  verdict: str
  count: int | None
  total: int
  text: str

  @property
  def share(self) -> float | None:
    """The count over the total; None if unknown, 0 of nothing."""
    if self.count is None:
      return None
    return self.count / self.total if self.total else 0.0


@dataclasses.dataclass(frozen=True)
class LeakageReport:
  """All findings of a split, in the order in which they were looked for."""

  findings: tuple[Finding, ...]

  def finding(self, check: str, part: str = "test") -> Finding:
    """The finding of a check; raises KeyError where it was not made."""
    for finding in self.findings:
      if finding.check == check and finding.part in (part, "all"):
        return finding
    known = sorted({finding.check for finding in self.findings})
    raise KeyError(f"no check {check!r} of {part!r}; checks: {known}")

  @property
  def leaks(self) -> tuple[str, ...]:
    """The names of the checks that found something, each once."""
    found = [f.check for f in self.findings if f.verdict == "found"]
    return tuple(dict.fromkeys(found))

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
      "leaks": list(self.leaks),
      "findings": [
        dataclasses.asdict(finding) | {"share": finding.share}
        for finding in self.findings
      ],
    }

  def lines(self) -> list[str]:
    """One line a finding: verdict, check, sentence."""
    return [
      f"{finding.verdict:<7} {finding.check}: {finding.text}"
      for finding in self.findings
    ]


def leakage_report(
  interactions: Interactions,
  train: Rows,
  validation: Rows,
  test: Rows,
  *,
  vocabulary_rows: Rows | None = None,
  popularity_rows: Rows | None = None,
  sampler_excluded_rows: Rows | None = None,
  negatives: tuple[Int[np.ndarray, " batch"], Int[np.ndarray, "batch cand"]]
  | None = None,
) -> LeakageReport:
  """Looks for what a model should not know; see the module for the checks.

  Args:
    interactions: the data.
    train: training rows.
    validation: validation rows.
    test: test rows.
    vocabulary_rows: the rows that ids were given out on; by default all rows
      of `interactions`, as the sources do.
    popularity_rows: the rows that popularity was counted on, if it was.
    sampler_excluded_rows: the rows whose items a sampler never draws for
      their user, if negatives are sampled.
    negatives: users, and the negatives sampled for each.
  """
  findings = [_two_parts(train, validation, test)]
  for part, rows in (("validation", validation), ("test", test)):
    findings += _time_order(interactions, train, part, rows)
  for part, rows, known in (
    ("validation", validation, train),
    ("test", test, np.concatenate([train, validation])),
  ):
    findings.append(_own_history(interactions, known, part, rows))
    findings.append(_cold_items(interactions, train, part, rows))
  held_out = np.concatenate([validation, test])
  findings.append(_vocabulary(interactions, train, vocabulary_rows))
  findings.append(_popularity(held_out, popularity_rows))
  findings.append(_drawable(interactions, test, sampler_excluded_rows))
  if negatives is not None:
    count = positives_among_negatives(interactions, test, *negatives)
    findings.append(
      _counted(
        "negatives_drawn",
        "test",
        count,
        negatives[1].size,
        "{} of {} sampled negatives are test positives of their user",
      )
    )
  return LeakageReport(tuple(findings))


def drawable_positives(
  interactions: Interactions, positive_rows: Rows, excluded_rows: Rows
) -> int:
  """How many (user, item) pairs a sampler may draw as negatives, wrongly.

  Args:
    interactions: the data.
    positive_rows: the rows of the positives; equal pairs count once.
    excluded_rows: the rows whose items are never drawn for their user.
  """
  positives = np.unique(_pairs(interactions, positive_rows))
  excluded = _pairs(interactions, excluded_rows)
  return int((~_occurs(positives, excluded)).sum())


def positives_among_negatives(
  interactions: Interactions,
  positive_rows: Rows,
  user_id: Int[np.ndarray, " batch"],
  negatives: Int[np.ndarray, "batch cand"],
) -> int:
  """How many sampled negatives are positives of their user.

  Args:
    interactions: the data.
    positive_rows: the rows of the positives.
    user_id: a user a list.
    negatives: the list of each; 0 is padding.
  """
  width = interactions.num_items + 1
  drawn = user_id[:, None].astype(np.int64) * width + negatives
  hits = np.isin(drawn, _pairs(interactions, positive_rows))
  return int((hits & (negatives >= 0) & (negatives < width)).sum())


def _pairs(interactions: Interactions, rows: Rows) -> np.ndarray:
  """One number for each (user, item)."""
  users = interactions.user_id[rows].astype(np.int64)
  return users * (interactions.num_items + 1) + interactions.item_id[rows]


def _occurs(wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
  """np.isin(wanted, known), but it sorts `wanted`, which is far smaller."""
  if not len(wanted):
    return np.zeros(0, bool)
  values, inverse = np.unique(wanted, return_inverse=True)
  place = np.minimum(np.searchsorted(values, known), len(values) - 1)
  found = np.zeros(len(values), bool)
  found[place[values[place] == known]] = True
  return found[inverse]


def _counted(
  check: str, part: str, count: int, total: int, text: str
) -> Finding:
  verdict = "found" if count else "none"
  text = text.format(f"{count:,}", f"{total:,}")
  return Finding(check, part, verdict, count, total, text)


def _two_parts(train: Rows, validation: Rows, test: Rows) -> Finding:
  times = np.bincount(np.concatenate([train, validation, test]))
  return _counted(
    "two_parts",
    "all",
    int((times > 1).sum()),
    int((times > 0).sum()),
    "{} of {} events stand in more than one part",
  )


def _time_order(
  interactions: Interactions, train: Rows, part: str, rows: Rows
) -> list[Finding]:
  time = interactions.timestamp
  total_pairs = len(rows) * len(train)
  if time is None:
    text = f"without timestamps nobody can tell of {part}"
    return [
      Finding("time_order", part, "unknown", None, len(rows), text),
      Finding("future_training", part, "unknown", None, total_pairs, text),
    ]
  # later[i]: training events after the i-th held-out event.
  later = len(train) - np.searchsorted(
    np.sort(time[train]), time[rows], side="right"
  )
  order = _counted(
    "time_order",
    part,
    int((later > 0).sum()),
    len(rows),
    f"{{}} of {{}} {part} events happened before the last training event",
  )
  pairs = int(later.sum(dtype=np.int64))
  share = pairs / total_pairs if total_pairs else 0.0
  future = Finding(
    "future_training",
    part,
    "found" if pairs else "none",
    pairs,
    total_pairs,
    f"in the mean {share:.1%} of training happened after a {part} event",
  )
  return [order, future]


def _own_history(
  interactions: Interactions, known: Rows, part: str, rows: Rows
) -> Finding:
  before = _occurs(_pairs(interactions, rows), _pairs(interactions, known))
  return _counted(
    "own_history",
    part,
    int(before.sum()),
    len(rows),
    f"{{}} of {{}} {part} targets stand in their own history",
  )


def _cold_items(
  interactions: Interactions, train: Rows, part: str, rows: Rows
) -> Finding:
  warm = _items(interactions, train)
  count = int((~warm[interactions.item_id[rows]]).sum())
  finding = _counted(
    "cold_items",
    part,
    count,
    len(rows),
    f"{{}} of {{}} {part} targets never occur in training",
  )
  return dataclasses.replace(finding, verdict="note") if count else finding


def _items(interactions: Interactions, rows: Rows) -> np.ndarray:
  seen = np.zeros(interactions.num_items + 1, bool)
  seen[interactions.item_id[rows]] = True
  return seen


def _vocabulary(
  interactions: Interactions, train: Rows, rows: Rows | None
) -> Finding:
  fitted = _items(interactions, np.arange(len(interactions)))
  if rows is not None:
    fitted = _items(interactions, rows)
  only_held_out = fitted & ~_items(interactions, train)
  return _counted(
    "vocabulary",
    "all",
    int(only_held_out.sum()),
    int(fitted.sum()),
    "{} of {} item ids were given out because of held-out events alone",
  )


def _drawable(
  interactions: Interactions, test: Rows, excluded: Rows | None
) -> Finding:
  check = "negatives_drawable"
  if excluded is None:
    text = "nobody said which items the sampler of negatives leaves out"
    return Finding(check, "test", "unknown", None, len(test), text)
  return _counted(
    check,
    "test",
    drawable_positives(interactions, test, excluded),
    len(test),
    "{} of {} test positives may be drawn as negatives of their user",
  )


def _popularity(held_out: Rows, rows: Rows | None) -> Finding:
  if rows is None:
    text = "nobody said which events popularity was counted on"
    return Finding("popularity", "all", "unknown", None, len(held_out), text)
  return _counted(
    "popularity",
    "all",
    int(np.isin(held_out, rows).sum()),
    len(held_out),
    "popularity was counted on {} of {} held-out events",
  )
