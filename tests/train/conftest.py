import dataclasses
import functools
import os
import pathlib
import re
import types

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from recjax.data.batches import SequenceBatches
from recjax.data.negatives import item_counts
from recjax.data.ragged import Ragged
from recjax.data.sequences import training_sequences
from recjax.data.sources.planted import PlantedSource
from recjax.data.splits import LeaveOneOut
from recjax.layers.dropout import Dropout
from recjax.models.sasrec import SASRec
from recjax.tasks.negative_sampling import NegativeSampling
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import BinaryCrossEntropy
from recjax.train.loop import TrainConfig, fit
from recjax.train.mesh import MeshConfig
from recjax.train.optimizer import Optimizer
from recjax.types import ITEM

CACHE_SETTINGS = {
  "jax_persistent_cache_min_compile_time_secs": 0.0,
  "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory):
  """A folder of compiled programs: a second `fit` of one kind is cheap."""
  return tmp_path_factory.mktemp("compile_cache")


@pytest.fixture(autouse=True, scope="module")
def _use_compile_cache(compile_cache):
  settings = CACHE_SETTINGS | {"jax_compilation_cache_dir": str(compile_cache)}
  before = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


class Linear(nn.Module):
  """The least of a sequence model: it compiles in no time."""

  dim: int
  max_len: int
  dropout_rate: float = 0.2
  initializer: str = "normal"
  init_stddev: float = 0.3

  @nn.compact
  def __call__(self, embeddings, position, segment_id, *, deterministic=True):
    x = nn.Embed(self.max_len, self.dim, name="position")(position)
    x = embeddings[ITEM] + x
    x = Dropout(self.dropout_rate)(x, deterministic=deterministic)
    return {"hidden": nn.Dense(self.dim, name="dense")(x)}


class Crash(Exception):
  """What stands for a kill of the process."""


class Run:
  """What a run has told so far, as its record would keep it."""

  def __init__(self):
    self.lines = []
    self.resumed_from = []

  def log(self, step, scalars):
    self.lines.append((step, dict(scalars)))

  def on_resume(self, step):
    self.resumed_from.append(step)
    self.lines = [line for line in self.lines if line[0] <= step]

  @property
  def losses(self):
    return np.array([s["loss"] for _, s in self.lines])


def spread_of_table(params):
  """A validation metric that costs nothing and hangs on the parameters."""
  return {"ndcg@10": float(np.std(params["tables"]["item"], dtype=np.float64))}


@dataclasses.dataclass(frozen=True)
class Planted:
  """60 users and 60 items of the planted process; 4 steps an epoch."""

  sequences: Ragged
  counts: np.ndarray
  num_items: int = 60
  max_len: int = 12

  Crash = Crash
  Run = Run
  models = types.MappingProxyType(
    {
      "linear": Linear,
      "sasrec": functools.partial(SASRec, num_blocks=1),
    }
  )

  def task(self, objective=None, *, model=None, dropout_rate=0.2, **settings):
    model = model or Linear(
      dim=8, max_len=self.max_len, dropout_rate=dropout_rate
    )
    objective = objective or BinaryCrossEntropy(
      NegativeSampling(exclude="none")
    )
    settings = {"micro_rows": 8} | settings
    return NextItem(model, objective, self.num_items, **settings)

  def batches(self, batch_size=16, seed=0):
    return SequenceBatches(
      self.sequences, batch_size=batch_size, max_len=self.max_len, seed=seed
    )

  def fit(
    self,
    workdir,
    *,
    run=None,
    task=None,
    batches=None,
    mesh=None,
    optimizer=None,
    validate=spread_of_table,
    log=None,
    **config,
  ):
    """`fit` with a line a step; returns its result and what it told."""
    run = run or Run()
    mesh = mesh or MeshConfig()
    settings = {"num_epochs": 3, "log_every_steps": 1, "patience": 0}
    task = task or self.task(data_shards=mesh.data)
    result = fit(
      task,
      batches or self.batches(),
      optimizer or Optimizer(),
      TrainConfig(**(settings | config)),
      mesh,
      seed=3,
      constants=task.constants(self.counts),
      workdir=workdir,
      validate=validate,
      log=log or run.log,
      on_resume=run.on_resume,
    )
    return result, run


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
  """Small data and what trains on it."""
  source = PlantedSource(
    num_users=60, num_items=60, num_clusters=6, mean_len=10.0
  )
  interactions = source.read(tmp_path_factory.mktemp("nothing"))
  split = LeaveOneOut()(interactions)
  return Planted(
    training_sequences(interactions, split),
    item_counts(interactions, split.train),
  )


GIN = """
from __gin__ import dynamic_registration

from recjax import experiment
from recjax.data import splits
from recjax.data.sources import planted
from recjax.models import sasrec
from recjax.tasks import objectives
from recjax.train import loop
from recjax.train import mesh

experiment.Experiment.source = @planted.PlantedSource()
experiment.Experiment.splitter = @splits.LeaveOneOut()
experiment.Experiment.model = @sasrec.SASRec()
experiment.Experiment.objective = @objectives.BinaryCrossEntropy()
experiment.Experiment.batch_size = 16
experiment.Experiment.micro_rows = 8
experiment.Experiment.train = @loop.TrainConfig()
experiment.Experiment.mesh = @mesh.MeshConfig()
planted.PlantedSource.num_users = 60
planted.PlantedSource.num_items = 60
planted.PlantedSource.num_clusters = 6
planted.PlantedSource.mean_len = 10.0
sasrec.SASRec.dim = 8
sasrec.SASRec.max_len = 12
sasrec.SASRec.num_blocks = 1
loop.TrainConfig.num_epochs = 20
loop.TrainConfig.eval_every_epochs = 5.0
loop.TrainConfig.log_every_steps = 1
loop.TrainConfig.checkpoint_every_steps = 4
loop.TrainConfig.patience = 0
loop.TrainConfig.feed = "device"
mesh.MeshConfig.data = 1
"""


@pytest.fixture
def tiny_gin(tmp_path):
  """Writes the gin file of a run of 80 steps, with some lines changed."""

  def write(**changes):
    text = GIN
    for name, value in changes.items():
      text, count = re.subn(rf"\.{name} = .*", f".{name} = {value}", text)
      assert count == 1
    path = tmp_path / "tiny.gin"
    path.write_text(text)
    return path

  return write


@pytest.fixture
def process_env(compile_cache):
  """The environment of processes of recjax: one CPU device each."""
  root = pathlib.Path(__file__).parents[2]
  env = dict(os.environ)
  env["PYTHONPATH"] = f"{root}{os.pathsep}{env.get('PYTHONPATH', '')}"
  env["JAX_PLATFORMS"] = "cpu"
  env["JAX_COMPILATION_CACHE_DIR"] = str(compile_cache)
  env |= {name.upper(): str(value) for name, value in CACHE_SETTINGS.items()}
  return env
