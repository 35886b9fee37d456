"""Several objectives from disk: as in memory, resumed, and what is refused."""

import dataclasses
import re

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow as pa
import pytest
from pyarrow import compute as pc
from pyarrow import parquet

from recjax import gin_config, launch, roots
from recjax.balancing.dwa import DynamicWeightAveraging
from recjax.data.example_stream import StreamConfig
from recjax.data.propensities.swap import SwapIntervention
from recjax.data.sources.example_table import ExampleTable
from recjax.embeddings.groups import TableSettings
from recjax.embeddings.row_optimizers import Adagrad
from recjax.errors import ConfigError, DataError
from recjax.evaluation.classification_protocol import ClassificationProtocol
from recjax.evaluation.served_front import ParetoFront
from recjax.evaluation.served_score import ServedScore
from recjax.features.specs import Categorical, Numeric
from recjax.layers.heads.mmoe import MMoE
from recjax.layers.heads.separate import Separate
from recjax.models.multi_task import MultiTask
from recjax.multi_task_experiment import MultiTaskExperiment
from recjax.runs.record import RunRecord
from recjax.tasks.position_bias import PositionTower, Propensities
from recjax.tasks.task_objectives import Objective
from recjax.train.loop import TrainConfig
from tests.data.sources import ali_ccp_test, ali_express_test

NUM = {"train": 700, "validation": 300, "test": 260}
CHAIN = (
  Objective("click"),
  Objective("buy", given="click", space="entire", truth="would_buy"),
  Objective("watch", "secs", "real", log_label=True, where="is_video"),
)
FEATURES = (Categorical("city"), Numeric("x", transform="z_score"))
STREAM = StreamConfig(
  window_rows=256, num_lanes=4, group_rows=64, shard_rows=200
)
# Validation and test rows are judged as they pass by.
FEW = dataclasses.replace(STREAM, exact_rows=255)
SOURCE = ExampleTable(
  "train.parquet", "click", "", "validation.parquet", "test.parquet",
  name="shop",
)  # fmt: skip
TRAIN = TrainConfig(
  num_epochs=2,
  eval_every_epochs=1.0,
  select="auc/click*buy",
  checkpoint_every_steps=5,
)


def table_of(part, **changes):
  """Rows of a shop; `changes` are (row, value) by column."""
  num = NUM[part]
  rng = np.random.default_rng(list(NUM).index(part))
  city, position = rng.integers(0, 4, num), rng.integers(1, 6, num)
  x = rng.normal(size=num)
  click = rng.random(num) < 1 / (1 + np.exp(-x - city + 2))
  would = rng.random(num) < 1 / (1 + np.exp(x - city + 1))
  columns = {
    "city": [f"c{i}" for i in city],
    "x": x.astype(np.float32),
    "click": click.astype(np.int8),
    "buy": (click & would).astype(np.int8),
    "would_buy": would,  # Booleans.
    "is_video": [True if v < 0.6 else None for v in rng.random(num)],
    "secs": np.where(rng.random(num) < 0.7, np.exp(x + 3), np.nan),
    "position": position.astype(np.int32),
    "seen": 1.0 / position,
  }
  for name, (row, value) in changes.items():
    values = list(columns[name])
    values[row] = value
    columns[name] = values
  columns["secs"] = pa.array(columns["secs"], pa.float64(), from_pandas=True)
  return pa.table(columns)


def write(folder, **parts):
  for part in NUM:
    table = parts.get(part, table_of(part))
    parquet.write_table(table, folder / f"{part}.parquet", row_group_size=100)
  return folder


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return write(tmp_path_factory.mktemp("shop"))


def experiment(**options):
  defaults = {
    "source": SOURCE,
    "stream": STREAM,
    "objectives": CHAIN,
    "features": FEATURES,
    "model": MultiTask(MMoE(2, (4,), (4,))),
    "tables": TableSettings(optimizer=Adagrad(0.1)),
    "train": TRAIN,
    "protocol": ClassificationProtocol(metrics=("auc", "log_loss", "ece")),
    "batch_size": 64,
  }
  return MultiTaskExperiment(**(defaults | options))


def open_bench(folder, **options):
  return experiment(**options).open(folder, folder / "cache")


def random_weights(bench):
  """Weights as training has them, drawn anew."""
  params, variables = bench.task.init(jax.random.key(0))
  weights = {**params, **variables}
  if tables := bench.task.sparse.init(jax.random.key(1)):
    weights["tables"] = tables
  rng = np.random.default_rng(0)
  draw = lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32)
  return jax.tree.map(draw, weights)


def assert_same(one, other):
  """NaN is NaN here."""
  assert one.keys() == other.keys()
  for name, value in one.items():
    np.testing.assert_array_equal(value, other[name], err_msg=name)


def assert_close(one, other):
  """AUCs may miss a pair or two of those that share a bin."""
  for name, value in other.items():
    atol = 5e-4 if name.startswith("auc") else 1e-4 * abs(value)
    np.testing.assert_allclose(one[name], value, atol=atol, err_msg=name)


# --- In memory and on disk ---------------------------------------------------


def test_rows_in_memory_and_on_disk_are_judged_alike(folder):
  options = {
    "protocol": ClassificationProtocol(metrics=("auc", "gauc@city", "ece")),
    "slices": ("city",),
    "served": ServedScore(weights=(1, 1, 0)),
    "front": ParetoFront(num_weights=3),
  }
  disk = open_bench(folder, **options)
  memory = open_bench(folder, stream=None, **options)
  assert disk.task == memory.task
  weights = random_weights(disk)
  assert_same(disk.validate(weights), memory.validate(weights))
  one, other = disk.test(weights), memory.test(weights)
  assert_same(one.metrics, other.metrics)
  assert_same(one.intervals, other.intervals)
  assert {"auc/buy@all", "rmse/watch", "auc/buy", "gauc@city/click"} <= (
    one.metrics.keys()
  )
  assert repr(one.tasks["click"].slices) == repr(other.tasks["click"].slices)
  np.testing.assert_array_equal(one.front.test, other.front.test)
  for name, task in one.predictions.tasks.items():
    kept = other.predictions.tasks[name]
    np.testing.assert_array_equal(task.label, kept.label)
  assert one.tasks["watch"].num_examples < NUM["test"] * 0.6


@pytest.mark.parametrize("stream", [None, FEW], ids=["memory", "passing"])
def test_each_task_has_its_own_training_rate(folder, stream):
  """The entropy of the training rate, and what that rate reaches."""
  options = {
    "protocol": ClassificationProtocol(
      metrics=("log_loss", "normalized_entropy"), entropy_rate="training"
    ),
    "model": MultiTask(Separate((3,))),
    "train": dataclasses.replace(TRAIN, select="log_loss/click"),
  }
  bench = open_bench(folder, stream=stream, **options)
  found = bench.validate(random_weights(bench))
  tested = bench.test(random_weights(bench))
  column = lambda part, name: table_of(part).column(name).to_numpy()
  of = lambda part: {
    "click": column(part, "click"),
    "buy": column(part, "buy")[column(part, "click") == 1],
    "click*buy": column(part, "buy"),
    "buy@all": column(part, "would_buy"),
  }
  for name, labels in of("train").items():
    rate = labels.mean()
    entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    ratio = found[f"log_loss/{name}"] / entropy
    value = found[f"normalized_entropy/{name}"]
    np.testing.assert_allclose(value, ratio, rtol=1e-5, err_msg=name)
    tests = of("test")[name].mean()
    floor = -tests * np.log(rate) - (1 - tests) * np.log(1 - rate)
    told = tested.floor[f"log_loss/{name}"]
    np.testing.assert_allclose(told, floor, rtol=1e-5, err_msg=name)
  logs = lambda part: np.log1p(
    table_of(part).filter(pc.field("is_video")).column("secs").drop_null()
  )
  floor = np.sqrt(np.mean((logs("test") - logs("train").mean()) ** 2))
  np.testing.assert_allclose(tested.floor["rmse/watch"], floor, rtol=1e-5)


def test_a_training_rate_of_one_class_is_told(tmp_path):
  write(tmp_path, train=without("train", "would_buy", True))
  protocol = ClassificationProtocol(entropy_rate="training")
  with pytest.raises(DataError, match="700 labels of the task 'buy@all' are 1"):
    open_bench(tmp_path, protocol=protocol)
  bench = open_bench(tmp_path)  # There is no floor then.
  floor = bench.test(random_weights(bench)).floor
  assert "auc/click*buy" in floor and "auc/buy@all" not in floor


def test_training_batches_hold_what_a_step_reads(folder):
  disk, memory = open_bench(folder), open_bench(folder, stream=None)
  names = {"label/click", "label/buy", "label/secs", "label/is_video"}
  for bench in (disk, memory):
    batches = bench.batches
    found = {name for name in batches.batch_ndims if name.startswith("label/")}
    assert found == names  # And not "would_buy", which the judge alone sees.
  steps = range(disk.batches.steps_per_epoch)
  rows = [disk.batches.host_batch(step) for step in steps]
  for name in [*sorted(names), "x"]:
    values = np.concatenate([batch[name][batch["where"]] for batch in rows])
    expected = memory.batches.columns[name]
    np.testing.assert_allclose(np.sort(values), np.sort(expected), rtol=1e-5)


def test_rows_that_pass_by_are_judged_alike(folder):
  passing, exact = open_bench(folder, stream=FEW), open_bench(folder)
  assert passing.parts.in_passing("test")
  assert not exact.parts.in_passing("test")
  weights = random_weights(exact)
  one, other = passing.validate(weights), exact.validate(weights)
  assert one.keys() == other.keys()
  assert_close(one, other)
  one, other = passing.test(weights), exact.test(weights)
  assert one.predictions is None
  assert_close(one.metrics, other.metrics)
  for name in other.metrics:
    low, high = other.intervals[name]
    assert low < one.metrics[name] < high
    width = one.intervals[name][1] - one.intervals[name][0]
    np.testing.assert_allclose(width, high - low, rtol=0.2, err_msg=name)
  for name, result in other.tasks.items():
    assert one.tasks[name].num_examples == result.num_examples
  facts = passing.facts(one)
  assert any("auc is that of scores in" in note for note in facts["notes"])
  assert passing.protocol.auc_bins == 2**17 and not exact.protocol.auc_bins
  assert passing.protocol.hash() != exact.protocol.hash()
  for name, found in exact.facts(other)["expert_utilization"].items():
    told = facts["expert_utilization"][name]
    np.testing.assert_allclose(told, found, rtol=1e-5)


# --- Training ----------------------------------------------------------------


def train(folder, workdir, **options):
  record = RunRecord(workdir)
  cache = folder / "cache"
  try:
    return launch.train(experiment(**options), record, folder, cache_dir=cache)
  finally:
    record.close()


def last_state(workdir):
  """The arrays of the last checkpoint."""
  steps = (workdir / "checkpoints").iterdir()
  last = max(int(path.name) for path in steps if path.name.isdigit())
  path = (workdir / "checkpoints" / str(last) / "state").absolute()
  with ocp.StandardCheckpointer() as checkpointer:
    return last, checkpointer.restore(path)


class Killed(Exception):
  pass


def test_a_killed_run_ends_as_an_unbroken_one(folder, tmp_path, monkeypatch):
  train_every = dataclasses.replace(TRAIN, log_every_steps=1)
  balancer = DynamicWeightAveraging(window_steps=3)
  options = {
    "train": train_every,
    "balancer": balancer,
    "stream": FEW,
    "objectives": CHAIN[:2],
    "model": MultiTask(Separate((3,))),
  }
  expected = train(folder, tmp_path / "whole", **options)
  log = RunRecord.log

  def log_or_die(self, step, **scalars):
    log(self, step, **scalars)
    if step == 8:
      raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(RunRecord, "log", log_or_die)
    with pytest.raises(Killed):
      train(folder, tmp_path / "broken", **options)
  result = train(folder, tmp_path / "broken", **options)
  step, state = last_state(tmp_path / "whole")
  found_step, found = last_state(tmp_path / "broken")
  assert found_step == step == result["num_steps"] == 2 * 11
  jax.tree.map(np.testing.assert_array_equal, found, state)
  for name in ("metrics", "intervals", "best_step", "data_fingerprint"):
    assert result[name] == expected[name]
  assert not (tmp_path / "whole" / "predictions").exists()


# --- What is told before training --------------------------------------------


@pytest.mark.parametrize("stream", [None, STREAM], ids=["memory", "disk"])
@pytest.mark.parametrize(
  ("part", "changes", "message"),
  [
    (
      "train",
      {"buy": (130, 1), "click": (130, 0)},
      "shop train, row 130: column 'buy' is 1 where 'click' is 0.*1 such rows",
    ),
    (
      "test",
      {"buy": (201, 2), "click": (201, 1)},
      "shop test, row 201: column 'buy' holds 2; it must be 0, 1 or null",
    ),
    (
      "validation",
      {"secs": (7, np.inf)},
      r"shop validation, row 7: column 'secs' holds inf; ln\(1 \+ y\) is taken",
    ),
    (
      "train",
      {"secs": (99, -1.0)},
      "shop train, row 99: column 'secs' holds -1; .* must be above -1, or nul",
    ),
  ],
)
def test_a_bad_label_is_told(tmp_path, stream, part, changes, message):
  write(tmp_path, **{part: table_of(part, **changes)})
  with pytest.raises(DataError, match=message):
    open_bench(tmp_path, stream=stream)


def without(part, column, value):
  table = table_of(part)
  place = table.column_names.index(column)
  values = pa.array([value] * table.num_rows, table.schema.field(column).type)
  return table.set_column(place, column, values)


@pytest.mark.parametrize("stream", [None, STREAM], ids=["memory", "disk"])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_task_without_labels_is_told(tmp_path, stream, part):
  write(tmp_path, **{part: without(part, "secs", None)})
  message = (
    f"shop {part}: no row has a label of the task 'watch', which the column"
    " 'secs' would tell where 'is_video' is 1. Leave the objective out"
  )
  with pytest.raises(DataError, match=re.escape(message)):
    open_bench(tmp_path, stream=stream)


def test_labels_of_rows_without_weight_are_none(tmp_path):
  def weighed(part):
    table = table_of(part)
    weight = 1.0 - (part == "validation") * table.column("click").to_numpy()
    return table.append_column("w", pa.array(weight, pa.float32()))

  write(tmp_path, **{part: weighed(part) for part in NUM})
  options = {"source": dataclasses.replace(SOURCE, weight_column="w")}
  message = "shop validation: no row has a label of the task 'buy', .*'click' h"
  for stream in (None, STREAM):
    with pytest.raises(DataError, match=message):
      open_bench(tmp_path, stream=stream, **options)
  options["protocol"] = ClassificationProtocol(weights="none")
  bench = open_bench(tmp_path, stream=FEW, **options)
  assert np.isfinite(bench.validate(random_weights(bench))["auc/buy"])


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_truth_without_labels_is_told(tmp_path, part):
  write(tmp_path, **{part: without(part, "would_buy", None)})
  message = f"shop {part}: no row has a label in the column 'would_buy', the t"
  with pytest.raises(DataError, match=message):
    open_bench(tmp_path, stream=FEW)


def test_a_conversion_that_is_masked_may_lack_its_click(tmp_path):
  changes = {"is_video": (130, None), "buy": (130, 1), "click": (130, 0)}
  write(tmp_path, train=table_of("train", **changes))
  masked = Objective("buy", given="click", where="is_video")
  for stream in (None, STREAM):
    open_bench(tmp_path, stream=stream, objectives=(CHAIN[0], masked))
  with pytest.raises(DataError, match="row 130: column 'buy' is 1 where 'clic"):
    open_bench(tmp_path, stream=None)


@pytest.mark.parametrize(
  ("select", "column", "value"),
  [
    ("auc/buy@all", "would_buy", False),
    ("auc/click*buy@served", "buy", 0),
  ],
)
def test_a_select_that_is_undefined_is_told(tmp_path, select, column, value):
  table = without("validation", column, value)
  write(tmp_path, validation=table)
  train = dataclasses.replace(TRAIN, select=select)
  message = f"{select!r}, which TrainConfig.select names, is undefined"
  with pytest.raises(DataError, match=re.escape(message)):
    open_bench(tmp_path, train=train, served=ServedScore(weights=(1, 1, 0)))


def test_labels_of_one_class_are_told(tmp_path, caplog):
  write(tmp_path, validation=without("validation", "buy", 0))
  message = (
    r"shop validation: all 300 labels of the task 'click\*buy' are 0, so that"
    r" 'auc/click\*buy', which TrainConfig.select names, is undefined"
  )
  with pytest.raises(DataError, match=message):
    open_bench(tmp_path)
  train = dataclasses.replace(TRAIN, select="auc/click")
  bench = open_bench(tmp_path, train=train)
  assert "labels of the task 'buy' are 0; its AUC is undefined" in caplog.text
  found = bench.validate(random_weights(bench))
  assert np.isnan(found["auc/buy"]) and np.isnan(found["auc/click*buy"])
  assert 0 < found["auc/click"] < 1


def test_a_column_that_is_not_there_is_told_before_anything_is_read(tmp_path):
  write(tmp_path)
  objectives = (*CHAIN[:2], Objective("like", "clik"))
  with pytest.raises(DataError, match="shop has no column 'clik'.*'click'"):
    open_bench(tmp_path, objectives=objectives)
  assert not list((tmp_path / "cache").rglob("progress.json"))


# --- Position bias -----------------------------------------------------------

BIASED = (Objective("click", position_biased=True), CHAIN[1])
POSITIONS = {"num_positions": 5, "truth": "seen"}


def test_positions_from_disk(folder):
  tower = PositionTower(**POSITIONS, columns=("x",))
  given = Propensities((1.0, 0.5, 0.4, 0.3, 0.2), truth="seen")
  for bias in (tower, given):
    options = {"objectives": BIASED, "position_bias": bias}
    bench = open_bench(folder, **options)
    assert "label/position" in bench.batches.batch_ndims
    assert "label/seen" not in bench.batches.batch_ndims
    weights = random_weights(bench)
    found = bench.test(weights).positions
    np.testing.assert_allclose(found.truth, 1 / np.arange(1, 6))
    if bias is given:
      np.testing.assert_allclose(found.values, given.values)
    else:
      means = {"x": float(table_of("train").column("x").to_numpy().mean())}
      curve = tower.curve(weights["position_tower"], means)
      np.testing.assert_allclose(found.values, curve.values, rtol=1e-5)


def test_bad_positions_are_told_while_rows_are_encoded(tmp_path):
  table = table_of("train", position=(150, 6))
  write(tmp_path, train=table, test=table_of("test", position=(3, 99)))
  options = {"objectives": BIASED, "position_bias": PositionTower(**POSITIONS)}
  with pytest.raises(
    DataError, match="shop train, row 150: column 'position' holds 6"
  ):
    open_bench(tmp_path, **options)
  write(tmp_path, test=table_of("test", position=(3, 99)))
  open_bench(tmp_path, **options)  # A position is read in training alone.


def test_a_truth_without_a_first_position_is_told_before_training(tmp_path):
  table = table_of("train")
  place = table.column_names.index("position")
  later = np.maximum(table.column("position").to_numpy(), 2)
  write(tmp_path, train=table.set_column(place, "position", pa.array(later)))
  options = {"objectives": BIASED, "position_bias": PositionTower(**POSITIONS)}
  for stream in (None, STREAM):
    with pytest.raises(DataError, match="no row of training has 'position' 1"):
      open_bench(tmp_path, stream=stream, **options)


# --- What is refused ---------------------------------------------------------


def test_estimated_propensities_need_rows_in_memory():
  bias = Propensities(estimator=SwapIntervention())
  with pytest.raises(ConfigError, match="Propensities.estimator reads all tr"):
    experiment(objectives=BIASED, position_bias=bias)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"served": ServedScore()}, "a served score is judged by all rows, and"),
    ({"front": ParetoFront(3)}, "a Pareto front needs all scores at once, and"),
    ({"slices": ("city",)}, "slices need all scores at once, and the 260 test"),
    (
      {"protocol": ClassificationProtocol(metrics=("auc", "gauc@city"))},
      "'gauc@city' needs the rows of a group together, and the 300 valid",
    ),
  ],
)
def test_what_a_part_that_passes_by_can_not_have(folder, options, message):
  with pytest.raises(ConfigError, match=f"{message}.*StreamConfig.exact_rows"):
    open_bench(folder, stream=FEW, **options)
  open_bench(folder, **options)


def test_bins_of_an_auc_are_told_and_not_asked_for():
  with pytest.raises(ConfigError, match="auc_bins tells how test rows were"):
    experiment(protocol=ClassificationProtocol(auc_bins=100))


# --- The published files -----------------------------------------------------


def opened_alike(folder, *bindings):
  """A bench of gin files, whose rows are those in memory."""
  model = "models/multi_task_planted_conversions.gin"
  gin_config.parse([bindings[0], model], bindings[1:])
  made = roots.construct_root()
  disk = made.open(folder, folder / "cache")
  memory = dataclasses.replace(made, stream=None).open(folder, folder / "cache")
  pairs = zip(disk.parts.batches("test", 32), memory.parts.batches("test", 32))
  for one, other in pairs:
    assert one.keys() == other.keys()
    for name, values in one.items():
      np.testing.assert_allclose(values, other[name], rtol=1e-4, err_msg=name)
  for part in NUM:
    for column in ("click", "conversion"):
      found = disk.parts.numbers(part, column)
      np.testing.assert_array_equal(found, memory.parts.numbers(part, column))
      assert 0 < found.mean() < 1
  return disk


def test_ali_ccp(tmp_path):
  rng = np.random.default_rng(0)
  lines = [
    ali_ccp_test.sample(
      n, int(n % 3 > 0), int(n % 3 > 1), f"u{n % 5}",
      ("205", int(rng.integers(9)), "1.0"), ("210", 1, "1.0"),
      ("210", n % 4, "1.0"),
    )
    for n in range(90)
  ]  # fmt: skip
  users = [ali_ccp_test.common(f"u{n}", ("101", n, "1.0")) for n in range(5)]
  ali_ccp_test.write(tmp_path, lines, users, lines[:60], users)
  bench = opened_alike(
    tmp_path,
    "datasets/ali_ccp.gin",
    "AliCcp.validation_fraction=0.3",
    "AliCcp.block_bytes=500",
    "ali_ccp_features.min_count=1",
  )
  batch = bench.batches.host_batch(0)
  assert batch["210"].shape == (1024, 5)
  assert batch["210"].max() > 2 and batch["101"].max() > 2
  assert batch["label/click"].shape == (1024,)
  # 43 million test rows of the real files are more than are judged at once.
  assert bench.parts.config.exact_rows < 43_000_000


def test_ali_express(tmp_path):
  lines = [ali_express_test.line(n, n % 3 > 0, n % 3 > 1) for n in range(90)]
  ali_express_test.write(tmp_path, lines, lines[:40])
  bench = opened_alike(
    tmp_path, "datasets/ali_express.gin", "AliExpress.validation_fraction=0.3"
  )
  # Neither search_id nor labels are features.
  assert len(bench.features.names) == 16 + 63
