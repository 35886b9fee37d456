"""What the plots draw, read back from the figures."""

import subprocess
import sys

import numpy as np
import pytest

from recjax.runs import collection, plots

PNG = b"\x89PNG\r\n\x1a\n"


def lines_of(axes):
  """{label: (x, y)} of the lines of a plot."""
  return {
    line.get_label(): tuple(map(list, line.get_data()))
    for line in axes.get_lines()
  }


def test_training():
  metrics = [
    {"step": 1, "loss": 2.0},
    {"step": 2, "loss": None},
    {"step": 3, "loss": 1.0, "validation/ndcg@10": 0.1},
    {"step": 4, "validation/ndcg@10": 0.2, "validation/hit_rate@10": 0.3},
  ]
  figure = plots.training_figure(metrics, best_step=4, title="run")
  loss, validation = figure.axes
  ((x, y),) = lines_of(loss).values()
  assert (x, y) == ([1, 3], [2.0, 1.0])
  lines = lines_of(validation)
  assert lines["NDCG@10"] == ([3, 4], [0.1, 0.2])
  assert lines["HR@10"] == ([4], [0.3])
  assert lines["best: step 4"][0] == [4, 4]
  for axes in figure.axes:
    assert axes.get_xlabel() == "optimizer steps" and axes.get_ylabel()
  assert plots.png_bytes(figure).startswith(PNG)


def test_a_long_loss_is_smoothed():
  loss = np.sin(np.arange(400.0)) + 2
  metrics = [{"step": i, "loss": v} for i, v in enumerate(loss)]
  (axes,) = plots.training_figure(metrics).axes
  _, smooth = lines_of(axes)["mean of the last 10"]
  expected = [loss[max(0, i - 9) : i + 1].mean() for i in range(400)]
  np.testing.assert_allclose(smooth, expected)
  assert lines_of(axes)["each logged step"][1] == list(loss)


def test_few_validation_metrics_are_chosen():
  names = ["ndcg@5", "ndcg@10", "hit_rate@5", "hit_rate@10", "mrr"]
  metrics = [{"step": 1, **{f"validation/{name}": 0.5 for name in names}}]
  chosen = [key.split("/")[1] for key in plots.validation_keys(metrics)]
  assert chosen == ["ndcg@10", "hit_rate@10", "mrr"]
  assert plots.validation_keys([{"step": 1, "loss": 1.0}]) == []


@pytest.mark.parametrize("bayes", [{}, {"ndcg@10": 0.2, "hit_rate@10": 0.4}])
def test_test_metrics(result_of, bayes):
  result = result_of(bayes_optimal=bayes)
  (axes,) = plots.test_figure(result).axes
  bars = {
    container.get_label(): [bar.get_height() for bar in container.patches]
    for container in axes.containers
    if hasattr(container, "patches") and container.patches
  }
  assert bars["this run"] == [0.134, 0.25]
  assert bars["popularity (floor)"] == [0.012, 0.025]
  ticks = [tick.get_text() for tick in axes.get_xticklabels()]
  assert ticks == ["NDCG@10", "HR@10"]
  error_bars = axes.containers[1].lines[2][0].get_segments()
  ends = [[segment[0][1], segment[1][1]] for segment in error_bars]
  np.testing.assert_allclose(ends, [[0.13, 0.138], [0.239, 0.261]])
  legend = [text.get_text() for text in axes.get_legend().get_texts()]
  assert ("Bayes optimum" in legend) == bool(bayes)


def test_metrics_without_interval_or_value(result_of):
  result = result_of(
    metrics={"mrr": 0.5, "ndcg@10": None}, intervals={}, floor={}
  )
  (axes,) = plots.test_figure(result).axes
  assert [bar.get_height() for bar in axes.containers[0].patches] == [0.5]


def test_metrics_of_lists_are_not_among_shares(result_of):
  metrics = {"ndcg@10": 0.1, "novelty@10": 7.5, "ndcg_gap@10/age": 0.01}
  figure = plots.test_figure(result_of(metrics=metrics))
  (axes,) = figure.axes
  names = [text.get_text() for text in axes.get_xticklabels()]
  assert names == ["NDCG@10"]


def test_comparison(make_workdir, tmp_path):
  for seed, value in enumerate((0.13, 0.15)):
    make_workdir(f"{seed}", seed=seed, metrics={"ndcg@10": value})
  make_workdir("ce", name="ce", config_hash_without_seed="ce")
  runs, _ = collection.load_runs([tmp_path])
  groups, _ = collection.group_runs(runs)
  (axes,) = plots.comparison_figure(groups, "ndcg@10").axes
  ticks = [tick.get_text() for tick in axes.get_yticklabels()]
  assert ticks == ["ce", "sasrec_ml1m_bce  (2 seeds)"]
  points = [
    line.get_xdata() for line in axes.get_lines() if line.get_marker() == "o"
  ]
  np.testing.assert_allclose(np.ravel(points), [0.134, 0.14])
  assert lines_of(axes)["popularity (floor)"][0] == [0.012, 0.012]


def test_files_and_no_global_state(result_of, tmp_path):
  plots.plot_training([{"step": 1, "loss": 1.0}], tmp_path / "a/training.png")
  plots.plot_test(result_of(), tmp_path / "a/test.png")
  for name in ("training", "test"):
    assert (tmp_path / f"a/{name}.png").read_bytes().startswith(PNG)
  assert len(list((tmp_path / "a").iterdir())) == 2
  code = (
    "import sys; from recjax.runs import plots; "
    "sys.exit('matplotlib.pyplot' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
