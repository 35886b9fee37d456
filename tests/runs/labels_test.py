"""Spelling of names and numbers."""

import pytest

from recjax.runs import labels


@pytest.mark.parametrize(
  ("name", "label"),
  [
    ("hit_rate@10", "HR@10"),
    ("ndcg@100", "NDCG@100"),
    ("mrr", "MRR"),
    ("recall@5", "Recall@5"),
    ("new_thing", "New thing"),
    ("auc/never_married", "AUC never married"),
    ("log_loss/click*buy", "Log loss click*buy"),
    ("diversity@10/genres", "Diversity@10 genres"),
    ("ndcg_gap@10/gender", "NDCG gap@10 gender"),
    (
      "diversity_ratio@5/genres/age_group",
      "Diversity ratio@5 genres age group",
    ),
  ],
)
def test_metric_label(name, label):
  assert labels.metric_label(name) == label


def test_metric_order():
  names = ["mrr", "x@1", "hit_rate@10", "ndcg@10", "hit_rate@5", "ndcg@100"]
  assert sorted(names, key=labels.metric_order) == [
    "ndcg@10",
    "ndcg@100",
    "hit_rate@5",
    "hit_rate@10",
    "mrr",
    "x@1",
  ]


def test_metrics_of_lists_come_last():
  names = ["ndcg_gap@5/age", "gini@5", "novelty@5", "auc", "hit_rate@5"]
  names += ["diversity@5/genres", "diversity@10/genres"]
  assert sorted(names, key=labels.metric_order) == [
    "hit_rate@5", "auc", "novelty@5", "diversity@5/genres",
    "diversity@10/genres", "gini@5", "ndcg_gap@5/age",
  ]  # fmt: skip
  of_lists = [name for name in names if labels.is_of_lists(name)]
  assert set(names) - set(of_lists) == {"auc", "hit_rate@5"}


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["mrr", "hit_rate@5", "hit_rate@10", "ndcg@5"], "hit_rate@10"),
    (["novelty@10", "ndcg@20", "mrr"], "ndcg@20"),
    (["gini@10", "novelty@10"], "novelty@10"),
    (["auc/click", "rmse/watch"], "auc/click"),
  ],
)
def test_what_stands_for_a_run(names, expected):
  assert labels.headline(names) == expected


@pytest.mark.parametrize(
  ("secs", "text"),
  [
    (None, "–"),
    (0.26, "0.3 s"),
    (59.4, "59 s"),
    (59.6, "1 min 00 s"),
    (200, "3 min 20 s"),
    (3599.7, "1 h 00 min"),
    (7500, "2 h 05 min"),
  ],
)
def test_duration(secs, text):
  assert labels.duration(secs) == text


def test_number():
  assert labels.number(0.18244) == "0.1824"
  assert labels.number(123456.7) == "123,457"
  assert labels.number(None) == "–"


def test_short_device():
  text = "8 devices on CPU, 2 cores (Intel(R) Xeon(R) CPU @ 2 GHz)"
  assert labels.short_device(text) == "8 devices on CPU, 2 cores"
  assert labels.short_device("NVIDIA H100 80GB HBM3") == "NVIDIA H100 80GB HBM3"


def test_the_line_of_a_result():
  result = {
    "metrics": {"auc": 0.81234, "gauc": 0.7},
    "intervals": {"auc": [0.8, 0.82], "gauc": [None, None]},
    "protocol_hash": "aaaa",
  }
  assert labels.result_line(result) == (
    "test auc 0.8123 [0.8000, 0.8200]  gauc 0.7000  protocol aaaa"
  )
  assert labels.metrics_line({"auc": 0.5}, {}, "b") == (
    "test auc 0.5000  protocol b"
  )


def test_what_is_undefined_is_said():
  """A record has null where an AUC has one class."""
  line = labels.metrics_line(
    {"auc/buy": None, "auc/like": float("nan"), "auc/click": 0.75},
    {"auc/buy": [None, None], "auc/click": [0.5, 1.0]},
    "abc",
  )
  assert line == (
    "test auc/buy undefined  auc/like undefined  auc/click 0.7500"
    " [0.5000, 1.0000]  protocol abc"
  )
