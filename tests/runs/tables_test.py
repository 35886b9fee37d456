"""Tables: protocols apart, the best of a data set, floors once."""

from recjax.runs import collection, tables


def tables_of(tmp_path):
  runs, _ = collection.load_runs([tmp_path])
  groups, _ = collection.group_runs(runs)
  return tables.protocol_tables(groups)


def rows_of(table):
  return [[cell.text for cell in row.cells] for row in table.rows]


def test_each_protocol_has_a_table(make_workdir, tmp_path):
  make_workdir("a")
  other = {"candidates": {"kind": "uniform", "num": 100}, "cutoffs": [10]}
  make_workdir("b", protocol_hash="b" * 12, protocol=other, protocol_text="")
  first, second = tables_of(tmp_path)
  assert (first.protocol_hash, second.protocol_hash) == ("a" * 12, "b" * 12)
  assert first.text.startswith("leave one out")
  assert ("split", "leave_one_out(min_actions=3)") in first.fields
  assert ("candidates", "kind: uniform, num: 100") in second.fields
  assert ("cutoffs", "10") in second.fields
  assert "preprocessing" not in dict(first.fields)  # It is empty.


def test_fields_that_differ_under_one_hash_are_left_out(make_workdir, tmp_path):
  make_workdir("a", protocol={"ties": "expected", "cutoffs": [10]})
  make_workdir("b", seed=1, protocol={"ties": "expected", "cutoffs": [5]})
  (table,) = tables_of(tmp_path)
  assert table.fields == (("ties", "expected"),)


def test_rows_of_a_table(make_workdir, tmp_path):
  for seed, value in enumerate((0.13, 0.14)):
    make_workdir(f"{seed}", seed=seed, metrics={"ndcg@10": value})
  make_workdir(
    "ce",
    name="sasrec_ml1m_ce",
    config_hash_without_seed="x",
    metrics={"mrr": 0.2, "ndcg@10": 0.182},
    intervals={"ndcg@10": [0.178, 0.186]},
    bayes_optimal={"ndcg@10": 0.3},
  )
  make_workdir("beauty", dataset="beauty", data_fingerprint="b" * 64,
    metrics={"ndcg@10": 0.03}, floor={})  # fmt: skip
  (table,) = tables_of(tmp_path)
  assert table.header == (
    "run", "data set", "model", "seeds", "NDCG@10", "MRR", "time a run",
    "device",
  )  # fmt: skip
  time = ["12 min 05 s", "CPU, 2 cores"]
  floor = ["popularity (floor)", "ml-1m", "", "", "0.0120", "–", "", ""]
  assert rows_of(table) == [
    ["sasrec_ml1m_bce", "beauty", "SASRec", "0", "0.0300", "–", *time],
    ["sasrec_ml1m_bce", "ml-1m", "SASRec", "0, 1", "0.1350 ± 0.0071", "–",
      *time],
    ["sasrec_ml1m_ce", "ml-1m", "SASRec", "0", "0.1820", "0.2000", *time],
    floor,
    ["Bayes optimum", "ml-1m", "", "", "0.3000", "–", "", ""],
  ]  # fmt: skip
  assert [row.is_reference for row in table.rows] == [False] * 3 + [True] * 2
  notes = [row.cells[4].note for row in table.rows]
  assert notes == ["[0.1300, 0.1380]", "n = 2", "[0.1780, 0.1860]", "", ""]
  best = [row.cells[4].is_best for row in table.rows]
  assert best == [False, False, True, False, False]
  sizes = [len(part) for part in table.by_data()]
  assert sizes == [1, 2]


def test_the_best_may_be_the_smallest_or_unknown(make_workdir, tmp_path):
  kinds = ("log_loss", "miscalibration@10/genres", "novelty@10", "ndcg@10")
  for place, value in enumerate((0.2, 0.3)):
    make_workdir(
      f"{place}",
      config_hash_without_seed=str(place),
      metrics=dict.fromkeys(kinds, value),
    )
  (table,) = tables_of(tmp_path)
  best = {
    name: [row.cells[4 + column].is_best for row in table.rows[:2]]
    for column, name in enumerate(table.metrics)
  }
  assert best == {
    "log_loss": [True, False],
    "miscalibration@10/genres": [True, False],
    "novelty@10": [False, False],
    "ndcg@10": [False, True],
  }


def test_markdown_rows():
  rows = [
    [tables.Cell("a|b", "c"), tables.Cell("0.5", is_number=True, is_best=True)],
    [tables.Cell("d"), tables.Cell("–", is_number=True)],
  ]
  assert tables.markdown_rows(("x", "y"), rows) == [
    "| x | y |",
    "| --- | ---: |",
    "| a\\|b c | **0.5** |",
    "| d | – |",
  ]


def test_marks_of_markdown_tables_stay_within_their_cells():
  rows = [[tables.Cell("a\nb\r\nc", "d\n\ne")], [tables.Cell("f\\|g\\h")]]
  assert tables.markdown_rows(("x|y\nz",), rows) == [
    "| x\\|y z |",
    "| --- |",
    "| a b c d  e |",
    # Of each pair of backslashes one is shown, and so the bar is not escaped
    # by the first of three alone.
    "| f\\\\\\|g\\h |",
  ]
