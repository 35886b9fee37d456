import io
import json

import numpy as np
import pytest
from rich.console import Console

from recjax.data.describe import CoreSize, describe, gini
from recjax.data.interactions import Interactions
from recjax.data.sources.movielens import MovieLens100K
from recjax.data.sources.sequence_file import SequenceFile


def facts_of(summary):
  return dict(summary.facts())


@pytest.fixture
def toy():
  day = 86_400
  return Interactions.from_columns(
    "toy",
    {
      "user_id": np.array([1, 1, 1, 2, 2, 4]),
      "item_id": np.array([1, 2, 1, 1, 2, 5]),
      "timestamp": np.array([0, 5, 9, day, 2 * day, 3 * day]),
      "rating": np.array([1.0, 5.0, 4.5, 5.0, 5.0, 1.0]),
    },
  )


def test_a_set_counted_by_hand(toy):
  summary = describe(toy)
  assert (summary.num_users, summary.num_items, summary.num_rows) == (4, 5, 6)
  assert (summary.num_idle_users, summary.num_idle_items) == (1, 2)
  assert summary.num_repeats == 1  # User 1 took item 1 twice.
  assert summary.density == pytest.approx(5 / 20)
  lengths = summary.history_lengths
  assert (lengths["min"], lengths["median"], lengths["max"]) == (1, 2, 3)
  assert lengths["mean"] == pytest.approx(2)
  assert summary.item_counts["max"] == 3
  assert summary.top_decile_share == pytest.approx(3 / 6)
  assert summary.span_days == pytest.approx(3)
  assert summary.ratings == {"1": 2, "4.5": 1, "5": 3}
  # 2-core: user 4 and item 5 go; items 1 (3 rows) and 2 (2) stay.
  assert summary.k_cores == (
    CoreSize(2, 2, 2, 5),
    CoreSize(3, 0, 0, 0),
    CoreSize(5, 0, 0, 0),
    CoreSize(10, 0, 0, 0),
  )


def test_gini_is_the_mean_difference():
  random = np.random.default_rng(0)
  for amounts in (
    random.integers(0, 50, 40),
    np.array([3, 3, 3]),
    np.eye(9)[0],
  ):
    differences = np.abs(amounts[:, None] - amounts[None, :]).mean()
    assert gini(amounts) == pytest.approx(differences / (2 * amounts.mean()))
  assert gini(np.zeros(4)) == 0.0


def test_text_table_and_json(toy):
  summary = describe(toy)
  facts = facts_of(summary)
  assert facts["users"] == "4 (1 idle)"
  assert facts["time span"] == "1970-01-01 to 1970-01-04 (3.0 days)"
  assert facts["ratings"] == "1: 2, 4.5: 1, 5: 3"
  assert facts["density"] == "25.000%"
  assert summary.lines()[-4] == (
    "2-core          2 users, 2 items, 5 interactions"
  )
  loaded = json.loads(json.dumps(summary.to_dict()))
  assert loaded["k_cores"][0] == {
    "k": 2,
    "num_users": 2,
    "num_items": 2,
    "num_rows": 5,
  }
  assert loaded["span_days"] == pytest.approx(3)
  console = Console(file=io.StringIO(), width=100)
  console.print(*summary.tables())
  text = console.file.getvalue()  # pyright: ignore
  assert "toy" in text and "83.3%" in text


def test_without_timestamps_and_ratings():
  data = Interactions.from_columns(
    "bare", {"user_id": np.array([1, 2]), "item_id": np.array([1, 1])}
  )
  summary = describe(data)
  assert summary.span_days is None and summary.ratings is None
  assert facts_of(summary)["time span"] == "no timestamps"
  assert "ratings" not in facts_of(summary)


def test_many_rating_values_are_binned():
  rating = np.linspace(0, 1, 50)
  data = Interactions.from_columns(
    "fine",
    {
      "user_id": np.ones(50, np.int64),
      "item_id": np.arange(1, 51),
      "rating": rating,
    },
  )
  ratings = describe(data).ratings
  assert ratings is not None
  assert len(ratings) == 10 and sum(ratings.values()) == 50


def test_a_timestamp_out_of_the_calendar_does_no_harm():
  nanoseconds = 1_700_000_000 * 10**9
  data = Interactions.from_columns(
    "nano",
    {
      "user_id": np.array([1]),
      "item_id": np.array([1]),
      "timestamp": np.array([nanoseconds]),
    },
  )
  assert f"{nanoseconds} s" in facts_of(describe(data))["time span"]


def test_movielens_100k(data_dir):
  summary = describe(MovieLens100K().read(data_dir))
  # The README of the data set: 100,000 ratings by 943 users on 1,682 items,
  # each user with at least 20, from September 1997 to April 1998.
  assert (summary.num_users, summary.num_items) == (943, 1682)
  assert summary.num_rows == 100_000
  assert summary.history_lengths["min"] == 20
  span = facts_of(summary)["time span"]
  assert span.startswith("1997-09-") and " to 1998-04-" in span
  assert summary.ratings is not None
  assert list(summary.ratings) == ["1", "2", "3", "4", "5"]


def test_the_5_core_of_beauty_is_the_other_paper_s_beauty(data_dir):
  summary = describe(SequenceFile("bert4rec-beauty/beauty.txt").read(data_dir))
  # S3-Rec filtered the same category to its 5-core.
  (core,) = [core for core in summary.k_cores if core.k == 5]
  assert core == CoreSize(5, 22_363, 12_101, 198_502)
