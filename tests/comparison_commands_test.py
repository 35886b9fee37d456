"""`recjax front` and `recjax compare` on small runs that were trained."""

import contextlib
import csv
import io
import json
import shutil

import numpy as np
import pytest

from recjax import cli
from recjax.runs.predictions import load_predictions


def command(*arguments):
  """Exit status, standard output and standard error of a command."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(argument) for argument in arguments])
  return status, out.getvalue(), err.getvalue()


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
  monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Runs of two learning rates, and the flags of their folders."""
  root = tmp_path_factory.mktemp("front")
  folders = [f"--data_dir={root}", f"--cache_dir={root / 'cache'}"]
  files = (
    "datasets/planted_conversions.gin",
    "models/multi_task_census.gin",
    "overlays/pareto_front.gin",
    "overlays/tiny_multi_task.gin",
  )
  bindings = (
    "PlantedConversions.num_train=300",
    "PlantedConversions.num_validation=400",
    "PlantedConversions.num_test=600",
    "PlantedConversions.num_users=20",
    "PlantedConversions.click_rate=0.4",
    "PlantedConversions.conversion_rate=0.4",
    "ClassificationProtocol.metrics=('auc', 'gauc@user')",
    "TrainConfig.select='auc/click*conversion'",
    "ParetoFront.num_weights=5",
  )
  for rate in (0.001, 0.05):
    status, _, err = command(
      "train",
      *(f"--gin_file={name}" for name in files),
      *(f"--gin.{binding}" for binding in bindings),
      f"--gin.ParamGroup.learning_rate={rate}",
      f"--gin.MultiTaskExperiment.name='rate_{rate}'",
      f"--workdir={root / 'runs' / str(rate)}",
      *folders,
    )
    assert status == 0, err
  return root / "runs", folders


@pytest.fixture
def workdir(trained):
  return trained[0] / "0.05"


def test_the_front_is_that_of_the_run(trained, workdir, tmp_path):
  _, folders = trained
  result = json.loads((workdir / "result.json").read_text())
  before = (workdir / "result.json").read_bytes()
  status, out, err = command(
    "front", f"--workdir={workdir}", "--num_weights=5", *folders
  )
  assert status == 0, err
  found = json.loads((workdir / "front" / "pareto.json").read_text())
  expected = result["pareto_front"]
  assert found.keys() == expected.keys()
  for name in ("weights", "validation", "test"):
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
  assert found["on_front"] == expected["on_front"]
  assert found["judged"] == ["click", "click*conversion"]
  assert "served score (product), of 5 weighings" in out
  assert "weight of click" in out
  for name in ("pareto.csv", "pareto.json", "pareto.png"):
    assert str(workdir / "front" / name) in out
  assert (workdir / "result.json").read_bytes() == before
  status, out, err = command(
    "front", f"--workdir={workdir}", "--combine=sum", f"--out={tmp_path}",
    *folders,
  )  # fmt: skip
  assert status == 0, err
  with open(tmp_path / "pareto.csv", newline="") as file:
    assert len(list(csv.DictReader(file))) == 21


def test_mistakes_are_told(trained, workdir):
  _, folders = trained
  for arguments, message in (
    ([], "needs --workdir"),
    ([f"--workdir={workdir}", "--combine=max"], "combine"),
    ([f"--workdir={workdir}", "--num_weights=1"], "num_weights must lie"),
    ([f"--workdir={workdir}", "--num_weights=9999"], "makes 9,999 points"),
    ([f"--workdir={workdir}", "more"], "got 'more'"),
    ([f"--workdir={workdir}", "--gin.SEED=1"], "got '--gin.SEED=1'"),
    (["--workdir=nowhere"], "no run was started here"),
  ):
    status, _, err = command("front", *arguments, *folders)
    assert status == 1 and message in err, arguments


def test_a_run_of_one_objective_is_told(tmp_path):
  (tmp_path / "config.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "from recjax import ranking_experiment\n"
    "from recjax.data.sources import frappe\n"
    "ranking_experiment.RankingExperiment.source = @frappe.Frappe()\n"
  )
  (tmp_path / "operative.gin").write_text("# config hash: 0\n")
  status, _, err = command("front", f"--workdir={tmp_path}")
  assert status == 1
  assert "RankingExperiment: `recjax front` is for runs of MultiTask" in err


def test_configs_are_compared(trained, tmp_path):
  runs, _ = trained
  outs = [tmp_path / f"found{ending}" for ending in (".json", ".md", ".csv")]
  status, out, err = command(
    "compare",
    runs,
    "--metric=auc/click",
    "--metric=auc/click*conversion@served",
    *(f"--out={path}" for path in outs),
  )
  assert status == 0, err
  facts = json.loads(outs[0].read_text())
  assert [group["seeds"] for group in facts["groups"]] == [[0], [0]]
  found = {(f["metric"], f["over"]): f for f in facts["findings"]}
  assert found["auc/click", "seeds"]["note"] == "one seed"
  for over in ("rows", "users (t)", "users (Wilcoxon)"):
    finding = found["auc/click", over]
    assert 0 <= finding["p_value"] <= finding["p_holm"] <= 1
    assert finding["interval"][0] <= finding["difference"]
  aucs = [
    json.loads((runs / name / "result.json").read_text())["metrics"][
      "auc/click"
    ]
    for name in ("0.001", "0.05")
  ]
  assert found["auc/click", "rows"]["difference"] == pytest.approx(
    aucs[0] - aucs[1], abs=1e-6
  )
  served = found["auc/click*conversion@served", "rows"]
  assert served["note"] == "no scores of rows are kept of it"
  assert "rate_0.001 - rate_0.05" in out and "rate_0.05: seeds 0" in out
  reason = "not tested over rows: no scores of rows are kept of it (a pair)"
  text = outs[1].read_text()
  assert f"NOTE {reason}" in out and f"Note: {reason}" in text
  assert text.startswith("# Comparison of runs") and "| users (t) |" in text
  with open(outs[2], newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["over"] for row in rows] == [f["over"] for f in facts["findings"]]
  assert float(rows[1]["low"]) <= float(rows[1]["high"])


def test_evaluation_writes_the_predictions_of_an_old_run(trained, tmp_path):
  runs, folders = trained
  for name in ("0.05", "0.001"):
    shutil.copytree(runs / name, tmp_path / name)
  old = tmp_path / "0.05"
  kept = load_predictions(old)
  shutil.rmtree(old / "predictions")
  status, out, err = command("compare", tmp_path)
  assert status == 0, err
  assert f"`recjax evaluate --workdir={old}` writes its" in out
  status, _, err = command("evaluate", f"--workdir={old}", *folders)
  assert status == 0, err
  status, out, err = command("compare", tmp_path)
  assert status == 0 and "NOTE" not in out, err
  (path,) = (old / "predictions").iterdir()
  again = load_predictions(old, [path.stem])
  score = again.tasks["click"].score
  np.testing.assert_allclose(score, kept.tasks["click"].score, rtol=1e-5)


def test_mistakes_of_a_comparison_are_told(trained):
  runs, _ = trained
  for arguments, message in (
    ([], "needs the workdirs of two or more runs"),
    ([runs / "0.05", runs / "0.05"], "differ in more than the seed"),
    ([runs, "--metric=auc/clic"], "Did you mean 'auc/click'"),
    ([runs, "--out=found.html"], "'.json', '.md', '.csv'; got '.html'"),
    ([runs, "--gin.SEED=1"], "would change nothing"),
    ([runs, "--user=city"], "--user, a column of groups, must be one of"),
    ([runs / "0.05", runs / "none"], "there is no folder"),
  ):
    status, _, err = command("compare", *arguments)
    assert status == 1 and message in err, (arguments, err)
