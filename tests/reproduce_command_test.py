"""`recjax reproduce`: what it lists, what it runs, and what it refuses."""

import contextlib
import io
import json

import pytest

from recjax import cli, reproduce_command
from recjax.named_run import NamedRun
from recjax.reproduction import Budget
from recjax.runs import published
from recjax.runs.record import RunRecord
from tests.made_recipes import Trainer, add_data, add_experiment

NO_DATA = "bindings = ['Frappe.folder = \"nowhere\"']"
# A few steps that are trained in earnest.
TINY = """bindings = [
  "RankingExperiment.batch_size = 16",
  "FM.dim = 2",
  "TrainConfig.max_steps = 5",
  "TrainConfig.log_every_steps = 1",
  "TrainConfig.checkpoint_every_steps = 2",
]"""


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture
def trainer(monkeypatch) -> Trainer:
  made = Trainer()
  train = lambda run, *args, **more: made.train(run, *args, **more)
  monkeypatch.setattr(NamedRun, "train", train)
  return made


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
  """Runs the command in a checkout: exit status, output, errors."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("COLUMNS", "100")

  def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    folders = ["--data_dir=data", "--cache_dir=cache"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = cli.main(["reproduce", *map(str, arguments), *folders])
    return status, out.getvalue(), err.getvalue()

  return run


@pytest.fixture
def two(tmp_path, trainer):
  """A recipe with data and a recipe without; a run takes a minute."""
  add_data(tmp_path)
  add_experiment(tmp_path, "fm", "seeds = [1, 2]\nminutes = 3")
  add_experiment(tmp_path, "absent", f"minutes = 1\n{NO_DATA}")
  return tmp_path


# --- Listing -----------------------------------------------------------------


def test_the_list(reproduce, two):
  status, out, err = reproduce("--list")
  assert (status, err) == (0, "")
  assert max(map(len, out.splitlines())) <= 100
  lines = [line.split() for line in out.splitlines()]
  assert "absent AUC 0.8000 – data not at hand 1 min 00 s".split() in lines
  assert "fm AUC 0.8000 – no result 2 x 3 min 00 s".split() in lines
  assert str(two / "data" / "nowhere") in "".join(out.split("\n"))
  assert out.endswith("2 published numbers: 1 no result, 1 data not at hand.\n")


def test_the_list_as_json(reproduce, two):
  status, out, err = reproduce("--list", "--json", "--out=made/ledger.json")
  assert (status, err) == (0, "")
  facts = json.loads(out)
  assert json.loads((two / "made" / "ledger.json").read_text()) == facts
  absent, fm = facts["cells"]
  assert (absent["status"], fm["status"]) == ("data not at hand", "no result")
  assert str(two / "data" / "nowhere") in absent["missing_data"]
  assert fm["missing_data"] == "" and fm["problem"] == ""
  assert (fm["minutes"], fm["recipe"]["seeds"]) == (6, [1, 2])


def test_the_list_of_a_name(reproduce, two):
  status, out, _ = reproduce("--list", "fm")
  assert status == 0 and "absent" not in out
  for line in (
    "fm, AUC",
    "  source: Table 1",
    "  gin files: experiments/fm/own.gin",
    "  command: recjax reproduce fm --workdir=DIR --data_dir=DIR",
  ):
    assert line in out.splitlines()


def test_the_list_tells_of_a_missing_gin_file(reproduce, two):
  (two / "experiments" / "fm" / "own.gin").unlink()
  status, out, _ = reproduce("--list", "--json")
  assert status == 0
  _, fm = json.loads(out)["cells"]
  assert "no gin file 'own.gin'" in fm["problem"]
  assert fm["config_is_current"] is None


# --- Running -----------------------------------------------------------------


def test_a_result_beside_the_published(reproduce, two, trainer):
  trainer.auc = {("fm", 1): 0.82, ("fm", 2): 0.84}
  status, out, err = reproduce("fm", "--workdir=runs")
  assert status == 0, err
  assert trainer.trained == [("fm", 1), ("fm", 2)]
  (row,) = [line.split() for line in out.splitlines() if "AUC" in line][:1]
  # Student's t with one degree of freedom: 12.706205 * 0.01.
  assert row == "fm AUC 0.8000 0.8300 [0.7029, 0.9571] no 2 –".split()
  assert "fm (AUC) is outside its bounds: published.toml does not say" in out
  assert not (two / "experiments" / "fm" / "results.json").exists()
  status, out, _ = reproduce("fm", "--workdir=runs", "--update")
  assert len(trainer.trained) == 2
  assert out.splitlines()[-1] == "experiments/fm/results.json"
  _, out, _ = reproduce("--list", "--json", "fm")
  (fm,) = json.loads(out)["cells"]
  assert (fm["measured"], fm["status"]) == (0.83, "outside")
  assert (fm["config_is_current"], fm["seeds"]) == (True, [1, 2])
  assert fm["made_by"].startswith("recjax train --gin_file=experiments/fm/own")


def test_all_within_a_budget(reproduce, two, trainer):
  status, out, _ = reproduce("--all", "--workdir=runs", "--budget=5")
  assert (status, trainer.trained) == (0, [])
  assert "fm: left out, for it takes about 6.0 minutes" in out
  assert "absent: left out, data not at hand: " in out
  status, out, _ = reproduce("--all", "--workdir=runs", "--budget=7")
  assert (status, len(trainer.trained)) == (0, 2)
  assert "absent: left out" in out and "fm: left out" not in out


def test_an_update_waits_for_all_seeds(reproduce, two, trainer, monkeypatch):
  # A run takes longer than it did: after one, the budget of 7 is spent.
  slow = lambda minutes: Budget(minutes, lambda: trainer.secs * 8)
  monkeypatch.setattr(reproduce_command, "Budget", slow)
  arguments = ("--all", "--workdir=runs", "--update", "--budget=7")
  status, out, _ = reproduce(*arguments)
  assert (status, trainer.trained) == (0, [("fm", 1)])
  assert "fm seed 2: not started, the budget is spent" in out
  assert "Without the seeds 2, which are not finished." in out
  assert "fm: results.json stays as it is, for seeds are missing." in out
  assert not (two / "experiments" / "fm" / "results.json").exists()


def test_all_with_a_failure(reproduce, two, trainer):
  trainer.fails = {"fm"}
  status, _, err = reproduce("--all", "--workdir=runs")
  assert status == 1
  assert "1 of 2 recipes failed:\nfm: the loss of fm is not finite." in err


@pytest.fixture
def tiny(tmp_path):
  add_data(tmp_path)
  cell = add_experiment(tmp_path, "tiny", TINY) / "published.toml"
  cell.write_text(cell.read_text().replace('"made"', '"frappe"'))
  return cell.parent


def test_a_killed_reproduction_goes_on(reproduce, tiny, tmp_path, monkeypatch):
  log = RunRecord.log

  def killed(record, step, **scalars):
    if step == 4:
      raise KeyboardInterrupt
    log(record, step, **scalars)

  monkeypatch.setattr(RunRecord, "log", killed)
  status, _, err = reproduce("tiny", "--workdir=runs")
  assert (status, err) == (130, "recjax: interrupted.\n")
  workdir = RunRecord("runs/tiny/seed_0").workdir
  assert not (workdir / "result.json").exists()
  steps = [line["step"] for line in RunRecord(workdir).read_metrics()]
  assert max(steps) == 3
  monkeypatch.setattr(RunRecord, "log", log)
  status, out, err = reproduce("tiny", "--workdir=runs", "--update")
  assert status == 0, err
  assert out.startswith("tiny seed 0: runs/tiny/seed_0\n")
  # An unbroken one gives the same.
  assert reproduce("tiny", "--workdir=unbroken")[0] == 0
  resumed = RunRecord(workdir).read_result()
  unbroken = RunRecord("unbroken/tiny/seed_0").read_result()
  assert resumed["num_steps"] == 5
  assert resumed["metrics"] == unbroken["metrics"]
  (row,) = published.load_results(tiny / "results.json")
  assert row["measured"] == round(unbroken["metrics"]["auc"], 6)
  assert row["within"] == (abs(row["measured"] - 0.8) <= 0.01)


def test_a_smoke_run_is_not_compared(reproduce, tiny):
  status, out, err = reproduce(
    "tiny", "--smoke", "--workdir=runs", "--gin.FM.dim=1"
  )
  assert status == 0, err
  result = RunRecord("runs/tiny/smoke").read_result()
  assert result["num_steps"] == 3
  for text in ("overlays/tiny_ranking.gin", "--gin.FM.dim=1"):
    assert text in result["command"]
  assert out.splitlines()[0] == "tiny: 3 steps, not to be compared"
  assert out.splitlines()[1].startswith("test auc ")
  assert not (tiny / "results.json").exists()
  # It is none of the seeds.
  _, out, _ = reproduce("--list", "--json")
  assert json.loads(out)["cells"][0]["status"] == "no result"
  assert not (tiny.parent.parent / "runs" / "tiny" / "seed_0").exists()


# --- What is refused ---------------------------------------------------------


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    ([], "needs the NAME of a recipe, --all or --list"),
    (["fn", "--workdir=runs"], "got 'fn'. Did you mean 'fm'?"),
    (["--list", "fn"], "Did you mean 'fm'?"),
    (["fm"], "recjax reproduce needs --workdir"),
    (["--all", "--workdir=runs", "--budget=-1"], "must lie in [0, inf]; got"),
    (["--all", "--workdir=runs", "--budget=soon"], "--budget"),
    (["--list", "--budget=3"], "--budget goes with --all"),
    (["fm", "--workdir=runs", "--budget=3"], "--budget goes with --all"),
    (["fm", "--json"], "--json goes with --list"),
    (["fm", "--out=a.json"], "--out goes with --list"),
    (["--list", "--out=a.txt"], "the ending of --out must be one of '.json'"),
    (["--list", "--smoke"], "--list and --smoke do not go together"),
    (["--list", "--all"], "--list and --all do not go together"),
    (["fm", "--smoke", "--update"], "--smoke and --update do not go together"),
    (["fm", "--all"], "give names or --all, and not both"),
    (["fm", "--workdir=runs", "--gin.SEED=3"], "takes recipes as they are"),
    (["--list", "--experiments=none"], "--experiments=DIR"),
    (["absent", "--workdir=runs"], "data/nowhere/frappe.train.libfm"),
    (["absent", "--workdir=runs", "--smoke"], "data/nowhere/frappe.train"),
  ],
)
def test_a_wrong_command(reproduce, two, trainer, arguments, expected):
  status, out, err = reproduce(*arguments)
  assert status == 1, out
  assert expected in err
  assert not trainer.trained and not (two / "runs").exists()


def test_a_missing_gin_file_is_told(reproduce, two):
  (two / "experiments" / "fm" / "own.gin").unlink()
  status, _, err = reproduce("fm", "--workdir=runs")
  assert status == 1
  for text in ("the recipe 'fm' of", "no gin file 'own.gin'; looked in"):
    assert text in err


def test_a_cell_without_a_source_is_refused(reproduce, two):
  path = two / "experiments" / "fm" / "published.toml"
  path.write_text(path.read_text().replace('source = "Table 1"', ""))
  status, out, err = reproduce("--list")
  assert (status, out) == (1, "")
  assert "cell 1 (fm) lacks 'source': a number that nobody can look up" in err
