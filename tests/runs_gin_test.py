"""Every file of gin/runs trains, and what the commands say about it."""

import contextlib
import io
import json
import pathlib
import re

import numpy as np
import pytest

from recjax import cli
from recjax.data.sources import adult
from recjax.data.sources.census_income import COLUMNS
from recjax.data.sources.planted_criteo import PlantedCriteo
from recjax.runs import ledger

ROOT = pathlib.Path(__file__).parents[1]
LEDGER = ledger.load_ledger(ROOT / "experiments")
RECIPES = {each.name: each.recipe for each in LEDGER.entries if each.recipe}
RUNS = sorted(path.stem for path in (ROOT / "gin" / "runs").glob("*.gin"))
FILES = ("sasrec-ml-1m/ml-1m.txt", "bert4rec-beauty/beauty.txt")
NUM_USERS, NUM_ITEMS = 60, 60


def command(*arguments) -> tuple[int, str, str]:
  """Exit status, standard output and standard error of a command."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(argument) for argument in arguments])
  return status, out.getvalue(), err.getvalue()


def last_line(text: str) -> str:
  return text.rstrip().splitlines()[-1]


pytestmark = pytest.mark.usefixtures("quick_compiler")


def write_ncf(folder: pathlib.Path, rng: np.random.Generator) -> None:
  """Training pairs, test ratings and test negatives; ids from 0."""
  folder.mkdir()
  lines = {"train.pairs": [], "test.rating": [], "test.negative": []}
  for user in range(NUM_USERS):
    items = rng.permutation(NUM_ITEMS)
    lines["train.pairs"] += [f"{user}\t{item}\n" for item in items[1:9]]
    lines["test.rating"].append(f"{user}\t{items[0]}\t5\t1000\n")
    negatives = "\t".join(map(str, items[9:29]))
    lines["test.negative"].append(f"({user},{items[0]})\t{negatives}\n")
  for name, text in lines.items():
    (folder / f"ml-1m.{name}").write_text("".join(text))


def write_frappe(folder: pathlib.Path, rng: np.random.Generator) -> None:
  """Labels and ten indices a line, two of three labels negative."""
  folder.mkdir()
  for part, num in (("train", 300), ("validation", 60), ("test", 60)):
    rows = rng.integers(0, 9, (num, 10)) + 10 * np.arange(10)
    text = [
      f"{1 if number % 3 == 0 else -1} {' '.join(f'{i}:1' for i in row)}\n"
      for number, row in enumerate(rows)
    ]
    (folder / f"frappe.{part}.libfm").write_text("".join(text))


def write_criteo(folder: pathlib.Path) -> None:
  """A file in Criteo's format."""
  process = PlantedCriteo(800, [30] * 26, validation=0, test=0)
  (path,) = process.write(folder)
  path.rename(folder / "train.txt")


def write_movielens(folder: pathlib.Path, rng: np.random.Generator) -> None:
  """Ratings, movies and people in the format of MovieLens-100K."""
  folder.mkdir()
  lines = {"u.data": [], "u.item": [], "u.user": []}
  for user in range(1, NUM_USERS + 1):
    lines["u.user"].append(f"{user}|{20 + user}|F|other|00000\n")
    for item in rng.choice(NUM_ITEMS, 20, replace=False) + 1:
      seconds = int(rng.integers(10**6))
      lines["u.data"].append(f"{user}\t{item}\t4\t{seconds}\n")
  for item in range(1, NUM_ITEMS + 1):
    genres = "|".join("1" if g == item % 19 else "0" for g in range(19))
    title = f"Movie {item % 7} (1990)"
    lines["u.item"].append(f"{item}|{title}|01-Jan-1990|||{genres}\n")
  for name, text in lines.items():
    (folder / name).write_text("".join(text), "latin-1")


def write_gowalla(folder: pathlib.Path, rng: np.random.Generator) -> None:
  """Lines "user item item ..." for training and test; ids from 0."""
  folder.mkdir()
  lines = {"train": [], "test": []}
  for user in range(NUM_USERS):
    items = rng.permutation(NUM_ITEMS)[:14]
    lines["train"].append(" ".join(map(str, [user, *items[:10]])) + "\n")
    lines["test"].append(" ".join(map(str, [user, *items[10:]])) + "\n")
  for name, text in lines.items():
    (folder / f"{name}.txt").write_text("".join(text))
  for kind, num in (("user", NUM_USERS), ("item", NUM_ITEMS)):
    ids = "".join(f"x{number} {number}\n" for number in range(num))
    (folder / f"{kind}_list.txt").write_text(f"org_id remap_id\n{ids}")


def write_census(folder: pathlib.Path, rng: np.random.Generator) -> None:
  """Both files of census-income; the labels are of both classes."""
  folder.mkdir()
  for part, num in (("data", 200), ("test", 120)):
    lines = []
    for row in rng.integers(0, 5, (num, len(COLUMNS))):
      values = dict(zip(COLUMNS, map(str, row), strict=True))
      values["marital_stat"] = ("Never married", "Divorced")[row[0] % 2]
      values["income"] = ("- 50000.", "50000+.")[row[1] % 2]
      degrees = ("Children", "Doctorate degree(PhD EdD)")
      values["education"] = degrees[row[2] % 2]
      lines.append(", ".join(values.values()) + "\n")
    (folder / f"census-income.{part}").write_text("".join(lines))


def write_adult(folder: pathlib.Path, rng: np.random.Generator) -> None:
  """Both files of Adult; the labels are of both classes."""
  folder.mkdir()
  for part, num in (("data", 200), ("test", 80)):
    lines = []
    for row in rng.integers(0, 5, (num, len(adult.COLUMNS))):
      values = dict(zip(adult.COLUMNS, map(str, row), strict=True))
      values["marital_status"] = ("Never-married", "Divorced")[row[0] % 2]
      values["label"] = ("<=50K", ">50K")[row[1] % 2]
      lines.append(", ".join(values.values()) + "\n")
    (folder / f"adult.{part}").write_text("".join(lines))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Small files in the places of the real ones, and an empty cache."""
  root = tmp_path_factory.mktemp("runs_gin")
  rng = np.random.default_rng(0)
  for name in FILES:
    lines = []
    for user in range(1, NUM_USERS + 1):
      length = int(rng.integers(8, 17))
      items = rng.choice(NUM_ITEMS, length, replace=False) + 1
      lines += [f"{user} {item}\n" for item in items]
    path = root / "data" / name
    path.parent.mkdir(parents=True)
    path.write_text("".join(lines))
  write_ncf(root / "data" / "ncf-ml-1m", rng)
  write_frappe(root / "data" / "frappe", rng)
  write_criteo(root / "data" / "criteo")
  write_movielens(root / "data" / "ml-100k", rng)
  write_gowalla(root / "data" / "gowalla", rng)
  write_census(root / "data" / "census-income", rng)
  write_adult(root / "data" / "adult", rng)
  return [f"--data_dir={root / 'data'}", f"--cache_dir={root / 'cache'}"]


def overlay_of(name: str) -> str:
  """The overlay for the kind of experiment that a run file is about."""
  text = (ROOT / "gin" / "runs" / f"{name}.gin").read_text()
  for kind in ("pairs", "ranking", "retrieval", "multi_task"):
    if f"{kind}_experiment" in text:
      return f"tiny_{kind}.gin"
  return "tiny.gin"


@pytest.fixture(scope="module")
def train(folders, tmp_path_factory):
  """Trains a run for three steps; the first time, or again with `again`.

  A run that has a recipe is a smoke run of it.
  """
  root = tmp_path_factory.mktemp("workdirs")
  done = {}

  def run(name: str, *more: str, again: bool = False):
    overlay = overlay_of(name)
    workdir, files = root / name, ["train", f"--workdir={root / name}"]
    files += [f"--gin_file=runs/{name}.gin", f"--gin_file=overlays/{overlay}"]
    if name in RECIPES:
      workdir = root / name / "smoke"
      files = ["reproduce", name, "--smoke", f"--workdir={root}"]
    if overlay == "tiny.gin":
      files += ["--gin.SASRec.num_blocks=1", "--gin.SASRec.query_block=200"]
    if name == "sasrec_planted":
      files += ["--gin.PlantedSource.num_users=100"]
    if name == "lr_planted_criteo":
      files += ["--gin.PlantedCriteo.num_rows=2000"]
    if name == "mmoe_planted_tasks":
      files += ["--gin.PlantedTasks.num_train=500"]
    if name == "esmm_planted_conversions":
      files += ["--gin.PlantedConversions.num_train=2000"]
    if name.startswith("positions_"):
      # Enough lists for a click at each position, swapped or not.
      files += ["--gin.PlantedPositions.num_train=4000"]
      files += ["--gin.PlantedPositions.swap_share=1.0"]
      files += ["--gin.PlantedPositions.num_test=100"]
    if name == "deepfm_criteo":
      files += ["--gin.DeepFM.hidden=(8,)"]
    if name not in done or again:
      answer = command(*files, *folders, *more)
      if again:
        return workdir, answer
      done[name] = answer
    return workdir, done[name]

  return run


@pytest.fixture
def planted(train):
  return train("sasrec_planted")[0]


# --- Every run file ----------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_a_run_file_trains(train, name):
  workdir, (status, out, err) = train(name)
  assert status == 0, err
  result = json.loads((workdir / "result.json").read_text())
  assert result["name"] == name
  assert result["num_steps"] == 3
  head = (ROOT / "gin" / "runs" / f"{name}.gin").read_text()
  if name in RECIPES:
    assert result["seed"] == RECIPES[name].seeds[0]
  else:
    assert f"\nSEED = {result['seed']}\n" in head
  kind = result["protocol"].get("candidates", {}).get("kind", "all_items")
  assert ("sampled_bias" in result) == (kind != "all_items")
  line = last_line(out)
  assert line.startswith("test ")
  assert line.endswith(f"  protocol {result['protocol_hash']}")
  for metric, value in result["metrics"].items():
    low, high = result["intervals"][metric]
    assert f"{metric} {value:.4f} [{low:.4f}, {high:.4f}]" in line
  for file in ("config.gin", "operative.gin", "env.json", "metrics.jsonl"):
    assert (workdir / file).stat().st_size > 0
  expected = {"training.png", "test.png"}
  if overlay_of(name) == "tiny_ranking.gin":
    expected |= {"test-reliability.png", "test-roc.png"}
  if (workdir / "per_user").exists():
    expected |= {"test-slices.png"}
  if overlay_of(name) == "tiny_multi_task.gin":
    tasks = [key.split("/")[1] for key in result["metrics"] if "auc" in key]
    stems = [task.replace("*", "-") for task in tasks]
    expected |= {f"test-{stem}-reliability.png" for stem in stems}
    if tasks:
      expected |= {"test-roc.png"}
    if result["gate_entropy"]:
      expected |= {"test-experts.png"}
    if result["position_bias"]:
      expected |= {"test-propensities.png"}
  assert {path.name for path in (workdir / "plots").iterdir()} == expected


@pytest.mark.parametrize(
  "entry",
  [each for each in LEDGER.entries if each.row],
  ids=lambda each: "-".join(each.cell.key),
)
def test_a_recipe_has_the_protocol_of_its_result(train, entry):
  workdir, _ = train(entry.name)
  result = json.loads((workdir / "result.json").read_text())
  # Small files have other bytes, and shorter lists.
  same = lambda text: re.sub(r"sha256=\w+|up to \d+", "", text)
  assert same(result["protocol_text"]) == same(entry.row["protocol"])
  if "sha256" not in result["protocol_text"]:
    assert result["protocol_hash"] == entry.row["protocol_hash"]


def test_every_recipe_is_among_the_runs():
  assert set(RECIPES) <= set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_the_head_of_a_run_file(name):
  text = (ROOT / "gin" / "runs" / f"{name}.gin").read_text()
  head = text.split("from __gin__")[0]
  assert all(line.startswith("#") for line in head.splitlines())
  assert f"recjax train --gin_file=runs/{name}.gin" in head
  assert "Usually changed: SEED" in head
  if name == "sasrec_planted":
    assert "90% of the Bayes-optimal NDCG@10" in head
    return
  assert re.search(r"https://(arxiv\.org/abs|doi\.org)/\S+", head)
  if name == "lr_planted_criteo":
    assert "the AUC of the true logits is the aim" in head
    return
  if name.startswith("positions_"):
    assert "the true order is the aim" in head
    return
  mine = [each.cell for each in LEDGER.entries if each.name == name]
  without_number = "in figures only" in head or "Published: nothing" in head
  assert bool(mine) != without_number
  labels = {
    "hit_rate@10": "HR@10",
    "hit_rate@100": "HR@100",
    "ndcg@10": "NDCG@10",
    "ndcg@20": "NDCG@20",
    "recall@20": "R@20",
    "auc": "AUC",
    "auc/income": "AUC of income",
    "auc/college": "AUC of college",
  }
  for cell in mine:
    number = f"{cell.published:.4f}".lstrip("0")
    shown = re.findall(rf"{labels[cell.metric]} (\.\d+)", head)
    assert number in [text.ljust(5, "0") for text in shown]


def test_no_code_lies_in_the_gin_folder():
  assert not list((ROOT / "gin").rglob("*.py"))


# --- The same workdir again --------------------------------------------------


def test_a_finished_run_says_so(train):
  workdir, (_, first, _) = train("sasrec_planted")
  before = (workdir / "result.json").read_bytes()
  _, (status, out, _) = train("sasrec_planted", again=True)
  assert status == 0
  assert f"{workdir} is finished; nothing to do." in out
  assert last_line(out) == last_line(first)
  assert (workdir / "result.json").read_bytes() == before


def test_another_config_is_refused(train):
  workdir, _ = train("sasrec_planted")
  more = ("--gin.SEED=1", "--gin.SASRec.dim=4")
  _, (status, _, err) = train("sasrec_planted", *more, again=True)
  assert status == 1
  assert f"{workdir} holds a run of another config" in err
  for line in ("-SEED = 0", "+SEED = 1", "SASRec.dim = 8", "SASRec.dim = 4"):
    assert line in err


# --- Mistakes ----------------------------------------------------------------


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("--gin.SEDE=1", "Did you mean 'SEED'?"),
    ("--gin.Experiment.batch_siz=1", "Did you mean 'batch_size'?"),
    ("--gin.SASRec.dim=0", "SASRec.dim must lie in [1, inf]; got 0."),
    ("--gin.SASRec.norm='post'", "'paper', 'pre', 'none'; got 'post'"),
    ("--gin.SASRec.dim=wide", "is not a value of gin"),
    ("--gin.Protocol.tie='expected'", "Did you mean 'ties'?"),
    ("--gin_file=runs/sasrec_plantd.gin", "Did you mean 'runs/sasrec_planted"),
  ],
)
def test_a_wrong_setting(train, flag, expected):
  _, (status, out, err) = train("sasrec_planted", flag, again=True)
  assert (status, out) == (1, "")
  assert expected in err


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (["trian"], "Did you mean 'train'?"),
    (["train", "--workdri=x"], "workdir"),
    (["train"], "recjax train needs --workdir"),
    (["train", "--workdir=x"], "recjax train needs --gin_file"),
    (["evaluate", "--workdir=none"], "no run was started here"),
    (["report"], "recjax report needs one or more workdirs"),
    (["data"], "needs the NAME of a file in gin/datasets"),
    (["data", "plantd"], "Did you mean 'datasets/planted.gin'?"),
  ],
)
def test_a_wrong_command(arguments, expected):
  status, _, err = command(*arguments)
  assert status == 1 and expected in err


def test_a_missing_data_file(tmp_path):
  status, _, err = command(
    "train",
    "--gin_file=runs/sasrec_ml1m.gin",
    f"--workdir={tmp_path / 'run'}",
    f"--data_dir={tmp_path}",
    f"--cache_dir={tmp_path / 'cache'}",
  )
  assert status == 1
  assert str(tmp_path / "sasrec-ml-1m" / "ml-1m.txt") in err
  assert "--data_dir" in err


def test_help(capsys):
  assert cli.main([]) == 0
  usage = capsys.readouterr().out
  assert all(f"recjax {command} " in usage for command in cli.COMMANDS)
  with pytest.raises(SystemExit) as done:
    cli.main(["train", "--help"])
  assert done.value.code == 0
  assert "--workdir" in capsys.readouterr().out


# --- The other commands ------------------------------------------------------


def test_evaluate_gives_the_numbers_of_the_run(planted, train, folders):
  status, out, err = command("evaluate", f"--workdir={planted}", *folders)
  assert status == 0, err
  assert last_line(out) == last_line(train("sasrec_planted")[1][1])
  protocol, floor = out.splitlines()[:2]
  assert protocol.startswith("protocol leave_one_out(min_actions=3); full")
  assert floor.startswith("floor test ")


@pytest.mark.parametrize(
  "flags",
  [
    ["--gin.Protocol.cutoffs=(5,)", "--gin.Protocol.ties='pessimistic'"],
    [
      "--gin.Experiment.protocol=@protocol.sasrec_paper_protocol()",
      "--gin.sasrec_paper_protocol.cutoffs=(5,)",
    ],
  ],
)
def test_evaluate_under_another_protocol(planted, folders, flags):
  result = json.loads((planted / "result.json").read_text())
  status, out, err = command(
    "evaluate", f"--workdir={planted}", *folders, *flags
  )
  assert status == 0, err
  line = last_line(out)
  assert "ndcg@5 " in line and "ndcg@10" not in line
  protocol_hash = line.split()[-1]
  assert protocol_hash != result["protocol_hash"]
  saved = np.load(planted / "per_user" / f"test-{protocol_hash}.npz")
  assert len(saved["ndcg@5"]) == result["num_test_users"] == 100
  # The record of the run itself stays.
  assert json.loads((planted / "result.json").read_text()) == result


@pytest.mark.parametrize("measure", [True, False])
def test_evaluate_tells_the_bias_of_sampling(planted, folders, measure):
  status, out, err = command(
    "evaluate",
    f"--workdir={planted}",
    *folders,
    "--gin.Experiment.protocol=@protocol.sasrec_paper_protocol()",
    *([] if measure else ["--gin_file=overlays/sampled_only.gin"]),
  )
  assert status == 0, err
  (line,) = [x for x in out.splitlines() if x.startswith("bias ndcg@10 ")]
  assert "corrected (mle)" in line and (" full " in line) == measure
  name = f"test-{last_line(out).split()[-1]}.json"
  saved = json.loads((planted / "sampled_bias" / name).read_text())
  row = saved["metrics"]["ndcg@10"]
  assert set(row["corrected"]) == {"rank", "bv", "mle", "bv_mle", "mn_mle"}
  assert f"ndcg@10 {row['sampled']:.4f} [" in last_line(out)
  if not measure:
    assert row["full"] is None and saved["full_protocol"] is None
    return
  # The full value is what the full protocol gives on the same weights.
  status, out, err = command(
    "evaluate",
    f"--workdir={planted}",
    *folders,
    "--gin.Protocol.exclude_seen='train'",
    "--gin.Protocol.ties='optimistic'",
    "--gin.Protocol.max_users=10_000",
  )
  assert status == 0, err
  assert f"ndcg@10 {row['full']:.4f} [" in last_line(out)
  assert last_line(out).endswith(saved["full_protocol_hash"])


def test_report_beside_published_numbers(planted, tmp_path):
  (tmp_path / "published.toml").write_text(
    """
    paper = "A paper"
    [[cell]]
    run = "sasrec_planted"
    dataset = "planted"
    model = "SASRec"
    metric = "ndcg@10"
    published = 0.5
    tolerance = 0.5
    source = "Table 1"
    protocol = "full catalogue"
    """
  )
  readme = tmp_path / "README.md"
  readme.write_text("# A\n\n<!-- results:begin -->\n<!-- results:end -->\n")
  status, out, err = command(
    "report",
    planted,
    f"--out={tmp_path / 'report'}",
    f"--published={tmp_path / 'published.toml'}",
    f"--results={tmp_path / 'results.json'}",
    f"--readme={readme}",
  )
  assert status == 0, err
  for name in ("report.md", "report.html"):
    path = tmp_path / "report" / name
    assert str(path) in out and path.stat().st_size > 0
  result = json.loads((planted / "result.json").read_text())
  (row,) = json.loads((tmp_path / "results.json").read_text())
  assert row["measured"] == round(result["metrics"]["ndcg@10"], 6)
  assert row["protocol_hash"] == result["protocol_hash"]
  assert row["within"] is True
  assert f"| {row['measured']:.4f} |" in readme.read_text()
  for text in ("Bayes optimum", "popularity (floor)"):
    assert text in (tmp_path / "report" / "report.md").read_text()


def test_data(folders, tmp_path):
  out_dir = tmp_path / "plots"
  status, out, err = command(
    "data",
    "planted",
    f"--out={out_dir}",
    "--gin.PlantedSource.num_users=100",
    *folders,
  )
  assert status == 0, err
  assert "split leave_one_out(min_actions=3)" in out
  assert "two_parts" in out
  for name in ("popularity.png", "history_length.png"):
    assert (out_dir / name).read_bytes().startswith(b"\x89PNG")
