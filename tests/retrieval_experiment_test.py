"""Two towers end to end: features of all kinds, mining, killed runs, errors."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pyarrow as pa
import pytest

from recjax import launch
from recjax.data.hard_lists import HardListFile
from recjax.data.interactions import Interactions
from recjax.data.splits import LeaveOneOut, RandomSplit
from recjax.errors import ConfigError, DataError
from recjax.evaluation.candidates import UniformNegatives
from recjax.evaluation.eval_report import EvalReport
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.sampled_estimators import ESTIMATORS
from recjax.features.specs import (
  Bucketized,
  Categorical,
  MultiHot,
  Numeric,
  Vector,
)
from recjax.features.text import Text
from recjax.layers.fusion import GatedFusion
from recjax.layers.histories import MeanHistory
from recjax.layers.interests import SelfAttentiveInterests
from recjax.layers.recurrent import GRUHistory
from recjax.models.tower import Tower
from recjax.models.two_tower import TwoTower
from recjax.retrieval_bench import RetrievalBench
from recjax.retrieval_experiment import RetrievalExperiment
from recjax.runs.record import RunRecord
from recjax.tasks.history_windows import HistoryWindow
from recjax.tasks.list_negatives import HardLists, Mined
from recjax.tasks.retrieval_negatives import InBatch, Uniform
from recjax.tasks.retrieval_objectives import Softmax
from recjax.train.loop import TrainConfig
from recjax.train.mesh import MeshConfig

NUM_USERS, NUM_ITEMS, WIDTH = 80, 60, 5
WORDS = "red green blue old new big small".split()


@dataclasses.dataclass(frozen=True)
class Shop:
  """Users like the items of their own colour; all kinds of columns."""

  name: str = "shop"

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    return ()

  def read(self, data_dir: pathlib.Path) -> Interactions:
    rng = np.random.default_rng(0)
    colour = np.arange(NUM_ITEMS) % 3
    rows = []
    for user in range(NUM_USERS):
      own = np.flatnonzero(colour == user % 3)
      rows += [(user + 1, item + 1) for item in rng.permutation(own)[:8]]
    users, items = np.array(rows, np.int32).T
    images = rng.normal(size=(NUM_ITEMS, WIDTH)).astype(np.float32)
    images[:, 0] = 3 * (colour - 1)
    titles = [
      f"{WORDS[c]} {WORDS[3 + i % 4]} {i}" for i, c in enumerate(colour)
    ]
    return Interactions.from_columns(
      self.name,
      {
        "user_id": users,
        "item_id": items,
        "timestamp": np.arange(len(users), dtype=np.int64),
        "hour": rng.integers(0, 24, len(users)),
      },
      num_items=NUM_ITEMS,
      users=pa.table(
        {
          "raw_id": [f"u{i}" for i in range(NUM_USERS)],
          "age": rng.integers(18, 80, NUM_USERS),
        }
      ),
      items=pa.table(
        {
          "raw_id": [f"i{i}" for i in range(NUM_ITEMS)],
          "title": titles,
          "tags": [[WORDS[c], "any"] for c in colour],
          "image": list(images),
        }
      ),
    )


TRAIN = TrainConfig(
  num_epochs=4, select="ndcg@10", checkpoint_every_steps=3, log_every_steps=5
)
SETTINGS = {
  "splitter": LeaveOneOut(),
  "embedding_dim": 8,
  "batch_size": 64,
  "train": TRAIN,
  "protocol": Protocol(cutoffs=(10,), metrics=("hit_rate", "ndcg")),
}
CONTENT = {
  "item_id": False,
  "item_features": (
    Text("title", max_len=4),
    MultiHot("tags", max_len=3),
    Vector("image", dim=WIDTH),
  ),
  "user_features": (Numeric("age", transform="z_score"),),
  "context_features": (Bucketized("hour", boundaries=(6, 12, 18)),),
}


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


def experiment(**changes) -> RetrievalExperiment:
  settings = {"model": TwoTower(Tower(8), Tower(8))} | SETTINGS | changes
  return RetrievalExperiment(Shop(), **settings)


def open_bench(cache, **changes) -> RetrievalBench:
  return experiment(**changes).open(cache, cache)


def run(cache, workdir, **changes):
  return launch.train(
    experiment(**changes), RunRecord(workdir), cache, cache_dir=cache
  )


MODELS = {
  "ids": ({}, {}),
  "content": (CONTENT, {"item": Tower(8, (16,), fusion=GatedFusion(6))}),
  "history": (
    {"history": HistoryWindow(4)},
    {
      "user": Tower(
        8, history=GRUHistory(dim=6), short_history=MeanHistory(), short_len=2
      )
    },
  ),
  "interests": (
    {"history": HistoryWindow(4), "user_id": False},
    {"user": Tower(8, interests=SelfAttentiveInterests(2, 8))},
  ),
  "experts": (
    {"context_features": (Categorical("hour"),)},
    {"user": Tower(8, (8,), num_experts=3, context_gate=True)},
  ),
}


@pytest.mark.parametrize("name", MODELS)
def test_towers_learn_what_users_like(cache, tmp_path, name):
  changes, towers = MODELS[name]
  model = TwoTower(
    towers.get("user", Tower(8)), towers.get("item", Tower(8)), True, 0.1
  )
  # Of 60 items, 20 have the user's colour: blind choice hits 10 / 52.
  train = dataclasses.replace(TRAIN, num_epochs=20, eval_every_epochs=5.0)
  result = run(
    cache, tmp_path, model=model, train=train, **{**changes, "seed": 1}
  )
  low, _ = result["intervals"]["hit_rate@10"]
  assert low > 10 / 52
  assert result["objective"].startswith("Softmax(")


def test_the_validation_of_the_best_step_is_what_the_bench_says(
  cache, tmp_path
):
  result = run(cache, tmp_path)
  bench = open_bench(cache)
  weights = launch.best_weights(bench.task, tmp_path)
  assert bench.validate(weights) == result["validation"]
  tested = bench.test(weights)
  assert tested.metrics == result["metrics"]
  vectors = bench.item_vectors(weights)
  assert vectors.shape == (NUM_ITEMS + 1, 8)
  assert not vectors[0].any() and np.abs(vectors[1:]).sum(axis=1).all()


@pytest.mark.parametrize("measure", [True, False])
def test_among_drawn_items_the_bias_is_told(cache, tmp_path, measure):
  # Each event is a query, so that a user has several, of one target each.
  protocol = Protocol(candidates=UniformNegatives(20), per="event")
  changes = {
    "splitter": RandomSplit(validation=0.1, test=0.3),
    "train": dataclasses.replace(TRAIN, num_epochs=1),
    "report": EvalReport(sampling_bias=measure),
  }
  result = run(cache, tmp_path, protocol=protocol, **changes)
  found = result["sampled_bias"]
  row = found["metrics"]["ndcg@10"]
  assert row["sampled"] == result["metrics"]["ndcg@10"]
  assert set(row["corrected"]) == set(ESTIMATORS)
  if not measure:
    assert row["full"] is None
    return
  bench = open_bench(
    cache, protocol=Protocol(exclude_seen="history", per="event"), **changes
  )
  full = bench.test(launch.best_weights(bench.task, tmp_path))
  assert row["full"] == pytest.approx(full.metrics["ndcg@10"])
  assert row["bias"] == pytest.approx(row["sampled"] - row["full"])
  assert found["full_protocol_hash"] == full.protocol.hash()
  assert full.sampled_bias is None


def test_without_validation_the_last_weights_are_judged(cache, tmp_path):
  splitter = RandomSplit(validation=0.0, test=0.2)
  with pytest.raises(ConfigError, match="select = 'last'"):
    open_bench(cache, splitter=splitter)
  train = dataclasses.replace(TRAIN, select="last", eval_every_epochs=2.0)
  result = run(cache, tmp_path, splitter=splitter, train=train)
  assert result["best_step"] == result["num_steps"]
  assert result["validation"] == {}
  assert result["protocol"]["selection"] == "last weights"


def test_mined_negatives_are_no_training_items_and_resume(
  cache, tmp_path, monkeypatch
):
  changes = {
    "negatives": (InBatch(), Mined(3, pool=6), Uniform(5)),
    "objective": Softmax(log_q=True),
  }
  whole = run(cache, tmp_path / "whole", **changes)
  bench = open_bench(cache, **changes)
  made = bench.refresher.make(
    launch.best_weights(bench.task, tmp_path / "whole")
  )
  mined = made["mined"]
  assert mined.shape == (NUM_USERS + 1, 6)
  for user in range(1, NUM_USERS + 1):
    assert not set(mined[user]) & set(bench.train_items[user])
    assert (mined[user] > 0).all()
  # A run that is stopped in its third epoch and goes on ends the same.
  steps = bench.batches.steps_per_epoch
  short = dataclasses.replace(TRAIN, max_steps=2 * steps + 3)
  run_in(cache, tmp_path / "parts", short, changes)
  parts = run_in(cache, tmp_path / "parts", TRAIN, changes)
  assert parts["metrics"] == whole["metrics"]
  rows = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
  assert json.loads(rows[-1])["loss"] == pytest.approx(
    json.loads(
      (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1]
    )["loss"],
    abs=0.0,
  )


def test_hard_lists_are_read_and_are_part_of_the_data(cache, tmp_path):
  rows = [f"u{user},i{user % 7}" for user in range(NUM_USERS)]
  file = tmp_path / "shown.csv"
  changes = {
    "negatives": (InBatch(), HardLists(2)),
    "hard_lists": HardListFile(str(file)),
  }
  file.write_text("\n".join(["user_id,item_id", *rows]))
  before = open_bench(cache, **changes)
  np.testing.assert_array_equal(before.constants["hard_lists"][9][:2], [2, 0])
  result = run(cache, tmp_path / "run", **changes)
  assert result["data_fingerprint"] == before.data_fingerprint
  assert before.data_fingerprint != open_bench(cache).data_fingerprint
  file.write_text("\n".join(["user_id,item_id", *rows[1:]]))
  assert (
    before.data_fingerprint != open_bench(cache, **changes).data_fingerprint
  )
  with pytest.raises(ConfigError, match="for HardLists among the negatives"):
    open_bench(cache, hard_lists=HardListFile(str(file)))


def run_in(cache, workdir, train, changes):
  """Trains with the same config hash, whatever the number of steps."""
  return launch.train(
    experiment(train=train, **changes),
    RunRecord(workdir),
    cache,
    config_hash="same",
    config_hash_without_seed="same",
    cache_dir=cache,
  )


def test_a_mesh_of_devices_gives_the_losses_of_one(cache, tmp_path):
  one = run(cache, tmp_path / "one", negatives=(InBatch(), Uniform(20)))
  mesh = MeshConfig(data=4, model=1)
  many = run(
    cache, tmp_path / "many", negatives=(InBatch(), Uniform(20)), mesh=mesh
  )
  read = lambda name: [
    json.loads(line)["loss"]
    for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
  ]
  np.testing.assert_allclose(read("many"), read("one"), rtol=1e-4)
  assert many["num_steps"] == one["num_steps"]


@pytest.mark.parametrize(
  ("changes", "error", "message"),
  [
    ({"batch_size": 0}, ConfigError, "batch_size"),
    ({"splitter": "random"}, ConfigError, "splitter must be a splitter"),
    ({"item_id": False}, ConfigError, "a tower needs a feature"),
    (
      {"item_features": (Categorical("colour"),)},
      DataError,
      "colour.*raw_id, title, tags, image",
    ),
    (
      {"item_features": (Vector("title", dim=4),)},
      DataError,
      "'title'.*lists",
    ),
    (
      {"item_features": (Vector("image", dim=4),)},
      DataError,
      "image.*4",
    ),
    ({"item_features": (Text("tags"),)}, DataError, "tokens need a column"),
    (
      {"model": TwoTower(Tower(8, context_gate=True), Tower(8))},
      ConfigError,
      "context_features",
    ),
    (
      {"model": TwoTower(Tower(8, project=False), Tower(4))},
      ConfigError,
      "of users is 8 and that of items 4",
    ),
  ],
)
def test_bad_settings_are_told(cache, changes, error, message):
  with pytest.raises(error, match=message):
    bench = open_bench(cache, **changes)
    bench.task.init(jax.random.key(0))
