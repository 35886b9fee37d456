"""How the bias of sampling is recorded, and what the full protocol is."""

import dataclasses
import json

import numpy as np
import pytest

from recjax.data.ragged import Ragged
from recjax.evaluation.candidates import (
  AllItems,
  GivenLists,
  PopularityNegatives,
  UniformNegatives,
)
from recjax.evaluation.protocol import Protocol, sasrec_paper_protocol
from recjax.evaluation.sampled_bias import (
  HEADLINE,
  MetricBias,
  SampledBias,
  full_counterpart,
)
from recjax.evaluation.sampled_estimators import ESTIMATORS, Corrected


@pytest.mark.parametrize(
  "exclude,seen",
  [
    ("none", "none"),
    ("train", "train"),
    ("history", "history"),
    ("history_and_targets", "history"),
  ],
)
@pytest.mark.parametrize("spec", [UniformNegatives, PopularityNegatives])
def test_the_full_protocol_excludes_what_is_never_drawn(spec, exclude, seen):
  protocol = Protocol(candidates=spec(exclude=exclude), exclude_seen="none")
  expected = Protocol(candidates=AllItems(), exclude_seen=seen)
  assert full_counterpart(protocol) == expected


def test_given_lists_leave_it_to_the_protocol():
  lists = Ragged(np.array([4, 5]), np.array([0, 0, 1, 2]))
  given = Protocol(candidates=GivenLists(lists=lists), exclude_seen="train")
  assert full_counterpart(given).exclude_seen == "train"


def test_all_else_is_the_same():
  protocol = sasrec_paper_protocol(cutoffs=(5,), user_seed=3)
  full = full_counterpart(protocol)
  changed = {
    field.name
    for field in dataclasses.fields(Protocol)
    if getattr(full, field.name) != getattr(protocol, field.name)
  }
  assert changed == {"candidates", "exclude_seen"}
  assert full.exclude_seen == "train" and full.max_users == 10_000


def test_a_record_holds_all_of_it():
  corrected = {HEADLINE: Corrected(0.21, (0.15, 0.26))}
  row = MetricBias(0.8, 0.2, (0.1, 0.3), 0.6, (0.5, 0.7), corrected)
  bias = SampledBias({"mrr": row}, Protocol(), blind_below=34.2, wall_secs=2.0)
  facts = json.loads(json.dumps(bias.to_dict()))
  assert HEADLINE in ESTIMATORS and facts["headline"] == HEADLINE
  assert facts["full_protocol_hash"] == Protocol().hash()
  assert facts["full_protocol"]["candidates"] == {"kind": "all_items"}
  assert facts["blind_below"] == 34.2
  assert facts["metrics"]["mrr"] == {
    "sampled": 0.8,
    "full": 0.2,
    "full_interval": [0.1, 0.3],
    "bias": 0.6,
    "bias_interval": [0.5, 0.7],
    "corrected": {HEADLINE: {"value": 0.21, "interval": [0.15, 0.26]}},
  }
  assert bias.lines() == [
    "mrr sampled 0.8000  full 0.2000 [0.1000, 0.3000]"
    "  bias +0.6000 [+0.5000, +0.7000]"
    "  corrected (mle) 0.2100 [0.1500, 0.2600]"
  ]


def test_without_a_full_ranking():
  bias = SampledBias({"mrr": MetricBias(0.8)}, not_corrected="it is popular")
  facts = bias.to_dict()
  assert facts["full_protocol"] is None and facts["full_protocol_hash"] == ""
  assert facts["metrics"]["mrr"]["full"] is None
  assert bias.lines() == [
    "mrr sampled 0.8000",
    "not corrected: it is popular",
  ]
