"""Ranking experiments: what is refused, and rows in memory or on disk."""

import dataclasses
import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from pyarrow import parquet

from recjax import launch
from recjax.data.batches import grain_iterator
from recjax.data.example_stream import StreamConfig
from recjax.data.sources.criteo import CATEGORIES, Criteo
from recjax.data.sources.example_table import ExampleTable
from recjax.data.sources.frappe import Frappe
from recjax.data.sources.planted_criteo import PlantedCriteo
from recjax.embeddings.groups import TableSettings
from recjax.embeddings.row_optimizers import Adagrad
from recjax.errors import ConfigError, DataError
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.features.encodings import Vocabulary
from recjax.features.specs import Categorical, Cross, MultiHot, Numeric
from recjax.models.lr import LR
from recjax.ranking_bench import RankingBench
from recjax.ranking_experiment import RankingExperiment, slice_column
from recjax.runs.record import RunRecord
from recjax.train.loop import TrainConfig
from recjax.train.mesh import MeshConfig

NUM = 2400
FEATURES = (
  Numeric("I1", transform="log"),
  Numeric("I2", transform="log"),
  *(Categorical(name, "", Vocabulary(2)) for name in CATEGORIES[:6]),
)
STREAM = StreamConfig(
  window_rows=512, num_lanes=4, group_rows=64, shard_rows=500
)
TRAIN = TrainConfig(
  num_epochs=2, eval_every_epochs=1.0, select="auc", checkpoint_every_steps=7
)


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Text in Criteo's format, and a cache."""
  folder = tmp_path_factory.mktemp("ranking")
  values = [40] * len(CATEGORIES)
  PlantedCriteo(NUM, values, validation=0, test=0).write(folder / "criteo")
  return folder


def experiment(**options):
  options = {
    "stream": STREAM,
    "features": FEATURES,
    "train": TRAIN,
    "tables": TableSettings(optimizer=Adagrad(0.1, initial_accumulator=1e-8)),
  } | options
  return RankingExperiment(
    Criteo("criteo", block_bytes=1 << 16, test_fraction=0.2),
    model=LR(),
    batch_size=64,
    **options,
  )


def open_bench(folder, **options):
  return experiment(**options).open(folder, folder / "cache")


def random_weights(bench, seed=0):
  """Weights as training has them, drawn anew."""
  params, variables = bench.task.init(jax.random.key(0))
  tables = bench.task.sparse.init(jax.random.key(1))
  weights = {**params, **variables, "tables": tables}
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), weights)


# -- In memory and on disk ----------------------------------------------------


def test_rows_in_memory_and_on_disk_are_the_same(folder):
  disk = open_bench(folder)
  memory = open_bench(folder, stream=None)
  assert disk.features.specs == memory.features.specs
  assert disk.task == memory.task
  assert disk.data_fingerprint != memory.data_fingerprint  # Encoded, and raw.
  weights = random_weights(disk)
  for part in ("train", "validation", "test"):
    np.testing.assert_array_equal(
      disk.scores(weights, part), memory.scores(weights, part)
    )
  assert disk.validate(weights) == memory.validate(weights)
  one, other = disk.test(weights), memory.test(weights)
  assert one.intervals == other.intervals and one.floor == other.floor
  assert one.num_examples == disk.parts.num_rows("test")


def test_a_folder_of_parquet_files_is_the_same_rows(folder):
  values = [40] * len(CATEGORIES)
  table = PlantedCriteo(NUM, values, validation=0, test=0).table(0)
  (folder / "parquet").mkdir()
  for start in range(0, NUM, 700):
    path = folder / "parquet" / f"{start:04d}.parquet"
    parquet.write_table(table.slice(start, 700), path, row_group_size=300)
  source = ExampleTable("parquet", test_fraction=0.2)
  files = dataclasses.replace(experiment(), source=source)
  found = files.open(folder, folder / "cache")
  assert found.data_fingerprint == open_bench(folder).data_fingerprint


def test_slices_and_grouped_auc_on_disk(folder):
  options = {
    "slices": ("C6", "I1"),
    "protocol": ClassificationProtocol(metrics=("auc", "gauc@C9")),
  }
  disk = open_bench(folder, **options)
  memory = open_bench(folder, stream=None, **options)
  weights = random_weights(disk)
  one, other = disk.test(weights), memory.test(weights)
  assert one.metrics == other.metrics
  assert repr(one.slices) == repr(other.slices)  # NaN is not NaN.
  assert disk.validate(weights) == memory.validate(weights)
  assert np.isfinite(one.metrics["gauc@C9"])
  # Values as they stand in the file.
  table = memory.parts.split.test.table
  found, counts = np.unique(
    table.column("C6").fill_null("missing").to_numpy(), return_counts=True
  )
  sizes = dict(zip(found, counts, strict=True))
  assert len(sizes) > 5 and "missing" in sizes
  shown = [s for s in one.slices["C6"] if not s.value.startswith("other")]
  assert [s.num_examples for s in shown] == [sizes[s.value] for s in shown]


def test_a_part_that_is_too_large_is_judged_as_it_passes_by(folder):
  few = dataclasses.replace(STREAM, exact_rows=100)
  passing, exact = open_bench(folder, stream=few), open_bench(folder)
  weights = jax.tree.map(lambda x: 0.1 * x, random_weights(exact))
  one, other = passing.test(weights), exact.test(weights)
  assert one.predictions is None and other.predictions is not None
  for name, value in other.metrics.items():
    np.testing.assert_allclose(one.metrics[name], value, rtol=1e-4)
    np.testing.assert_allclose(one.floor[name], other.floor[name], rtol=1e-5)
  validated = exact.validate(weights)
  for name, value in passing.validate(weights).items():
    np.testing.assert_allclose(value, validated[name], rtol=1e-4)
  (note,) = passing.facts(one)["notes"]
  assert note.startswith("auc is that of scores in")
  with pytest.raises(ConfigError, match="slices need all scores .* raise"):
    open_bench(folder, stream=few, slices=("C6",))


def test_features_are_inferred_from_the_first_block(folder):
  disk = open_bench(folder, features=(), min_count=3)
  memory = open_bench(folder, features=(), min_count=3, stream=None)
  assert disk.features.specs == memory.features.specs
  assert len(disk.features.names) == 39


# -- Training -----------------------------------------------------------------


def test_the_protocol_says_what_selected_the_model(folder):
  auc = open_bench(folder).protocol
  train = dataclasses.replace(TRAIN, select="log_loss")
  loss = open_bench(folder, train=train).protocol
  assert auc.selection == "best validation AUC"
  assert loss.selection == "best validation log_loss"
  assert auc.hash() != loss.hash()
  with pytest.raises(ConfigError, match="'ndcg@10'"):
    experiment(train=dataclasses.replace(TRAIN, select="ndcg@10"))


def test_a_part_without_rows_is_told_before_training(folder):
  source = Criteo("criteo", block_bytes=1 << 16, test_fraction=0.0)
  settings = dataclasses.replace(experiment(), source=source)
  with pytest.raises(DataError, match="no test rows.*give Criteo some"):
    settings.open(folder, folder / "cache")


def train(folder, workdir, **options):
  record = RunRecord(workdir)
  cache = folder / "cache"
  settings = experiment(**options)
  try:
    return launch.train(settings, record, folder, cache_dir=cache)
  finally:
    record.close()


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
  """The record of an unbroken run from disk, and its result."""
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, train(folder, workdir, slices=("C6",))


def test_a_mesh_trains_and_judges_tables_where_they_lie(
  folder, tmp_path, whole, monkeypatch
):
  seen = []
  scores = RankingBench.scores

  def watched(self, weights, part):
    (table,) = weights["tables"].values()
    seen.append(table.sharding)
    return scores(self, weights, part)

  monkeypatch.setattr(RankingBench, "scores", watched)
  tables = dataclasses.replace(experiment().tables, sharding="row_wise")
  settings = {"mesh": MeshConfig(data=2, model=2), "tables": tables}
  result = train(folder, tmp_path, **settings)
  assert len(seen) == 3  # Two validations and the test.
  tested = launch.evaluate(
    experiment(**settings), tmp_path, folder, folder / "cache"
  )
  for sharding, num in zip(seen, (4, 4, 4, 8), strict=True):
    assert len(sharding.device_set) == num
    assert not sharding.is_fully_replicated
  for name, value in whole[1]["metrics"].items():
    np.testing.assert_allclose(result["metrics"][name], value, rtol=1e-4)
    np.testing.assert_allclose(tested.metrics[name], value, rtol=1e-4)


def last_state(workdir):
  """The arrays of the last checkpoint."""
  steps = (workdir / "checkpoints").iterdir()
  last = max(int(path.name) for path in steps if path.name.isdigit())
  path = (workdir / "checkpoints" / str(last) / "state").absolute()
  with ocp.StandardCheckpointer() as checkpointer:
    return last, checkpointer.restore(path)


class Killed(Exception):
  pass


def test_a_killed_run_from_disk_ends_as_an_unbroken_one(
  folder, tmp_path, monkeypatch, whole
):
  workdir, expected = whole
  crashes = [13, 40]
  log = RunRecord.log

  def log_or_die(self, step, **scalars):
    log(self, step, **scalars)
    if crashes and step >= crashes[0]:
      raise Killed

  every = dataclasses.replace(TRAIN, log_every_steps=1)
  options = {"train": every, "slices": ("C6",)}
  with monkeypatch.context() as patch:
    patch.setattr(RunRecord, "log", log_or_die)
    while crashes:
      with pytest.raises(Killed):
        train(folder, tmp_path / "broken", **options)
      crashes.pop(0)
  result = train(folder, tmp_path / "broken", **options)
  step, state = last_state(workdir)
  found_step, found = last_state(tmp_path / "broken")
  assert found_step == step == result["num_steps"] == 2 * 27
  jax.tree.map(np.testing.assert_array_equal, found, state)
  for name in ("metrics", "best_step", "validation", "data_fingerprint"):
    assert result[name] == expected[name]


def test_the_record_of_a_run_from_disk(folder, whole):
  workdir, result = whole
  bench = open_bench(folder)
  assert result["data_fingerprint"] == bench.parts.split.fingerprint
  assert result["features_fingerprint"] == bench.features.fingerprint
  assert result["num_test_examples"] == bench.parts.num_rows("test")
  assert len(result["slices"]["C6"]) == 21  # Twenty values, and the others.
  assert result["metrics"]["auc"] > result["floor"]["auc"]
  saved = json.loads((workdir / "result.json").read_text())
  assert saved["metrics"] == result["metrics"]
  for file in ("features.npz", "plots/test-roc.png"):
    assert (workdir / file).stat().st_size > 0


def test_processes_read_their_shares(folder):
  one = open_bench(folder).batches
  steps = one.steps_per_epoch + 3
  shares = [
    grain_iterator(
      open_bench(folder).batches, steps, process_index=i, process_count=2
    )
    for i in range(2)
  ]
  for step, parts in enumerate(zip(*shares, strict=True)):
    whole = one.host_batch(step)
    for name, values in whole.items():
      joined = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(joined, values)
  assert step == steps - 1


# -- Settings -----------------------------------------------------------------


def test_the_feed_of_rows_on_disk():
  assert experiment().train == dataclasses.replace(TRAIN, feed="grain")
  assert experiment(stream=None).train.feed == "auto"
  device = dataclasses.replace(TRAIN, feed="device")
  with pytest.raises(ConfigError, match="leaves them on disk: use feed='gr"):
    experiment(train=device)


def test_what_can_not_be_streamed():
  with pytest.raises(ConfigError, match="block by block.*got Frappe"):
    RankingExperiment(Frappe(), stream=StreamConfig())
  with pytest.raises(ConfigError, match="multiple of .*num_lanes=5; got 64"):
    experiment(stream=StreamConfig(num_lanes=5))
  with pytest.raises(ConfigError, match="StreamConfig.window_rows must lie"):
    StreamConfig(window_rows=0)


@pytest.mark.parametrize("stream", [None, STREAM])
@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"slices": ("C66",)}, "got 'C66'. Did you mean 'C6'"),
    ({"linear_only": ("C66",)}, "got 'C66'. Did you mean 'C6'"),
    (
      {"protocol": ClassificationProtocol(metrics=("auc", "gauc@user"))},
      "the column of 'gauc@user' must be one of 'label', 'I1'",
    ),
  ],
)
def test_names_that_are_not_there(folder, stream, options, message):
  with pytest.raises(ConfigError, match=message):
    open_bench(folder, stream=stream, **options)


def test_slices_are_of_one_value():
  assert slice_column(Categorical("a", "column")) == "column"
  for spec in (MultiHot("a"), Cross("a", ("b", "c"))):
    with pytest.raises(ConfigError, match=f"'a' is a {type(spec).__name__};"):
      slice_column(spec)
