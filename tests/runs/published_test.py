"""published.toml is checked; rows come from finished runs alone."""

import json
import textwrap

import pytest

from recjax import errors
from recjax.runs import published

CELL = """
[[cell]]
run = "sasrec_ml1m_bce"
dataset = "ml-1m"
model = "SASRec, BCE"
metric = "ndcg@10"
published = 0.14
tolerance = 0.01
source = "Table 3"
protocol = "full catalogue"
"""

RECIPE = """
[[recipe]]
run = "sasrec_ml1m_bce"
seeds = [1, 2]
"""


def load(tmp_path, text):
  path = tmp_path / "published.toml"
  path.write_text(textwrap.dedent(text))
  return published.load_published(path)


def cells(tmp_path, **changes):
  text = CELL
  for key, value in changes.items():
    text += f"{key} = {json.dumps(value)}\n"
    if f"\n{key} =" in CELL:
      lines = [x for x in CELL.splitlines() if not x.startswith(f"{key} =")]
      text = "\n".join((*lines, f"{key} = {json.dumps(value)}\n"))
  return load(tmp_path, text)


def test_load(tmp_path):
  loaded = load(tmp_path, 'paper = "P"\nlink = "L"\n' + CELL)
  assert (loaded.paper, loaded.link) == ("P", "L")
  (cell,) = loaded.cells
  assert (cell.run, cell.published, cell.tolerance) == (
    "sasrec_ml1m_bce",
    0.14,
    0.01,
  )


def test_recipes(tmp_path):
  loaded = load(tmp_path, CELL + RECIPE)
  assert loaded.recipe("sasrec_ml1m_bce").seeds == (1, 2)
  plain = load(tmp_path, CELL).recipe("sasrec_ml1m_bce")
  assert plain.gin_files == ("runs/sasrec_ml1m_bce.gin",)
  assert plain.seeds == (0,)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("", r"has no \[\[cell\]\]"),
    ("cell = 3", r"has no \[\[cell\]\]"),
    ("= 3", "is no TOML"),
    ("papr = 'x'\n" + CELL, "Did you mean 'paper'"),
    (CELL + "tolerence = 1", "Did you mean 'tolerance'"),
    (CELL.replace("model", "#"), r"cell 1 \(sasrec_ml1m_bce\) lacks 'model'"),
    (CELL.replace("source", "#"), "lacks 'source': .* can look up"),
    (CELL.replace('"Table 3"', '" "'), "source must be a text.* can look up"),
    (CELL + 'missing = "time"', "must be one of 'data', 'model'"),
    (CELL + 'missing = "data"', "needs a `why`"),
    (CELL + "[[recipe]]\nseeds = [0]", "recipe 1 lacks 'run'"),
    (CELL + RECIPE + RECIPE, "two recipes are called"),
    (CELL + RECIPE.replace("bce", "bcee"), "Did you mean 'sasrec_ml1m_bce'"),
    (CELL.replace("0.14", '"0.14"'), "published must be a number"),
    (CELL.replace("0.01", "-0.01"), "tolerance must lie in"),
    (CELL.replace('"ml-1m"', "3"), "dataset must be a text"),
    (CELL.replace("tolerance = 0.01", ""), "give a tolerance above 0, or"),
    (CELL + "range = [0.1, 0.2]", "give a tolerance above 0, or"),
    (CELL.replace("tolerance = 0.01", "range = [0.2, 0.1]"), "high end"),
    (CELL.replace("tolerance = 0.01", "range = [0.2]"), "must be .low, high"),
    (CELL + CELL, "two cells are called"),
  ],
)
def test_a_wrong_file_is_refused(tmp_path, text, expected):
  with pytest.raises(errors.ConfigError, match=expected) as info:
    load(tmp_path, text)
  assert "published.toml" in str(info.value)


def test_no_such_file(tmp_path):
  with pytest.raises(errors.ConfigError, match="there is no file"):
    published.load_published(tmp_path / "none.toml")


def test_a_row(make_workdir, tmp_path):
  make_workdir("one", dirty=True)
  (row,) = published.collect(cells(tmp_path), [tmp_path])
  assert row == {
    "name": "sasrec_ml1m_bce",
    "dataset": "ml-1m",
    "model": "SASRec, BCE",
    "protocol": "leave one out; all items; seen items filtered",
    "protocol_hash": "a" * 12,
    "metric": "ndcg@10",
    "published": 0.14,
    "source": "Table 3",
    "measured": 0.134,
    "ci95": [0.13, 0.138],
    "seeds": [0],
    "tolerance": 0.01,
    "within": True,
    "config_hash": "c0c0c0c0c0c0",
    "data_fingerprint": "f" * 64,
    "commit": "0123456789abcdef-dirty",
    "command": "recjax train --gin_file=runs/sasrec_ml1m.gin",
    "wall_secs": 725.0,
    "device": "CPU, 2 cores (AMD EPYC (TM) Processor)",
  }


@pytest.mark.parametrize(
  ("measured", "within"),
  [(0.13, True), (0.15, True), (0.1299, False), (0.1501, False)],
)
def test_within_a_tolerance(make_workdir, tmp_path, measured, within):
  make_workdir("one", metrics={"ndcg@10": measured})
  (row,) = published.collect(cells(tmp_path), [tmp_path])
  assert row["within"] is within
  assert row["within"] == (round(abs(measured - 0.14), 9) <= 0.01)


@pytest.mark.parametrize(
  ("measured", "within"),
  [(0.12, True), (0.145, True), (0.119, False), (0.146, False)],
)
def test_within_a_range(make_workdir, tmp_path, measured, within):
  make_workdir("one", metrics={"ndcg@10": measured})
  text = CELL.replace("tolerance = 0.01", "range = [0.12, 0.145]")
  (row,) = published.collect(load(tmp_path, text), [tmp_path])
  assert row["within"] is within
  assert row["range"] == [0.12, 0.145] and row["tolerance"] == 0.02


def test_several_seeds(make_workdir, tmp_path):
  for seed, value in enumerate((0.13, 0.14, 0.15)):
    make_workdir(f"{seed}", seed=seed, metrics={"ndcg@10": value})
  (row,) = published.collect(cells(tmp_path), [tmp_path])
  assert row["seeds"] == [0, 1, 2] and row["measured"] == 0.14
  # Student's t with two degrees of freedom: 4.302653 * 0.01 / sqrt(3).
  assert row["ci95"] == [0.115159, 0.164841]


def test_what_can_not_be_compared(make_workdir, tmp_path):
  make_workdir("one")
  same = cells(tmp_path, protocol_hash="a" * 12)
  assert published.collect(same, [tmp_path])
  for change, expected in (
    ({"protocol_hash": "bbbb"}, "for protocol_hash 'bbbb', but"),
    ({"dataset": "ml-20m"}, "for dataset 'ml-20m', but"),
    ({"metric": "ndcg@100"}, "has no metric 'ndcg@100'. Did you mean"),
  ):
    with pytest.raises(errors.ConfigError, match=expected):
      published.collect(cells(tmp_path, **change), [tmp_path])
  make_workdir("two", config_hash_without_seed="x", config_hash="y")
  with pytest.raises(errors.ConfigError, match="differ in more than the seed"):
    published.collect(cells(tmp_path), [tmp_path])


def test_unfinished_runs_give_no_row(make_workdir, tmp_path):
  make_workdir("one", finished=False)
  make_workdir("two", name="another")
  assert published.collect(cells(tmp_path), [tmp_path]) == []


def test_update_results_keeps_other_rows(tmp_path):
  path = tmp_path / "results.json"
  row = {"name": "a", "metric": "mrr", "protocol_hash": "h", "published": 1.0}
  published.update_results(path, [{**row, "measured": 0.5}])
  other = {**row, "metric": "map", "measured": 0.1}
  published.update_results(path, [other, {**row, "measured": 0.7}])
  rows = published.load_results(path)
  assert [(r["metric"], r["measured"]) for r in rows] == [
    ("mrr", 0.7),
    ("map", 0.1),
  ]
  assert published.load_results(tmp_path / "none.json") == []


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"name": "a"}]'])
def test_corrupt_results_are_named(tmp_path, text):
  (tmp_path / "results.json").write_text(text)
  with pytest.raises(errors.ConfigError, match="results.json"):
    published.load_results(tmp_path / "results.json")
