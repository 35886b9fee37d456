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
