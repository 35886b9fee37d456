"""Slices and metrics of lists, from gin files to tables, for all that ranks."""

import contextlib
import dataclasses
import io
import json
import pathlib

import jax
import numpy as np
import optax
import pytest

from recjax import cli, gin_config, launch, roots
from recjax.evaluation.eval_report import EvalReport
from recjax.runs.record import RunRecord
from recjax.train.state import init_state

NUM_USERS, NUM_ITEMS = 70, 50
GIN = {
  "items": """
    from __gin__ import dynamic_registration
    from recjax import experiment
    from recjax.models import sasrec
    from recjax.train import loop
    include "datasets/ml_100k.gin"
    include "overlays/lists_movielens.gin"
    include "overlays/tiny.gin"
    SEED = 0
    experiment.Experiment.name = "items"
    experiment.Experiment.seed = %SEED
    experiment.Experiment.model = @sasrec.SASRec()
    experiment.Experiment.train = @loop.TrainConfig()
    sasrec.SASRec.max_len = 12
    sasrec.SASRec.num_blocks = 1
  """,
  "pairs": """
    from __gin__ import dynamic_registration
    from recjax import pairs_experiment
    from recjax.data.sources import movielens
    from recjax.evaluation import candidates
    from recjax.evaluation import protocol
    from recjax.models import gmf
    from recjax.train import loop
    include "overlays/lists_movielens_pairs.gin"
    include "overlays/tiny_pairs.gin"
    pairs_experiment.PairsExperiment.source = @movielens.MovieLens100K()
    pairs_experiment.PairsExperiment.name = "pairs"
    pairs_experiment.PairsExperiment.model = @gmf.GMF()
    pairs_experiment.PairsExperiment.train = @loop.TrainConfig()
    pairs_experiment.PairsExperiment.protocol = @protocol.Protocol()
    protocol.Protocol.candidates = @candidates.UniformNegatives()
    pairs_experiment.PairsExperiment.validation_candidates = \\
      @candidates.UniformNegatives()
  """,
  "towers": """
    include "runs/two_tower_ml100k.gin"
    include "overlays/lists_movielens_retrieval.gin"
    include "overlays/tiny_retrieval.gin"
  """,
}
PER_USER = {
  f"{name}@10{feature}"
  for name, feature in (
    ("novelty", ""), ("average_popularity", ""), ("popularity_lift", ""),
    ("serendipity", ""), ("diversity", "/genres"),
    ("miscalibration", "/genres"),
  )
}  # fmt: skip
OF_ALL = {
  "coverage@10", "gini@10", "exposure_disparity@10/genres",
  "merit_disparity@10/genres", "hit_rate_gap@10/gender",
  "hit_rate_ratio@10/gender",
}  # fmt: skip


def command(*arguments) -> str:
  """What a command prints; it must succeed."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(argument) for argument in arguments])
  assert status == 0, err.getvalue()
  return out.getvalue()


def write_movielens(folder: pathlib.Path) -> None:
  """The three files of MovieLens-100K; women like even movies."""
  folder.mkdir()
  rng = np.random.default_rng(0)
  lines = {"u.data": [], "u.item": [], "u.user": []}
  for user in range(1, NUM_USERS + 1):
    gender, age = "MF"[user % 2], 20 + user % 30
    lines["u.user"].append(f"{user}|{age}|{gender}|other|00000\n")
    weight = 1.0 + 3 * (np.arange(NUM_ITEMS) % 2 == user % 2)
    num = rng.integers(4, 14)
    items = rng.choice(NUM_ITEMS, num, False, weight / weight.sum()) + 1
    for seconds, item in enumerate(items):
      lines["u.data"].append(f"{user}\t{item}\t4\t{1000 * seconds + user}\n")
  for item in range(1, NUM_ITEMS + 1):
    genres = "|".join(str(int(g in (item % 5, 5))) for g in range(19))
    lines["u.item"].append(f"{item}|Movie {item}|01-Jan-1990|||{genres}\n")
  for name, text in lines.items():
    (folder / name).write_text("".join(text), "latin-1")


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("lists")
  write_movielens(folder / "ml-100k")
  return folder


@pytest.fixture(scope="module")
def gin_file(folder):
  """A gin file of a kind of experiment."""

  def write(kind: str) -> pathlib.Path:
    lines = [line.strip() for line in GIN[kind].splitlines()]
    path = folder / f"{kind}.gin"
    path.write_text("\n".join(lines).replace("\\\n@", "\\\n  @"))
    return path

  return write


@pytest.fixture(scope="module")
def tested(folder, gin_file):
  """What untrained weights give, and the workdir that it is saved in."""
  known = {}

  def test(kind: str):
    if kind not in known:
      gin_config.parse([gin_file(kind)])
      bench = roots.construct_root().open(folder, folder / "cache")
      weights = init_state(bench.task, optax.identity(), jax.random.key(0))
      result = bench.test(weights.weights)
      record = RunRecord(folder / f"bench-{kind}")
      bench.save(record, result, "test")
      known[kind] = bench, result, record.workdir
    return known[kind]

  return test


@pytest.mark.parametrize("kind", GIN)
def test_metrics_of_lists_stand_among_all_others(tested, kind):
  bench, result, workdir = tested(kind)
  kept = dict(np.load(workdir / "per_user" / "test.npz"))
  assert PER_USER | OF_ALL <= set(result.metrics)
  assert PER_USER <= set(kept) and not OF_ALL & set(kept)
  for name in PER_USER:
    mean = np.nanmean(kept[name].astype(float))
    assert result.metrics[name] == pytest.approx(mean)
    low, high = result.intervals[name]
    assert low <= mean <= high
    assert np.isfinite(result.floor[name])
  lists = bench.facts(result)["lists"]
  shares = [row["share_of_items"] for row in lists["providers"]["genres"]]
  assert sum(shares) == pytest.approx(1)
  # The gap is that of what is kept of each user.
  values = kept["hit_rate@10"].astype(float)
  means = [values[kept["user_id"] % 2 == rest].mean() for rest in (0, 1)]
  assert result.metrics["hit_rate_gap@10/gender"] == pytest.approx(
    abs(means[0] - means[1])
  )


@pytest.mark.parametrize("kind", GIN)
def test_lists_are_what_they_say(tested, kind):
  """Coverage and popularity of the lists, from the lists themselves."""
  bench, result, _ = tested(kind)
  items = result.lists.items
  assert (items > 0).all() and items.shape[1] == 10
  listed = np.unique(items)
  assert result.metrics["coverage@10"] == len(listed) / NUM_ITEMS
  rows = bench.split.train
  had = {
    (user, item)
    for user, item in zip(
      bench.interactions.user_id[rows].tolist(),
      bench.interactions.item_id[rows].tolist(),
    )
  }
  num = len({user for user, _ in had})
  share = [sum(i == item for _, i in had) / num for item in items[5]]
  found = result.per_user["average_popularity@10"][5]
  assert found == pytest.approx(np.mean(share))
  if kind != "towers":  # There, items from before may come again.
    user = result.user_id[5]
    assert not [item for item in items[5] if (user, item) in had]


@pytest.mark.parametrize("kind", GIN)
def test_slices_hold_all_metrics(tested, kind):
  _, result, workdir = tested(kind)
  slices = json.loads((workdir / "slices" / "test.json").read_text())
  assert set(slices) == {
    "users", "items", "users/history_length", "items/popularity",
    "users/gender", "users/age", "items/genres",
  }  # fmt: skip
  kept = dict(np.load(workdir / "per_user" / "test.npz"))
  for row in slices["users/gender"]:
    inside = kept["user_id"] % 2 == (row["slice"] == "F")
    for name in set(kept) - {"user_id"}:
      expected = np.nanmean(kept[name][inside].astype(float))
      assert row["metrics"][name] == pytest.approx(expected)
      assert len(row["intervals"][name]) == 2
  for of in ("users", "items"):
    num = sum(row["num_targets"] for row in slices[of])
    assert num == result.num_targets.sum()
  assert (workdir / "plots" / "test-slices.png").exists()


def test_from_a_gin_file_to_a_report(folder, gin_file):
  workdir = folder / "run"
  command(
    "train", f"--gin_file={gin_file('pairs')}", f"--workdir={workdir}",
    f"--data_dir={folder}", f"--cache_dir={folder / 'cache'}",
  )  # fmt: skip
  result = json.loads((workdir / "result.json").read_text())
  assert PER_USER | OF_ALL <= set(result["metrics"])
  assert PER_USER <= set(result["intervals"]) & set(result["floor"])
  assert result["lists"]["k"] == 10
  out = folder / "diff.json"
  command("diff", workdir, workdir, f"--out={out}")
  changes = json.loads(out.read_text())["changes"]
  where = {(each["where"], each["metric"]) for each in changes}
  assert ("", "novelty@10") in where and ("", "coverage@10") in where
  assert ("users/gender=F", "miscalibration@10/genres") in where
  assert ("items/genres=Animation", "ndcg@10") in where
  command("report", workdir, f"--out={folder / 'report'}")
  text = (folder / "report" / "report.md").read_text()
  for part in (
    "| Coverage@10 |",
    "| Miscalibration@10 genres |",
    "<summary>Users by gender</summary>",
    "<summary>Items by popularity</summary>",
    "<summary>Exposure by genres</summary>",
    "<summary>HR@10 by gender</summary>",
  ):
    assert part in text
  assert text.count("_slices.png") == 1


def test_a_wrong_feature_is_told_before_training(
  folder, gin_file, tmp_path, capsys
):
  status = cli.main(
    [
      "train", f"--gin_file={gin_file('items')}",
      f"--workdir={tmp_path / 'run'}", f"--data_dir={folder}",
      f"--cache_dir={folder / 'cache'}",
      "--gin.ListReport.item_features=('genre',)",
    ]
  )  # fmt: skip
  assert status == 1
  assert "Did you mean 'genres'?" in capsys.readouterr().err
  assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_is_not_asked_for_leaves_no_trace(folder, gin_file):
  """The config of a run from before there was a report hashes as it did."""
  lines = [
    line
    for line in gin_file("pairs").read_text().splitlines()
    if "lists_movielens" not in line
  ]
  path = folder / "plain.gin"
  path.write_text("\n".join(lines))
  gin_config.parse([path])
  settings = roots.construct_root()
  assert "eport" not in gin_config.operative_text()
  assert "report" not in launch._settings_text(settings)
  asked = dataclasses.replace(settings, report=EvalReport(deciles=True))
  assert "report = EvalReport(" in launch._settings_text(asked)
