"""Recipes are read, checked, chosen by a budget, and carried out."""

import pathlib

import pytest

from recjax import errors, reproduction, roots
from recjax.named_run import NamedRun
from recjax.reproduction import Budget, Places, Reproduction
from recjax.runs import ledger, published, results_tables
from recjax.runs.record import RunRecord
from tests.made_recipes import Trainer, add_data, add_experiment

ROOT = pathlib.Path(__file__).parents[1]
NO_DATA = "bindings = ['Frappe.folder = \"nowhere\"']"


@pytest.fixture
def trainer(monkeypatch) -> Trainer:
  made = Trainer()
  train = lambda run, *args, **more: made.train(run, *args, **more)
  monkeypatch.setattr(NamedRun, "train", train)
  return made


def load(root: pathlib.Path, name: str) -> Reproduction:
  places = Places(root / "runs", root / "data", root / "cache")
  whole = ledger.load_ledger(root / "experiments")
  return reproduction.make_reproduction(whole, name, places)


# --- One recipe --------------------------------------------------------------


def test_the_seeds_of_a_recipe(tmp_path, trainer):
  add_data(tmp_path)
  add_experiment(tmp_path, "fm", "seeds = [4, 7]\nbindings = ['FM.dim = 3']")
  each, told = load(tmp_path, "fm"), []
  reproduction.train_seeds(each, Budget(), told.append)
  assert trainer.trained == [("fm", 4), ("fm", 7)]
  assert each.finished_seeds() == (4, 7)
  for seed in (4, 7):
    workdir = tmp_path / "runs" / "fm" / f"seed_{seed}"
    assert each.workdir(seed) == workdir
    assert RunRecord(workdir).read_result()["command"] == (
      "recjax train --gin_file=experiments/fm/own.gin '--gin.FM.dim = 3' "
      f"--gin.SEED={seed} --workdir={workdir}"
    )
    config = (workdir / "config.gin").read_text()
    assert f"SEED = {seed}" in config and "FM.dim = 3" in config
  reproduction.train_seeds(each, Budget(), told.append)
  assert len(trainer.trained) == 2
  assert told[-1].startswith("fm seed 7: finished in ")


def test_a_finished_run_of_another_config_is_refused(tmp_path, trainer):
  add_data(tmp_path)
  folder = add_experiment(tmp_path, "fm")
  load(tmp_path, "fm").train(0)
  toml = (folder / "published.toml").read_text()
  changed = toml.replace("[[cell]]", "bindings = ['FM.dim = 3']\n[[cell]]")
  (folder / "published.toml").write_text(changed)
  with pytest.raises(errors.RunError, match="holds a run of another config"):
    load(tmp_path, "fm").train(0)


def test_the_rows_are_those_of_the_finished_seeds(tmp_path, trainer):
  add_data(tmp_path)
  add_experiment(tmp_path, "fm", "seeds = [1, 2, 3]")
  each = load(tmp_path, "fm")
  assert each.rows() == []
  trainer.auc = {("fm", seed): 0.79 + seed / 100 for seed in (1, 2, 3)}
  each.train(1)
  (row,) = each.rows()
  assert (row["measured"], row["ci95"], row["seeds"]) == (
    0.8,
    [0.79, 0.81],
    [1],
  )
  each.train(2)
  each.train(3)
  (row,) = each.rows()
  assert (row["measured"], row["seeds"]) == (0.81, [1, 2, 3])
  # Student's t with two degrees of freedom: 4.302653 * 0.01 / sqrt(3).
  assert row["ci95"] == [0.785159, 0.834841]
  assert row["within"] is True


def test_what_is_left_to_pay(tmp_path, trainer):
  add_data(tmp_path)
  add_experiment(tmp_path, "fm", "seeds = [1, 2, 3]\nminutes = 5")
  add_experiment(tmp_path, "unknown", "seeds = [1, 2]")
  each = load(tmp_path, "fm")
  assert each.minutes_left() == 15
  each.train(2)
  assert each.minutes_left() == 10
  other = load(tmp_path, "unknown")
  assert other.minutes_left() is None
  other.train(1)
  other.train(2)
  assert other.minutes_left() == 0


def test_missing_data_are_told_and_nothing_is_written(tmp_path, trainer):
  add_data(tmp_path)
  add_experiment(tmp_path, "fm", NO_DATA)
  each = load(tmp_path, "fm")
  with pytest.raises(errors.DataError, match="nowhere") as info:
    each.train(0)
  assert str(tmp_path / "data" / "nowhere") in str(info.value)
  assert not (tmp_path / "runs").exists() and not trainer.trained
  assert each.check().missing_data == str(info.value)


def test_a_missing_gin_file(tmp_path):
  folder = add_experiment(tmp_path, "fm", "seeds = [3]")
  (folder / "own.gin").rename(folder / "owner.gin")
  each = load(tmp_path, "fm")
  with pytest.raises(errors.ConfigError, match="no gin file 'own.gin'") as info:
    each.read(3)
  for text in ("the recipe 'fm'", "published.toml", str(folder), "owner.gin"):
    assert text in str(info.value)
  assert each.check().problem == str(info.value)


def test_a_check_names_the_config(tmp_path):
  add_data(tmp_path)
  add_experiment(tmp_path, "fm", "seeds = [3, 1]")
  each = load(tmp_path, "fm")
  check = each.check()
  assert check == ledger.Check(each.read(1).config_hash)
  assert check.config_hash != each.read(3).config_hash


def test_no_model_yet(tmp_path):
  folder = tmp_path / "experiments" / "ease"
  folder.mkdir(parents=True)
  (folder / "published.toml").write_text(
    """
    [[cell]]
    run = "ease"
    dataset = "made"
    model = "EASE"
    metric = "auc"
    published = 0.8
    tolerance = 0.01
    source = "Table 1"
    protocol = "random split"
    missing = "model"
    why = "There is no EASE."
    """
  )
  with pytest.raises(errors.ConfigError, match="yet: There is no EASE"):
    load(tmp_path, "ease")
  whole = ledger.load_ledger(tmp_path / "experiments")
  places = Places("", tmp_path)
  (entry,) = reproduction.check_ledger(whole, places).entries
  assert entry.check is None and entry.status == "no model yet"


# --- Several -----------------------------------------------------------------


def train_all(root, trainer, minutes=None, names=("dear", "cheap", "mid")):
  told, shown = [], []
  budget = Budget(clock=trainer.clock)
  if minutes is not None:
    budget = Budget(minutes, trainer.clock)
  failed = reproduction.train_all(
    [load(root, name) for name in names],
    budget,
    told.append,
    lambda each: shown.append(each.name),
  )
  return told, shown, failed


@pytest.fixture
def three(tmp_path, trainer):
  """Recipes of 20, 2 and 6 minutes; a run takes one in truth."""
  add_data(tmp_path)
  add_experiment(tmp_path, "dear", "seeds = [1, 2]\nminutes = 10")
  add_experiment(tmp_path, "cheap", "seeds = [1]\nminutes = 2")
  add_experiment(tmp_path, "mid", "seeds = [1, 2, 3]\nminutes = 2")
  return tmp_path


def test_the_cheapest_come_first(three, trainer):
  told, shown, failed = train_all(three, trainer)
  assert shown == ["cheap", "mid", "dear"] and not failed
  assert [name for name, _ in trainer.trained] == shown[:1] + 3 * [
    "mid"
  ] + 2 * ["dear"]


@pytest.mark.parametrize(
  ("minutes", "expected"),
  [(0, []), (1.9, []), (2, ["cheap"]), (7, ["cheap", "mid"]), (23, None)],
)
def test_a_budget(three, trainer, minutes, expected):
  # One minute is spent by `cheap`, so that 7 leave 6 for `mid`; another three
  # by `mid`, and 23 leave 19 for `dear`, which takes 20.
  expected = expected if expected is not None else ["cheap", "mid"]
  told, shown, _ = train_all(three, trainer, minutes)
  assert shown == expected
  left_out = [line for line in told if "left out" in line]
  names = [name for name in ("cheap", "mid", "dear") if name not in expected]
  assert [line.split(":")[0] for line in left_out] == names
  assert "dear: left out, for it takes about 20.0 minutes" in left_out[-1]


def test_seeds_wait_for_another_budget(three, trainer):
  trainer.secs = -60 * 60
  budget = Budget(1.5, trainer.clock)
  told = []
  reproduction.train_seeds(load(three, "mid"), budget, told.append)
  # The second starts after one minute, the third would after two.
  assert trainer.trained == [("mid", 1), ("mid", 2)]
  assert told[-1] == "mid seed 3: not started, the budget is spent"
  reproduction.train_seeds(load(three, "mid"), Budget(), told.append)
  assert trainer.trained[2:] == [("mid", 3)]


def test_what_is_left_out(three, trainer):
  add_experiment(three, "absent", f"minutes = 1\n{NO_DATA}")
  add_experiment(three, "unknown")
  names = ("unknown", "absent", "cheap")
  told, shown, failed = train_all(three, trainer, 60, names)
  assert shown == ["cheap"] and not failed
  assert "unknown: left out, for nothing tells what it costs" in told
  (absent,) = [line for line in told if line.startswith("absent")]
  assert "data not at hand" in absent
  assert str(three / "data" / "nowhere") in absent
  _, shown, _ = train_all(three, trainer, names=names)
  assert shown == ["cheap", "unknown"]
  # What is finished costs nothing, and is shown again.
  told, shown, _ = train_all(three, trainer, 0, names)
  assert sorted(shown) == ["cheap", "unknown"] and len(trainer.trained) == 2


def test_a_failure_does_not_end_the_others(three, trainer):
  trainer.fails = {"cheap"}
  folder = three / "experiments" / "mid"
  (folder / "own.gin").unlink()
  add_experiment(three, "corrupt")
  (three / "runs" / "corrupt" / "seed_0").mkdir(parents=True)
  (three / "runs" / "corrupt" / "seed_0" / "result.json").write_text("{")
  names = ("corrupt", "dear", "mid", "cheap")
  told, shown, failed = train_all(three, trainer, names=names)
  assert shown == ["dear"]
  assert failed[0].startswith("corrupt: ") and "is corrupt" in failed.pop(0)
  assert failed[0] == "cheap: the loss of cheap is not finite."
  assert failed[1].startswith("mid: the recipe 'mid' of ")
  assert f"cheap: failed: {failed[0][7:]}" in told


@pytest.mark.parametrize("minutes", [-1, float("nan")])
def test_a_wrong_budget(minutes):
  with pytest.raises(errors.ConfigError, match=r"--budget .* must lie in"):
    Budget(minutes)


# --- Writing -----------------------------------------------------------------


def test_update(tmp_path, trainer):
  add_data(tmp_path)
  folder = add_experiment(tmp_path, "fm", "seeds = [1, 2]", 'why = "It is."')
  marks = "<!-- results:begin -->\n<!-- results:end -->\n"
  for path in (tmp_path / "README.md", folder / "README.md"):
    path.write_text(marks)
  (tmp_path / "docs").mkdir()
  (tmp_path / "docs" / "results.md").write_text("old")
  experiments = tmp_path / "experiments"
  each = load(tmp_path, "fm")
  each.train(1)
  with pytest.raises(errors.RunError, match="not finished are the seeds 2"):
    reproduction.update(each, experiments)
  assert not (folder / "results.json").exists()
  trainer.auc["fm", 2] = 0.9
  each.train(2)
  written = reproduction.update(each, experiments)
  assert [pathlib.Path(path).relative_to(tmp_path) for path in written] == [
    pathlib.Path(path)
    for path in (
      "experiments/fm/results.json",
      "experiments/fm/README.md",
      "README.md",
      "docs/results.md",
    )
  ]
  (row,) = published.load_results(folder / "results.json")
  assert (row["measured"], row["within"]) == (0.85, False)
  for path in written[1:]:
    text = pathlib.Path(path).read_text()
    assert "| 0.8500 |" in text
    assert "Outside the bounds: fm (AUC). It is." in text
  rows = results_tables.load_rows(folder)
  assert results_tables.readme_is_current(folder / "README.md", rows)
  assert (
    "1 published numbers: 1 outside." in pathlib.Path(written[-1]).read_text()
  )


# --- Ours --------------------------------------------------------------------


def test_every_kind_of_experiment_has_an_overlay():
  assert set(reproduction.OVERLAYS) == {root.__name__ for root in roots.ROOTS}
  for name in reproduction.OVERLAYS.values():
    assert (ROOT / "gin" / name).is_file()
