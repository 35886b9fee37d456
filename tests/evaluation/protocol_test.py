import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest

from recjax.errors import ConfigError
from recjax.evaluation import protocol as protocols
from recjax.evaluation.protocol import Protocol

NUMBERS_CHANGE = [
  {"candidates": protocols.UniformNegatives()},
  {"candidates": protocols.UniformNegatives(seed=1)},
  {"candidates": protocols.UniformNegatives(exclude="train")},
  {"candidates": protocols.PopularityNegatives()},
  {"candidates": protocols.PopularityNegatives(counts_from="all")},
  {"exclude_seen": "train"},
  {"exclude_seen": "none"},
  {"ties": "optimistic"},
  {"recall_denominator": "min_k_targets"},
  {"ndcg_ideal": "retrieved"},
  {"max_users": 10},
  {"max_users": 10, "user_seed": 1},
  {"selection": "last step"},
  {"preprocessing": "5-core"},
  {"split": "global_time"},
  {"per": "event"},
  {"candidates": protocols.AllItems(among="unseen")},
]

# Of results that are published; no new field may change them.
FIRST_HASHES = {
  "3c9751d22a58": Protocol(),
  "cda459aeefe7": Protocol(exclude_seen="none", cutoffs=(1, 5)),
  "026648810ec0": Protocol(max_users=10, user_seed=3),
  "fbbaf4c4544b": protocols.full_catalogue_protocol(
    split="leave_one_out(min_actions=3)"
  ),
  "5388edef3de6": protocols.sasrec_paper_protocol(),
  "caa5da9998c7": protocols.bert4rec_paper_protocol(),
}


def test_a_protocol_is_a_value():
  assert Protocol() == Protocol()
  assert len({Protocol(), Protocol(), Protocol(ties="optimistic")}) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    Protocol().ties = "optimistic"


def test_hash_changes_with_all_that_defines_numbers():
  hashes = {Protocol(**change).hash() for change in NUMBERS_CHANGE}
  assert len(hashes | {Protocol().hash()}) == len(NUMBERS_CHANGE) + 1


def test_hash_ignores_what_does_not():
  same = [
    {"cutoffs": (5, 10, 20)},
    {"metrics": ("recall",)},
    {"user_seed": 3},
  ]
  assert {Protocol(**c).hash() for c in same} == {Protocol().hash()}
  sampled = protocols.sasrec_paper_protocol
  assert sampled().hash() == sampled(exclude_seen="none").hash()


def test_hashes_stay_what_they_were(tmp_path):
  for first, protocol in FIRST_HASHES.items():
    assert protocol.hash() == first
    assert "per" not in protocol.to_dict()
    assert dataclasses.replace(protocol, per="user").hash() == first
  path = tmp_path / "a.negative"
  path.write_text("(0,5)\t1\t2\n")
  assert protocols.ncf_protocol(str(path)).hash() == "af572971798e"
  assert protocols.AllItems().to_dict() == {"kind": "all_items"}


def test_hash_is_sha256_of_canonical_json():
  fields = Protocol().to_dict()
  for name in ("cutoffs", "metrics", "user_seed"):
    del fields[name]
  text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
  assert Protocol().hash() == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_hash_is_the_same_in_another_process():
  code = (
    "from recjax.evaluation.protocol import *;"
    "print(sasrec_paper_protocol().hash())"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == protocols.sasrec_paper_protocol().hash()


def test_to_dict_is_json():
  for preset in (
    protocols.full_catalogue_protocol(),
    protocols.sasrec_paper_protocol(),
    protocols.bert4rec_paper_protocol(),
    protocols.tfrs_protocol(),
  ):
    fields = preset.to_dict()
    assert json.loads(json.dumps(fields)) == fields


def test_names_of_the_numbers():
  protocol = Protocol(
    cutoffs=(5, 10), metrics=("ndcg", "mrr", "mrr@10", "recall@20", "ndcg@5")
  )
  assert protocol.values() == (
    ("ndcg@5", "ndcg", 5),
    ("ndcg@10", "ndcg", 10),
    ("mrr", "mrr", None),
    ("mrr@10", "mrr", 10),
    ("recall@20", "recall", 20),
  )


@pytest.mark.parametrize(
  "change, message",
  [
    ({"ties": "expcted"}, "Did you mean 'expected'"),
    ({"exclude_seen": "histry"}, "Did you mean 'history'"),
    ({"metrics": ("ndgc",)}, "Did you mean 'ndcg'"),
    ({"metrics": ("ndcg@x",)}, "a metric must be one of"),
    ({"metrics": ("ndcg@0",)}, "the cut-off of 'ndcg@0' must lie in"),
    ({"metrics": ()}, "metrics must be a tuple"),
    ({"cutoffs": (0,)}, "a cut-off must lie in"),
    ({"cutoffs": (True,)}, "must be an integer"),
    ({"max_users": -1}, "max_users must lie in"),
    ({"recall_denominator": "k"}, "recall_denominator must be one of"),
    ({"ndcg_ideal": "best"}, "ndcg_ideal must be one of"),
    ({"per": "events"}, "Did you mean 'event'"),
  ],
)
def test_wrong_settings_are_named(change, message):
  with pytest.raises(ConfigError, match=message):
    Protocol(**change)


def test_presets_say_what_they_are():
  full = protocols.full_catalogue_protocol(cutoffs=(20,))
  assert full.cutoffs == (20,)
  assert "full catalogue; seen items filtered; expected" in full.describe()
  sasrec = protocols.sasrec_paper_protocol()
  assert sasrec.candidates == protocols.UniformNegatives(
    num=100, with_replacement=True, exclude="train"
  )
  assert (sasrec.ties, sasrec.max_users) == ("optimistic", 10_000)
  assert "100 uniform negatives" in sasrec.describe()
  bert4rec = protocols.bert4rec_paper_protocol()
  assert bert4rec.candidates == protocols.PopularityNegatives(
    num=100, with_replacement=False, counts_from="all"
  )
  assert "\n" not in full.describe() + sasrec.describe() + bert4rec.describe()


def test_tfrs_preset():
  tfrs = protocols.tfrs_protocol()
  assert [key for key, _, _ in tfrs.values()] == [
    f"hit_rate@{k}" for k in (1, 5, 10, 50, 100)
  ]
  assert (tfrs.per, tfrs.exclude_seen, tfrs.ties) == (
    "event",
    "none",
    "expected",
  )
  assert tfrs.candidates == protocols.AllItems()
  assert tfrs.to_dict()["per"] == "event"
  assert "seen items kept; expected ties; one query an event" in tfrs.describe()
  assert "an event" not in Protocol().describe()
  some = protocols.tfrs_protocol(max_users=1000, cutoffs=(3,))
  assert "at most 1,000 events" in some.describe() and some.cutoffs == (3,)


def test_ncf_preset(tmp_path):
  path = tmp_path / "a.negative"
  path.write_text("(0,5)\t1\t2\n")
  ncf = protocols.ncf_protocol(str(path))
  assert ncf.ties == "pessimistic"
  assert "given lists (up to 2 negatives)" in ncf.describe()
  assert len(ncf.hash()) == 12
