import numpy as np
import pyarrow as pa
import pytest

from recjax.data.interactions import Interactions
from recjax.errors import ConfigError
from recjax.evaluation.list_report import ListReport, check_names
from recjax.evaluation.protocol import Protocol

DATA = Interactions.from_columns(
  "toy",
  {"user_id": np.array([1, 1, 2]), "item_id": np.array([1, 2, 3])},
  users=pa.table({"raw_id": ["a", "b"], "gender": ["F", "M"]}),
  items=pa.table({"raw_id": list("xyz"), "genres": [["A"], ["B"], ["A"]]}),
)
BARE = Interactions.from_columns(
  "bare", {"user_id": np.array([1]), "item_id": np.array([1])}
)


def check(report, data=DATA, num=3):
  report.check(data, Protocol(cutoffs=(5, 10)), num)


def test_names():
  report = ListReport(k=5, item_features=("genres", "studio"))
  assert report.query_metrics() == (
    "novelty@5", "average_popularity@5", "popularity_lift@5", "serendipity@5",
    "diversity@5/genres", "miscalibration@5/genres",
    "diversity@5/studio", "miscalibration@5/studio",
  )  # fmt: skip


def test_what_groups_are_compared_by():
  protocol = Protocol(cutoffs=(5, 10), metrics=("mrr", "ndcg"))
  groups = {"user_groups": ("gender",)}
  assert ListReport(k=10, **groups).compared(protocol) == ("ndcg@10",)
  assert ListReport(k=3, **groups).compared(protocol) == ("mrr",)
  chosen = ListReport(group_metrics=("mrr", "novelty@10"), **groups)
  assert chosen.compared(protocol) == ("mrr", "novelty@10")
  assert ListReport().compared(protocol) == ()


@pytest.mark.parametrize(
  ("settings", "expected"),
  [
    ({"k": 0}, r"ListReport.k must lie in \[1, inf\]; got 0"),
    ({"distance": "cosin"}, "Did you mean 'cosine'"),
    ({"alpha": 0.0}, "ListReport.alpha must lie in"),
    ({"min_group_users": 0}, "ListReport.min_group_users must lie in"),
    ({"user_groups": ("age", "age")}, "a tuple of different names"),
    ({"item_features": ("",)}, "ListReport.item_features must be a tuple"),
  ],
)
def test_a_wrong_setting(settings, expected):
  with pytest.raises(ConfigError, match=expected):
    ListReport(**settings)


def test_names_are_a_tuple():
  check_names("names", ("a", "b"))
  for wrong in ("genres", ["genres"], (1,)):
    with pytest.raises(ConfigError, match=r"names must be .*\('genres',\)"):
      check_names("names", wrong)


def test_what_the_data_have():
  whole = ListReport(
    k=3,
    item_features=("genres",),
    provider="genres",
    user_groups=("gender",),
    group_metrics=("ndcg@5", "diversity@3/genres"),
  )
  check(whole)
  check(ListReport(k=1), BARE, 1)


@pytest.mark.parametrize(
  ("settings", "data", "expected"),
  [
    ({"k": 4}, DATA, "ListReport.k is 4, but lists are made of 3 items"),
    ({"item_features": ("genre",)}, DATA, "Did you mean 'genres'"),
    ({"provider": "studio"}, DATA, "no item feature 'studio'; there are genr"),
    ({"user_groups": ("sex",)}, DATA, "no user feature 'sex'"),
    ({"provider": "genres"}, BARE, "knows nothing of its items"),
    ({"user_groups": ("gender",)}, BARE, "knows nothing of its users"),
    ({"group_metrics": ("ndcg@20",)}, DATA, "one of 'hit_rate@5', 'hit_rat"),
  ],
)
def test_what_they_lack(settings, data, expected):
  with pytest.raises(ConfigError, match=expected):
    check(ListReport(**{"k": 3, **settings}), data)
