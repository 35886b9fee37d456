"""Every field has its sentence; whose numbers are higher is tried out."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.eval_set import EvalSet
from recjax.data.ragged import Ragged
from recjax.evaluation.candidates import (
  AllItems,
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
)
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.evaluate import evaluate
from recjax.evaluation.protocol import Protocol
from recjax.retrieval.scorers import DotProductScorer
from recjax.runs.protocol_differences import (
  FIELDS,
  FieldDifference,
  explain_protocols,
  explanation_lines,
)

NUM_ITEMS, NUM_USERS = 80, 300
LISTS = [
  Ragged.from_pairs(np.arange(3), np.array(row), 3)
  for row in ([1, 2, 3], [4, 5, 6])
]
# Another value of each field: a new field stands in none of these, and fails.
OTHER = {
  "exclude_seen": "none",
  "cutoffs": (5,),
  "metrics": ("map",),
  "ties": "optimistic",
  "recall_denominator": "min_k_targets",
  "ndcg_ideal": "retrieved",
  "max_users": 7,
  "user_seed": 1,
  "selection": "best test epoch",
  "preprocessing": "5-core",
  "split": "by time",
  "per": "event",
  "num": 7,
  "with_replacement": True,
  "exclude": "none",
  "seed": 1,
  "counts_from": "all",
  "among": "unseen",
}
OTHER_LABELS = {
  "metrics": ("auc",),
  "weights": "none",
  "log_loss_epsilon": 1e-3,
  "entropy_rate": "training",
  "ece_bins": 7,
  "ece_binning": "equal_mass",
  "auc_bins": 100,
  "group_weight": "size",
  "selection": "last weights",
  "preprocessing": "first day",
  "split": "rows",
}


pytestmark = pytest.mark.usefixtures("quick_compiler")


names_of = lambda cls: [field.name for field in dataclasses.fields(cls)]


def explained(a, b):
  return explain_protocols(a.to_dict(), b.to_dict())


def with_other(value, name, other=OTHER):
  """The same with another value of a field."""
  changed = dataclasses.replace(value, **{name: other[name]})
  assert getattr(changed, name) != getattr(value, name)
  return changed


def check_told(found, field):
  (difference,) = found
  assert difference.field == field
  assert field in FIELDS
  assert len(difference.text) > 40 and difference.text.endswith(".")
  assert difference.line().startswith(f"{field}: A ")


# --- Every field -------------------------------------------------------------


@pytest.mark.parametrize(
  "name", [x for x in names_of(Protocol) if x != "candidates"]
)
def test_every_field_of_a_protocol_is_explained(name):
  base = Protocol(max_users=9) if name == "user_seed" else Protocol()
  check_told(explained(base, with_other(base, name)), name)


@pytest.mark.parametrize("name", names_of(ClassificationProtocol))
def test_every_field_of_labelled_examples_is_explained(name):
  base = ClassificationProtocol()
  other = with_other(base, name, OTHER_LABELS)
  check_told(explained(base, other), name)


@pytest.mark.parametrize(
  "spec,name",
  [
    (spec, name)
    for spec in (AllItems, UniformNegatives, PopularityNegatives)
    for name in names_of(spec)
  ],
)
def test_every_field_of_candidates_is_explained(spec, name):
  base = spec(
    **({"with_replacement": False} if "num" in names_of(spec) else {})
  )
  a, b = (Protocol(candidates=x) for x in (base, with_other(base, name)))
  check_told(explained(a, b), f"candidates.{name}")


def test_other_lists_are_explained():
  a, b = (Protocol(candidates=GivenLists(lists=x)) for x in LISTS)
  check_told(explained(a, b), "candidates.digest")


def test_all_that_enters_a_record_is_known():
  """No field hides: what to_dict holds is what the tables above have."""
  specs = (
    AllItems("unseen"),
    UniformNegatives(),
    PopularityNegatives(),
    GivenLists(lists=LISTS[0]),
  )
  for spec in specs:
    for key in spec.to_dict():
      assert key == "kind" or f"candidates.{key}" in FIELDS
  for protocol in (Protocol(per="event"), ClassificationProtocol()):
    for key in protocol.to_dict():
      assert key == "candidates" or key in FIELDS


# --- What is said ------------------------------------------------------------


def test_equal_protocols_have_no_difference():
  assert explained(Protocol(), Protocol()) == []
  # `per` and `among` are left out where they are what they always were.
  old = Protocol().to_dict()
  new = old | {"per": "user", "candidates": {"kind": "all_items",
                                             "among": "all"}}  # fmt: skip
  assert explain_protocols(old, new) == []
  labels = ClassificationProtocol().to_dict()
  assert explain_protocols(labels, labels | {"auc_bins": 0}) == []


def test_settings_without_effect_are_said_to_be():
  a = Protocol(candidates=UniformNegatives())
  b = dataclasses.replace(a, exclude_seen="none", user_seed=3)
  assert a.hash() == b.hash()
  found = explained(a, b)
  assert [each.field for each in found] == ["exclude_seen", "user_seed"]
  for each in found:
    assert each.text.startswith("Without effect") and each.higher == ""
  for name in ("cutoffs", "metrics"):
    (each,) = explained(Protocol(), with_other(Protocol(), name))
    assert each.text.startswith("Without effect")


def test_a_field_that_nobody_explained_is_named():
  (found,) = explain_protocols({"ties": 1, "moon": "full"}, {"ties": 1})
  assert found.field == "moon" and "does not hold it" in found.text
  (found,) = explain_protocols({"moon": "full"}, {"moon": "new"})
  assert "not written down" in found.text
  assert found.line() == f"moon: A full, B new. {found.text}"


def test_lists_and_labels_have_nothing_in_common():
  (found,) = explained(Protocol(), ClassificationProtocol())
  assert (found.field, found.a, found.b) == ("kind", "lists", "labels")
  assert "no metric in common" in found.text


def test_lines_name_whose_numbers_are_higher():
  a = Protocol(candidates=UniformNegatives(99), ties="optimistic")
  lines = explanation_lines(a.to_dict(), Protocol().to_dict(), ("ours", "NCF"))
  assert len(lines) == 2
  assert lines[0].startswith(
    "candidates: ours 99 uniform negatives, NCF the whole catalogue. A target"
  )
  assert "reverse the order of two models" in lines[0]
  assert lines[1].startswith("ties: ours optimistic, NCF expected. ")
  assert "a constant scorer has a hit rate of 1" in lines[1]
  for line in lines:
    assert line.endswith("By this alone, the numbers of ours are higher.")


def test_what_is_higher_turns_around():
  a, b = Protocol(), Protocol(ties="pessimistic", exclude_seen="none")
  assert [each.higher for each in explained(a, b)] == ["a", "a"]
  assert [each.higher for each in explained(b, a)] == ["b", "b"]
  assert FieldDifference("x", None, (1, 2), "t.").line() == (
    "x: A unknown, B 1, 2. t."
  )


# --- Whose numbers are higher ------------------------------------------------


def ragged(rows):
  lengths = [len(row) for row in rows]
  return Ragged(np.concatenate(rows), np.cumsum([0, *lengths]))


@functools.cache
def planted():
  """Users with tastes, items with popularity, a model that knows of both."""
  rng = np.random.default_rng(0)
  vectors = np.round(2 * rng.normal(size=(NUM_ITEMS + 1, 3)))
  vectors[:, 2] = np.round(np.linspace(-2, 2, NUM_ITEMS + 1))
  tastes = np.round(2 * rng.normal(size=(NUM_USERS, 3)))
  tastes[:, 2] = 2
  scores = tastes @ vectors.T + 6 * rng.gumbel(size=(NUM_USERS, NUM_ITEMS + 1))
  order = 1 + np.argsort(-scores[:, 1:], axis=1)
  history, targets = order[:, :8], order[:, 8:12]
  train = history[:, :6]
  users = EvalSet(
    np.arange(1, NUM_USERS + 1, dtype=np.int32),
    *(ragged(list(x)) for x in (history, targets, train)),
  )
  return vectors.astype(np.float32), tastes.astype(np.float32), users


def metrics_of(protocol):
  vectors, tastes, users = planted()
  counts = np.bincount(users.train_items.values, minlength=NUM_ITEMS + 1)
  counts[:20] = 0
  return evaluate(
    DotProductScorer(jnp.asarray(vectors)),
    tastes,
    users,
    dataclasses.replace(
      protocol,
      metrics=("hit_rate", "recall", "precision", "ndcg", "mrr", "map"),
      cutoffs=(3,),
    ),
    num_items=NUM_ITEMS,
    popularity=counts,
    intervals=False,
    floor=False,
    progress=False,
  ).metrics


def uniform(num=30, **changes):
  return Protocol(candidates=UniformNegatives(num, **changes))


def many(**changes):
  """So many draws that chance matters less than what is left out."""
  return uniform(65, with_replacement=False, **changes)


PAIRS = {  # The first is said to have the higher numbers.
  "exclude_seen": (Protocol(), Protocol(exclude_seen="train")),
  "exclude_seen none": (
    Protocol(exclude_seen="train"),
    Protocol(exclude_seen="none"),
  ),
  "optimistic": (Protocol(ties="optimistic"), Protocol()),
  "pessimistic": (Protocol(), Protocol(ties="pessimistic")),
  "recall": (Protocol(recall_denominator="min_k_targets"), Protocol()),
  "ndcg": (Protocol(ndcg_ideal="retrieved"), Protocol()),
  "uniform": (uniform(), Protocol()),
  "popular": (Protocol(candidates=PopularityNegatives(20)), Protocol()),
  "uniform, popular": (
    uniform(20, with_replacement=False),
    Protocol(candidates=PopularityNegatives(20)),
  ),
  "num": (uniform(20), uniform(40)),
  "history drawn": (
    many(exclude="history_and_targets"),
    many(exclude="train"),
  ),
  "train drawn": (many(exclude="train"), many(exclude="none")),
  "targets drawn": (
    many(exclude="history_and_targets"),
    many(exclude="history"),
  ),
  "unseen": (Protocol(candidates=AllItems("unseen")), Protocol()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_numbers_are_higher_where_it_is_said(name):
  high, low = PAIRS[name]
  (found,) = explained(high, low)
  assert found.higher == "a"
  one, two = metrics_of(high), metrics_of(low)
  gains = {key: one[key] - two[key] for key in one}
  assert all(gain >= -1e-6 for gain in gains.values()), gains
  alone = {"recall": "recall@3", "ndcg": "ndcg@3"}.get(name)
  changed = {key for key, gain in gains.items() if gain > 1e-6}
  assert changed == ({alone} if alone else set(gains))
