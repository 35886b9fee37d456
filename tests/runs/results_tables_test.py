"""Tables of published and measured numbers in Markdown files."""

import pytest

from recjax import errors
from recjax.runs import published, results_tables


def row(**changes):
  return {
    "name": "sasrec_ml1m",
    "dataset": "ml-1m",
    "model": "SASRec",
    "protocol": "all items",
    "protocol_hash": "aaaa",
    "metric": "hit_rate@10",
    "published": 0.8245,
    "source": "Table III",
    "measured": 0.8231,
    "ci95": [0.8135, 0.8327],
    "seeds": [0, 1],
    "tolerance": 0.02,
    "within": True,
    "wall_secs": 600.0,
    "device": "CPU, 2 cores (AMD)",
  } | changes


def test_a_table_for_each_protocol():
  other = row(
    protocol_hash="bbbb", protocol="100 negatives", name="x", within=False,
    range=[0.8, 0.84], ci95=None,
  )  # fmt: skip
  text = results_tables.markdown_table([row(), other, row(name="y")])
  first, second = text.split("\n\nProtocol `bbbb`: 100 negatives\n\n")
  assert first.startswith("Protocol `aaaa`: all items\n\n| run | data set |")
  assert first.splitlines()[-2] == (
    "| sasrec_ml1m | ml-1m | HR@10 | 0.8245 (Table III) | 0.8231 | "
    "[0.8135, 0.8327] | yes (± 0.02) | 0, 1 | 10 min 00 s | CPU, 2 cores |"
  )
  assert len(first.splitlines()) == 2 + 2 + 2
  assert "| – | **no** (0.8 to 0.84) |" in second
  assert results_tables.markdown_table([]) == "No results yet.\n"


def test_readme(tmp_path):
  readme = tmp_path / "README.md"
  readme.write_text(
    "# A\n<!-- results:begin -->\nold\n<!-- results:end -->\n"
    "<!-- other:begin --><!-- other:end -->\nZ\n"
  )
  rows = [row()]
  assert not results_tables.readme_is_current(readme, rows)
  results_tables.update_readme(readme, rows)
  text = readme.read_text()
  assert text.startswith("# A\n<!-- results:begin -->\nProtocol `aaaa`")
  assert text.endswith(
    "|\n<!-- results:end -->\n<!-- other:begin --><!-- other:end -->\nZ\n"
  )
  assert "old" not in text
  assert results_tables.readme_is_current(readme, rows)
  assert not results_tables.readme_is_current(readme, [row(measured=0.8)])
  results_tables.update_readme(readme, rows)
  assert readme.read_text() == text
  results_tables.update_readme(readme, rows, marker="other")
  assert readme.read_text().count("Protocol `aaaa`") == 2


def test_a_readme_without_marks(tmp_path):
  (tmp_path / "README.md").write_text("<!-- results:begin -->")
  with pytest.raises(errors.ConfigError, match="README.md has no place"):
    results_tables.update_readme(tmp_path / "README.md", [row()])
  with pytest.raises(errors.ConfigError, match="can not be read"):
    results_tables.readme_is_current(tmp_path / "none.md", [row()])


def test_a_reason_stands_below_its_table():
  outside = row(within=False, why="Ours is larger.")
  rows = [row(), outside | {"name": "y"}, outside | {"metric": "mrr"}]
  text = results_tables.markdown_table([*rows, row(protocol_hash="bbbb")])
  first, reason, second, _ = text.split("\n\n")[1:]
  assert len(first.splitlines()) == 2 + 3
  assert reason == (
    "Outside the bounds: y (HR@10), sasrec_ml1m (MRR). Ours is larger."
  )
  assert second.startswith("Protocol `bbbb`")


def write_cells(folder, *cells):
  """A published.toml; each cell is (run, more lines)."""
  text = 'paper = "A paper."\nlink = "https://x.org"\n'
  for run, more in cells:
    text += f"""
    [[cell]]
    run = "{run}"
    dataset = "ml-1m"
    model = "SASRec"
    metric = "hit_rate@10"
    published = 0.8245
    tolerance = 0.02
    source = "Table III"
    protocol = "all items"
    {more}
    """
  folder.mkdir(parents=True)
  (folder / "published.toml").write_text(text)


def test_results_page(tmp_path):
  experiments = tmp_path / "experiments"
  for name, measured in (("sasrec", 0.8231), ("bert4rec", 0.7)):
    folder = experiments / name
    write_cells(folder, (name, 'why = "One epoch."'))
    within = abs(measured - 0.8245) <= 0.02
    rows = [row(name=name, measured=measured, within=within)]
    published.update_results(folder / "results.json", rows)
  planned = ("dcn", 'missing = "data"\nwhy = "Not here."'), ("fm", "")
  write_cells(experiments / "planned", *planned)
  results_tables.update_results_page(experiments, tmp_path / "docs/results.md")
  text = (tmp_path / "docs/results.md").read_text()
  assert text == results_tables.results_page(experiments)
  assert (
    "4 published numbers: 1 within, 1 outside, 1 no result, 1 data not at hand."
  ) in text
  bert4rec, sasrec, without = text.split("\n## ")[1:]
  assert bert4rec.startswith("bert4rec\n\nA paper. https://x.org\n\nProtocol")
  assert "0.7000" in bert4rec and "0.8231" in sasrec
  assert "Outside the bounds: bert4rec (HR@10). One epoch." in bert4rec
  assert "One epoch" not in sasrec
  assert "```\nrecjax reproduce sasrec --workdir=" in sasrec
  assert without.splitlines()[-2:] == [
    "| dcn | ml-1m | SASRec | HR@10 | 0.8245 (Table III) | data not at hand | "
    "Not here. |",
    "| fm | ml-1m | SASRec | HR@10 | 0.8245 (Table III) | no result |  |",
  ]
  all_rows = results_tables.load_all_results(experiments)
  assert [r["measured"] for r in all_rows] == [0.7, 0.8231]
  assert [r.get("why") for r in all_rows] == ["One epoch.", None]
  assert results_tables.load_rows(experiments / "planned") == []


def test_publish(make_workdir, tmp_path):
  (tmp_path / "published.toml").write_text(
    """
    paper = "Kang and McAuley 2018."
    [[cell]]
    run = "sasrec_ml1m_bce"
    dataset = "ml-1m"
    model = "SASRec"
    metric = "ndcg@10"
    published = 0.14
    tolerance = 0.01
    source = "Table 3"
    protocol = "full catalogue"
    """
  )
  readme = tmp_path / "README.md"
  readme.write_text("<!-- results:begin --><!-- results:end -->")
  results = tmp_path / "results.json"
  arguments = (tmp_path / "published.toml", [tmp_path / "runs"], results)
  with pytest.raises(errors.ConfigError, match="no finished run is called"):
    results_tables.publish(*arguments, readme)
  assert not results.exists()
  make_workdir("runs/one")
  (made,) = results_tables.publish(*arguments, readme)
  assert published.load_results(results) == [made]
  assert results_tables.readme_is_current(readme, [made])
  assert "| 0.1340 | [0.1300, 0.1380] | yes (± 0.01) |" in readme.read_text()
