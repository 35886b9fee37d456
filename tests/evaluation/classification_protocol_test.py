import dataclasses
import hashlib
import json

import pytest

from recjax.errors import ConfigError
from recjax.evaluation.classification_protocol import (
  ClassificationProtocol,
  bars_protocol,
)
from recjax.evaluation.protocol import Protocol

NUMBERS_CHANGE = [
  {"weights": "none"},
  {"log_loss_epsilon": 1e-6},
  {"entropy_rate": "training"},
  {"ece_bins": 10},
  {"ece_binning": "equal_mass"},
  {"auc_bins": 100},
  {"group_weight": "size"},
  {"selection": "last step"},
  {"preprocessing": "ids seen once are dropped"},
  {"split": "given files"},
]


def test_a_protocol_is_a_value():
  one = ClassificationProtocol()
  assert len({one, ClassificationProtocol(), bars_protocol()}) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    one.weights = "none"


def test_every_field_but_the_metrics_is_in_the_hash():
  plain = ClassificationProtocol()
  hashes = {ClassificationProtocol(**c).hash() for c in NUMBERS_CHANGE}
  assert len(hashes | {plain.hash()}) == len(NUMBERS_CHANGE) + 1
  fields = {field.name for field in dataclasses.fields(plain)}
  assert fields == {name for c in NUMBERS_CHANGE for name in c} | {"metrics"}
  other = ClassificationProtocol(metrics=("gauc@user_id", "rmse"))
  assert other.hash() == plain.hash()


def test_an_auc_of_bins_is_told():
  plain = ClassificationProtocol()
  assert "auc_bins" not in plain.to_dict()
  # As before there were bins.
  assert plain.hash() == "d4b0a63497a2"
  binned = dataclasses.replace(plain, auc_bins=131_072)
  assert "AUC of scores in 131,072 bins" in binned.describe()
  assert (
    "bins; " not in dataclasses.replace(binned, metrics=("rmse",)).describe()
  )
  assert binned.to_dict()["auc_bins"] == 131_072


def test_hash_is_sha256_of_canonical_json():
  fields = ClassificationProtocol().to_dict()
  del fields["metrics"]
  text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
  expected = hashlib.sha256(text.encode()).hexdigest()[:12]
  assert ClassificationProtocol().hash() == expected
  assert ClassificationProtocol().hash() != Protocol().hash()


def test_to_dict_is_json():
  fields = bars_protocol().to_dict()
  assert json.loads(json.dumps(fields)) == fields
  again = {**fields, "metrics": tuple(fields["metrics"])}
  assert ClassificationProtocol(**again) == bars_protocol()


def test_values_name_metric_and_column():
  protocol = ClassificationProtocol(metrics=("auc", "gauc@user_id", "auc"))
  assert protocol.values() == (
    ("auc", "auc", ""),
    ("gauc@user_id", "gauc", "user_id"),
  )


def test_the_line_for_tables():
  protocol = ClassificationProtocol(
    split="random(7:2:1)", selection="best validation AUC"
  )
  assert protocol.describe() == (
    "random(7:2:1); probabilities clipped at 1e-07; ECE over 15 bins of equal"
    " width; best validation AUC"
  )
  line = ClassificationProtocol(
    metrics=("gauc@user", "normalized_entropy"),
    weights="none",
    entropy_rate="training",
    selection="last epoch",
  ).describe()
  assert line == (
    "example weights ignored; probabilities clipped at 1e-07; entropy of the"
    " training rate; groups weighted by impressions; last epoch"
  )


def test_presets_take_changes():
  assert bars_protocol(split="given files").split == "given files"
  assert bars_protocol().log_loss_epsilon == 2.0**-52


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"metrics": ()}, "a tuple with at least one entry"),
    ({"metrics": ("acu",)}, "Did you mean 'auc'"),
    ({"metrics": ("gauc",)}, "such as 'gauc@user_id'; got 'gauc'"),
    ({"metrics": ("auc@user_id",)}, "only 'gauc' takes a column"),
    ({"metrics": ("auc@",)}, "a metric must be one of"),
    ({"weights": "giben"}, "Did you mean 'given'"),
    ({"entropy_rate": "test"}, "entropy_rate must be one of"),
    ({"log_loss_epsilon": 0.0}, "log_loss_epsilon must lie in"),
    ({"ece_bins": 0}, "ece_bins must lie in"),
    ({"ece_binning": "equal"}, "ece_binning must be one of"),
    ({"group_weight": "users"}, "group_weight must be one of"),
  ],
)
def test_wrong_fields_are_named(change, message):
  with pytest.raises(ConfigError, match=message):
    ClassificationProtocol(**change)
