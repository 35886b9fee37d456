"""`recjax index`, `query` and `export` on a small run of two towers."""

import contextlib
import io
import json
import shutil
import sys

import jax
import numpy as np
import pytest
from pyarrow import parquet

from recjax import cli, gin_config
from recjax.index_building import KINDS
from recjax.opened_run import open_run
from recjax.retrieval import scann_tuner
from recjax.runs.record import RunRecord
from recjax.train.checkpoint import Checkpoints

NUM_USERS, NUM_ITEMS = 40, 60
SCANN = "scann.scann_ops.py.scann_ops_pybind"
# User 7 is in no line of the ratings, and so has no id.
STRANGER = 7


def command(*arguments):
  """Exit status, standard output and standard error of a command."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(argument) for argument in arguments])
  return status, out.getvalue(), err.getvalue()


def succeed(*arguments):
  status, out, err = command(*arguments)
  assert status == 0, err
  return out


def refuse(*arguments):
  status, _, err = command(*arguments)
  assert status == 1
  return err


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
  monkeypatch.setenv("COLUMNS", "160")


def write_ml_100k(folder):
  """Ratings, movies and people in the format of MovieLens 100K."""
  folder.mkdir()
  rng = np.random.default_rng(0)
  ratings, time = [], 0
  for user in range(1, NUM_USERS + 1):
    if user == STRANGER:
      continue
    for item in rng.permutation(NUM_ITEMS)[:12] + 1:
      time += 1
      ratings.append(f"{user}\t{item}\t4\t{time}\n")
  rows = []
  for i in range(1, NUM_ITEMS + 1):
    flags = ["0"] * 19
    flags[5 + i % 3] = "1"
    title = "Twins (1999)" if i < 3 else f"Movie number {i} (2001)"
    rows.append(f"{i}|{title}|01-Jan-2001||http://x|{'|'.join(flags)}\n")
  people = [f"{u}|30|F|other|12345\n" for u in range(1, NUM_USERS + 1)]
  for name, lines in (
    ("u.data", ratings),
    ("u.item", rows),
    ("u.user", people),
  ):
    (folder / name).write_text("".join(lines))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  root = tmp_path_factory.mktemp("index_commands")
  write_ml_100k(root / "ml-100k")
  return [f"--data_dir={root}", f"--cache_dir={root / 'cache'}"], root


@pytest.fixture(scope="module")
def trained(places):
  folders, root = places
  workdir = root / "run"
  succeed(
    "train",
    "--gin_file=runs/two_tower_ml100k.gin",
    "--gin_file=overlays/tiny_retrieval.gin",
    "--gin.RandomSplit.validation=0.1",
    # A user should not be shown again what is seen.
    "--gin.tfrs_protocol.exclude_seen='history'",
    f"--workdir={workdir}",
    *folders,
  )
  return workdir


@pytest.fixture(scope="module")
def indexed(trained, places):
  """The output of building, for each kind."""
  folders, _ = places
  return {
    kind: succeed("index", f"--kind={kind}", f"--workdir={trained}", *folders)
    for kind in ("faiss", "scann", "exact")
  }


@pytest.fixture(scope="module")
def opened(trained, places):
  _, root = places
  return open_run(trained, root, root / "cache", command="test")


@pytest.fixture
def query(trained, places, indexed):
  folders, _ = places

  def ask(*arguments, run=succeed, workdir=trained):
    return run("query", f"--workdir={workdir}", *folders, *arguments)

  return ask


def table_rows(text):
  """The cells of all rows of the tables that rich printed."""
  lines = [line for line in text.splitlines() if line.startswith("│")]
  return [
    [cell.strip() for cell in line.strip("│").split("│")] for line in lines
  ]


# --- recjax index ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["scann", "faiss"])
def test_index_shows_both_sides(indexed, kind):
  rows = {row[0]: row[1:] for row in table_rows(indexed[kind])}
  for name in ("HR@100", "recall@10 of exact search", "latency p99 (ms)",
               "queries a second", "built in (s)", "memory (MB)"):  # fmt: skip
    assert len(rows[name]) == 2, name
  assert rows["recall@10 of exact search"][0] == "1.0000"
  assert "protocol random" in indexed[kind]
  # Of so few items, 100 would be all.
  assert "chosen for recall 0.95" in indexed[kind]
  assert "(recall@10 " in indexed[kind]


def test_quality_of_exact_search(indexed, trained, opened):
  quality = json.loads((trained / "index" / "quality_exact.json").read_text())
  assert quality["kind"] == "exact" and quality["frontier"] is None
  scann = json.loads((trained / "index" / "quality_scann.json").read_text())
  assert scann["kind"] == "scann" and scann["frontier"] is not None
  assert quality["checkpoint"] == opened.checkpoint
  # The metrics are those of the run itself, through its own evaluation.
  tested = opened.bench.judge(
    opened.weights,
    opened.bench.eval_set("test"),
    opened.bench.protocol,
    intervals=False,
    floor=False,
    progress=False,
  )
  assert quality["exact"]["metrics"] == pytest.approx(tested.metrics, abs=1e-6)
  assert quality["num_items"] == opened.bench.interactions.num_items
  # The table of exact search alone has one column.
  assert {len(row) for row in table_rows(indexed["exact"])} == {2}


def test_files_and_plot(indexed, trained):
  for kind in ("scann", "faiss", "exact"):
    manifest = json.loads(
      (trained / "index" / kind / "manifest.json").read_text()
    )
    assert manifest["kind"] == kind
  plot = trained / "plots" / "recall_qps_scann.png"
  assert plot.read_bytes().startswith(b"\x89PNG")
  assert f"plot {plot}" in indexed["scann"]
  assert "plot" not in indexed["exact"]


def test_settings_come_from_gin(trained, places, tmp_path):
  folders, _ = places
  copy = tmp_path / "copy"
  shutil.copytree(trained, copy)
  gin = ("--gin.ScannConfig.num_leaves=5", "--gin.ScannConfig.reorder=33",
         "--gin.ScannConfig.num_leaves_to_search=5")  # fmt: skip
  out = succeed(
    "index", "--wanted_recall=0", f"--workdir={copy}", *gin, *folders
  )
  assert "chosen" not in out
  assert not (copy / "plots" / "recall_qps_scann.png").exists()
  quality = json.loads((copy / "index" / "quality_scann.json").read_text())
  settings = quality["approximate"]["settings"]
  assert settings["num_leaves"] == 5 and settings["reorder"] == 33
  err = refuse(
    "index", f"--workdir={copy}", "--gin.ScannConfig.num_leafs=5", *folders
  )
  assert "num_leaves" in err


def test_without_leaves_given_a_tree_fits_the_catalogue(trained, indexed):
  manifest = json.loads((trained / "index/scann/manifest.json").read_text())
  assert manifest["settings"]["num_leaves"] == round(NUM_ITEMS**0.5)


def test_a_recall_that_no_setting_reaches_is_said(
  trained, places, monkeypatch, tmp_path
):
  copy = tmp_path / "copy"
  shutil.copytree(trained, copy)
  monkeypatch.setattr(scann_tuner, "recall_at_k", lambda *_: 0.25)
  out = succeed("index", f"--workdir={copy}", *places[0])
  assert "NOTE no setting reached recall 0.95" in out
  assert "--kind=exact" in out


def test_without_scann(trained, places, monkeypatch):
  for name in ("scann", SCANN):
    monkeypatch.setitem(sys.modules, name, None)
  err = refuse("index", f"--workdir={trained}", *places[0])
  assert "pip install 'recjax[scann]'" in err
  assert f"recjax index --kind=exact --workdir={trained}" in err


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--kind=annoy"], "should be one of"),
    (["--wanted_recall=1.5"], r"--wanted_recall must lie in [0, 1]"),
    (["--workdir="], "needs --workdir"),
    (["--workdir=/nowhere"], "no run was started here"),
    (["scann"], "takes flags alone; got 'scann'"),
  ],
)
def test_bad_flags_of_index(trained, places, arguments, message):
  given = [f"--workdir={trained}", *places[0], *arguments]
  assert message in refuse("index", *given)


# --- recjax query ------------------------------------------------------------


def expected_items(opened, user_id, k):
  """The best k by brute force, without the items of the history."""
  bench = opened.bench
  rows = bench.interactions.user_id == user_id
  seen = bench.interactions.item_id[rows]
  items = bench.item_vectors(opened.weights)[1:]
  test_set = bench.eval_set("test")
  users = bench.user_vectors(opened.weights, test_set)
  place = list(test_set.user_id).index(user_id)
  scores = items @ users[place]
  scores[seen - 1] = -np.inf
  order = np.argsort(-scores)[:k]
  return order + 1, scores[order]


def test_items_for_a_user(query, opened):
  users = opened.bench.interactions.users.column("raw_id").to_pylist()
  user_id = users.index("9") + 1
  out = query("--user=9", "--k=4", "--index=exact")
  ids, scores = expected_items(opened, user_id, 4)
  items = opened.bench.interactions.items.to_pylist()
  rows = table_rows(out)
  assert [row[1] for row in rows] == [items[i - 1]["raw_id"] for i in ids]
  assert [row[2] for row in rows] == [items[i - 1]["title"] for i in ids]
  shown = [float(row[3]) for row in rows]
  np.testing.assert_allclose(shown, scores, atol=1e-4)
  counts = opened.bench.counts
  assert [int(row[4]) for row in rows] == [counts[i] for i in ids]
  # The last events come first.
  of_user = opened.bench.interactions.user_id == user_id
  history = opened.bench.interactions.item_id[of_user]
  assert "user 9: 12 events; they are left out." in out
  line = " ".join(out.split("The last:")[1].split())
  last = [items[i - 1]["title"] for i in history[-5:][::-1]]
  places = [line.index(title) for title in last]
  assert places == sorted(places)


def test_the_first_kind_that_was_built_is_asked(query, indexed):
  assert list(KINDS)[0] == "scann"
  assert "user 9: scann" in query("--user=9", "--k=2")
  assert "user 9: faiss" in query("--user=9", "--k=2", "--index=faiss")


def test_an_unknown_user_gets_what_is_popular(query, opened):
  out = query(f"--user={STRANGER}", "--user=9", "--k=3", "--index=exact")
  assert f"ml-100k has no user '{STRANGER}'." in out
  assert "The nearest known: '6', '8', '5'." in out
  assert "These are the most popular items instead." in out
  counts = np.asarray(opened.bench.counts)
  best = np.argsort(-counts[1:], kind="stable")[:3] + 1
  rows = table_rows(out)
  assert [int(row[4]) for row in rows[:3]] == list(counts[best])
  assert [row[3] for row in rows[:3]] == ["", "", ""]
  # The other user is answered by the index.
  assert "user 9: exact" in out and len(rows) == 6 and rows[3][3] != ""


def test_a_user_of_letters(query):
  out = query("--user=somebody", "--k=1")
  assert "Known are, for instance: '1', '2', '3'." in out


def test_fewer_items_are_left_than_asked_for(query):
  out = query("--user=9", f"--k={NUM_ITEMS}", "--index=exact")
  assert f"Only {NUM_ITEMS - 12} items are left for user 9." in out
  assert len(table_rows(out)) == NUM_ITEMS - 12


@pytest.mark.parametrize("text", ["20", "Movie number 20 (2001)"])
def test_neighbours_of_an_item(query, opened, text):
  rows = table_rows(query(f"--item={text}", "--k=3", "--index=exact"))
  raw = opened.bench.interactions.items.column("raw_id").to_pylist()
  vectors = opened.bench.item_vectors(opened.weights)
  me = raw.index("20") + 1
  scores = vectors @ vectors[me]
  scores[[0, me]] = -np.inf
  best = np.argsort(-scores)[:3]
  assert [row[1] for row in rows] == [raw[i - 1] for i in best]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--item=Movie numbr 20 (2001)"], "'Movie number 20 (2001)'"),
    (["--item=900"], "ml-100k has no item '900'. The nearest known: '60'"),
    (["--item=Twins (1999)"], "may be any of 2 items of ml-100k"),
    (["--user=9", "--k=61"], "--k must lie in [1, 60]"),
    (["--user=9", "--k=0"], "--k must lie in [1, 60]"),
    (["--k=3"], "needs --user or --item"),
    (["--user=9", "10"], "takes flags alone; got '10'"),
    (["--user=9", "--gin.SEED=1"], "--gin.SEED=1 would change nothing"),
    (["--user=9", "--index=tree"], "should be one of"),
  ],
)
def test_bad_questions(query, arguments, message):
  assert message in query(*arguments, run=refuse)


def test_no_index(trained, places, query, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(trained, copy)
  shutil.rmtree(copy / "index" / "scann")
  err = query("--user=9", "--index=scann", run=refuse, workdir=copy)
  assert "has no scann index (built are: faiss, exact)" in err
  assert f"recjax index --workdir={copy} --kind=scann" in err
  shutil.rmtree(copy / "index")
  err = query("--user=9", run=refuse, workdir=copy)
  assert f"has no index: build it with `recjax index --workdir={copy}`" in err


def test_an_index_of_older_weights_is_refused(trained, opened, query, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(trained, copy)
  # A copy of the run is the same run.
  assert "user 9" in query("--user=9", "--k=1", workdir=copy)
  checkpoints = Checkpoints(copy / "best", keep=2)
  worse = jax.tree.map(lambda x: x + 1, opened.weights)
  checkpoints.save(99, worse, {"step": 99})
  checkpoints.close()
  err = query("--user=9", run=refuse, workdir=copy)
  assert "built from another checkpoint" in err and "step 99" in err


def test_a_run_without_vectors_of_items(places, tmp_path):
  folders, _ = places
  config = gin_config.parse(
    ["runs/sasrec_planted.gin"], ["PlantedSource.num_users=60"]
  )
  RunRecord(tmp_path / "run").create_or_resume(config, config, "0123")
  for name in ("index", "export"):
    out = [f"--out={tmp_path / 'out'}"] if name == "export" else []
    err = refuse(name, f"--workdir={tmp_path / 'run'}", *folders, *out)
    assert "is a run of Experiment, whose model has no vectors of items" in err
    assert "RetrievalExperiment" in err


# --- recjax export -----------------------------------------------------------


def test_export(trained, places, opened, tmp_path):
  out = tmp_path / "vectors"
  printed = succeed(
    "export", f"--workdir={trained}", *places[0], f"--out={out}", "--users",
    "--colour_by=genres",
  )  # fmt: skip
  table = parquet.read_table(out / "items.parquet")
  found = np.array(table.column("vector").to_pylist(), np.float32)
  expected = opened.bench.item_vectors(opened.weights)[1:]
  np.testing.assert_allclose(found, expected, atol=1e-6)
  raw = opened.bench.interactions.items.column("raw_id").to_pylist()
  assert table.column("raw_id").to_pylist() == raw
  assert table.column("train_count").to_pylist() == list(
    opened.bench.counts[1:]
  )
  assert set(table.column("name").to_pylist()) > {"Twins (1999)"}
  with np.load(out / "users.npz") as users:
    test_set = opened.bench.eval_set("test")
    expected = opened.bench.user_vectors(opened.weights, test_set)
    places_of = np.searchsorted(users["user_id"], test_set.user_id)
    np.testing.assert_allclose(users["vector"][places_of], expected, atol=1e-6)
    assert len(users["raw_id"]) == NUM_USERS - 1
  manifest = json.loads((out / "manifest.json").read_text())
  assert manifest["checkpoint"] == opened.checkpoint
  assert manifest["data_fingerprint"] == opened.bench.data_fingerprint
  plot = out / "item_space.png"
  assert plot.read_bytes().startswith(b"\x89PNG")
  assert printed.splitlines()[-1] == str(plot)


def test_bad_flags_of_export(trained, places, tmp_path):
  given = ["export", f"--workdir={trained}", *places[0]]
  assert "needs --out" in refuse(*given)
  err = refuse(*given, f"--out={tmp_path}", "--colour_by=genre")
  assert "no column 'genre'" in err and "Did you mean 'genres'?" in err
  assert list(tmp_path.iterdir()) == []
