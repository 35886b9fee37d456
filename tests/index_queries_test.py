"""Names on a command line, and what is asked for them."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.interactions import Interactions
from recjax.errors import ConfigError
from recjax.index_answers import Asked, answer
from recjax.index_building import (
  build_index,
  judged_k,
  parse_config,
  search_grid,
)
from recjax.index_queries import (
  Names,
  item_values,
  known_users,
  request_set,
)
from recjax.opened_run import OpenedRun
from recjax.retrieval.exact_index import ExactIndexConfig
from recjax.retrieval.faiss_index import FaissConfig
from recjax.retrieval.scann_index import ScannConfig


@pytest.fixture
def shop():
  """Users a, b and c, of whom b does nothing; four items."""
  return Interactions.from_columns(
    "shop",
    {
      "user_id": np.array([3, 1, 3, 1, 3]),
      "item_id": np.array([2, 4, 1, 3, 2]),
      "timestamp": np.array([5, 1, 6, 2, 4]),
    },
    num_users=3,
    users=pa.table({"raw_id": ["a", "b", "c"]}),
    items=pa.table(
      {
        "raw_id": ["100", "7", "12", "30"],
        "title": ["Tea", "Coffee", None, "Tea"],
        "genres": [["hot", "wet"], [], None, ["hot"]],
        "price": pa.array([1.5, None, 3.0, 4.0]),
      }
    ),
  )


def test_find(shop):
  items = Names.of_items(shop)
  assert items.find("7") == 2
  assert items.find("Coffee") == 2
  assert items.find("12") == 3  # Without a title it is called by its id.
  assert items.name[2] == "12"
  assert items.find("Water") is None
  with pytest.raises(ConfigError, match="2 items of shop; .*'100', '30'"):
    items.find("Tea")
  assert Names.of_users(shop).find("c") == 3


def test_names_without_tables():
  data = Interactions.from_columns(
    "plain", {"user_id": np.array([1, 2]), "item_id": np.array([5, 5])}
  )
  assert Names.of_items(data).find("5") == 5
  assert Names.of_items(data).find("6") is None
  assert Names.of_users(data).find("2") == 2


def test_nearest_by_value_or_by_letters(shop):
  items = Names.of_items(shop)
  assert items.nearest("10") == ["12", "7", "30"]
  assert items.nearest("Cofee") == ["Coffee"]
  assert "The nearest known: 'Coffee'." in items.unknown("Cofee")
  assert "for instance: '100', '7', '12'." in items.unknown("zzzz")
  # So large a number is a text.
  assert items.nearest("9" * 30) == []
  assert items.nearest("--5") == items.nearest("²") == []


def test_item_values(shop):
  assert item_values(shop, "genres").tolist() == [
    "hot",
    "unknown",
    "unknown",
    "hot",
  ]
  np.testing.assert_array_equal(item_values(shop, "price"), [1.5, np.nan, 3, 4])
  with pytest.raises(ConfigError, match="no column 'prize'.*'price'"):
    item_values(shop, "prize")


def test_request_set(shop):
  users = known_users(shop)
  assert users.tolist() == [1, 3]
  requests = request_set(shop, users[::-1])
  assert requests.user_id.tolist() == [3, 1]
  # By time: the whole of it.
  assert requests.history[0].tolist() == [2, 2, 1]
  assert requests.history[1].tolist() == [4, 3]
  assert requests.targets.lengths.tolist() == [0, 0]
  # The row of the last event, whose context is taken.
  assert shop.timestamp[requests.rows].tolist() == [6, 2]
  assert shop.user_id[requests.rows].tolist() == [3, 1]


class Bench:
  """Two-dimensional towers: what `recjax query` asks of a bench."""

  data_name = "shop"
  counts = np.array([0, 1, 2, 1, 1])

  def __init__(self, interactions, exclude_seen, train=(0, 1, 2, 3, 4)):
    self.interactions = interactions
    self.protocol = type("P", (), {"exclude_seen": exclude_seen})
    self.split = type("S", (), {"train": np.array(train)})

  def item_vectors(self, weights):
    angles = weights * np.arange(5)
    out = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    out[0] = 0
    return out

  def user_vectors(self, weights, eval_set):
    # Two interests: the first item of the history, and nothing.
    first = eval_set.history.values[eval_set.history.offsets[:-1]]
    vectors = self.item_vectors(weights)[first]
    return np.stack([vectors, 0 * vectors], 1)


def ask(bench, k=2):
  vectors = bench.item_vectors(0.1)
  index = ExactIndexConfig().make_index()
  index.build(vectors[1:], np.arange(1, len(vectors)))
  return Asked(bench, 0.1, index, k)


def shown(out):
  lines = [line for line in out.splitlines() if line.startswith("│")]
  return [line.split("│")[2].strip() for line in lines]


@pytest.mark.parametrize(
  ("exclude", "expected"),
  [("none", ["30", "12"]), ("history", ["7", "100"])],
)
def test_seen_items_are_left_out_as_the_protocol_says(
  shop, capsys, exclude, expected
):
  answer(ask(Bench(shop, exclude)), ["a"], [])
  out = capsys.readouterr().out
  assert shown(out) == expected
  says = {"none": "they may come again", "history": "they are left out"}
  assert says[exclude] in out


def test_users_without_events(shop, capsys):
  answer(ask(Bench(shop, "none")), ["b", "c"], [])
  out = " ".join(capsys.readouterr().out.split())
  assert "user 'b' has no event in shop. These are the most popular" in out
  assert "user b: popularity" in out and "user c: exact" in out


def test_users_without_training_events(shop, capsys):
  answer(ask(Bench(shop, "none", train=(2, 3, 4))), ["a", "c"], [])
  out = capsys.readouterr().out
  assert "user a: 2 events; none of training" in out
  assert "user c: 3 events; they" in out


def test_markup_in_names_is_text(shop, capsys):
  users = pa.table({"raw_id": ["[red]", "b", "[/]"]})
  data = Interactions.from_sorted_table(
    "shop",
    shop.table,
    num_users=3,
    num_items=4,
    users=users,
    items=shop.items,
  )
  answer(ask(Bench(data, "none")), ["[red]", "[/]", "[/b]"], [])
  out = capsys.readouterr().out
  assert "user [red]: exact" in out and "user [/]: exact" in out
  assert "user [/b]: popularity" in out


def test_the_only_item_has_no_neighbours(capsys):
  data = Interactions.from_columns(
    "one", {"user_id": np.array([1]), "item_id": np.array([1])}
  )
  bench = Bench(data, "none")
  bench.item_vectors = lambda _: np.eye(2, dtype=np.float32)
  with pytest.raises(ConfigError, match="no neighbours"):
    answer(ask(bench, k=1), [], ["1"])


# --- Building ----------------------------------------------------------------


def test_leaves_fit_the_catalogue_unless_they_are_given():
  fitted = parse_config("scann")(10_000)
  assert (fitted.num_leaves, fitted.num_leaves_to_search) == (100, 10)
  given = parse_config("scann", (), ["ScannConfig.num_leaves=70"])(10_000)
  assert given.num_leaves == 70
  given = parse_config("scann", (), ["ScannConfig.num_leaves_to_search=3"])
  assert given(10_000).num_leaves_to_search == 3
  whole = parse_config("scann", (), ["ScannConfig.brute_force=True"])(100)
  assert whole.brute_force
  assert parse_config("faiss")(100) == FaissConfig()
  assert parse_config("exact")(100) == ExactIndexConfig()


@pytest.mark.parametrize(
  ("num_items", "k"),
  [(3, 3), (50, 10), (400, 40), (1000, 100), (10**6, 100)],
)
def test_how_many_items_an_index_is_judged_for(num_items, k):
  assert judged_k(num_items) == k


def test_what_is_tried():
  scann = search_grid(ScannConfig(num_leaves=6, num_leaves_to_search=1), 10)
  assert scann == {
    "num_leaves_to_search": (1, 2, 4, 6),
    "reorder": (10, 15, 20, 30, 50, 100),
  }
  assert set(search_grid(ScannConfig(reorder=0), 10)) == {
    "num_leaves_to_search"
  }
  graph = search_grid(FaissConfig(method="hnsw"), 10)
  assert graph == {"ef_search": (10, 20, 40, 80, 160)}
  lists = FaissConfig(method="ivf_flat", num_lists=4, num_probes=1)
  assert search_grid(lists, 10) == {"num_probes": (1, 2, 4)}
  for config in (
    ScannConfig(brute_force=True),
    FaissConfig(method="flat"),
    ExactIndexConfig(),
  ):
    assert search_grid(config, 10) == {}


def test_a_setting_that_does_not_fit_stays_an_error(shop, tmp_path):
  bench = Bench(shop, "none")
  run = OpenedRun(tmp_path, bench, 0.1, "step 1")
  config = ScannConfig(num_leaves=100)
  with pytest.raises(ConfigError, match="num_items=4") as error:
    build_index(config, run, run.item_vectors())
  assert "kind=exact" not in str(error.value)
