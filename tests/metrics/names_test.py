"""Names tell the kind of a metric, and which values are better."""

import pytest

from recjax.metrics.names import better, kind_of


@pytest.mark.parametrize(
  ("name", "kind"),
  [
    ("auc", "auc"),
    ("ndcg@10", "ndcg"),
    ("rmse/watch", "rmse"),
    ("ndcg_gap@10/gender", "ndcg_gap"),
  ],
)
def test_the_kind(name, kind):
  assert kind_of(name) == kind


@pytest.mark.parametrize(
  ("name", "sign"),
  [
    ("ndcg@10", 1),
    ("ndcg_ratio@10/age", 1),
    ("rmse", -1),
    ("log_loss/click", -1),
    ("miscalibration@10/genres", -1),
    ("mrr_gap/age", -1),
    ("novelty@10", 0),
    ("gini@10", 0),
  ],
)
def test_what_is_better(name, sign):
  assert better(name) == sign
