"""Steps with up to a billion rows, compiled by planning_test.py in a child.

  python large_steps.py TOPOLOGY...

What is compiled is the training step of `Layout.lower`; shapes stand for the
tables, and the data is a batch of one or two examples a device.
"""

import dataclasses
import sys

import jax
import numpy as np
import optax

from recjax.data.batches import SequenceBatches
from recjax.data.example_batches import ExampleBatches
from recjax.data.ragged import Ragged
from recjax.embeddings.choices import PlanConfig
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.embeddings.row_optimizers import (
  Adagrad,
  RowOptimizer,
  RowWiseAdagrad,
  SkipAwareAdam,
)
from recjax.models.dcn_v2 import DCNv2
from recjax.models.dlrm import DLRM
from recjax.models.sasrec import SASRec
from recjax.tasks.negative_sampling import NegativeSampling
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import SampledSoftmax
from recjax.tasks.ranking import NumericField, Ranking
from recjax.train import ahead
from recjax.train.layout import Layout
from recjax.train.topologies import parse_topology


@dataclasses.dataclass(frozen=True)
class Size:
  """Tables that fill a slice.

  Attributes:
    rows: of all tables.
    dim: of a row.
    optimizer: which remembers as much as fills the rest.
  """

  rows: int
  dim: int
  optimizer: RowOptimizer


# Rows of 4 dim bytes, with slots of 4, 4 dim and 8 dim bytes a row: 206 of 271
# GB on v5e:4x4, 2,048 of 2,147 on v6e:8x8, 6,144 of 6,579 on v5p:4x4x4.
SIZES = {
  "v5e:4x4": Size(400_000_000, 128, RowWiseAdagrad()),
  "v6e:8x8": Size(1_000_000_000, 256, Adagrad()),
  "v5p:4x4x4": Size(1_000_000_000, 512, SkipAwareAdam()),
}
SHARES = (0.5, 0.3, 0.15, 0.05)


def ranking(model, size, num_devices):
  fields = tuple(
    CategoricalField(f"c{place}", int(size.rows * share))
    for place, share in enumerate(SHARES)
  )
  rng = np.random.default_rng(0)
  columns = {
    field.name: rng.integers(1, field.num_ids, num_devices, np.int32)
    for field in fields
  }
  columns["x"] = rng.normal(size=(num_devices, 13)).astype(np.float32)
  columns["label"] = np.zeros(num_devices, np.float32)
  tables = TableSettings(optimizer=size.optimizer, sharding="row_wise")
  task = Ranking(model, fields, (NumericField("x", 13),), (("", tables),))
  return task, ExampleBatches(columns, batch_size=num_devices, seed=0)


def sasrec(size, num_devices):
  task = NextItem(
    SASRec(dim=size.dim, max_len=8, num_blocks=1),
    SampledSoftmax(NegativeSampling(num=4, exclude="none", shared=True)),
    size.rows - 1,
    micro_rows=num_devices,
    table_optimizer=size.optimizer,
    table_sharding="row_wise",
  )
  rng = np.random.default_rng(0)
  users = 2 * num_devices
  items = rng.integers(1, size.rows, 9 * users, np.int32)
  sequences = Ragged(items, np.arange(users + 1) * 9)
  return task, SequenceBatches(sequences, batch_size=users, max_len=8, seed=0)


MODELS = {
  "DLRM": lambda size, n: ranking(
    DLRM(dim=size.dim, bottom=(32,), top=(32,)), size, n
  ),
  "DCNv2": lambda size, n: ranking(
    DCNv2(dim=size.dim, num_cross_layers=1, hidden=(32,)), size, n
  ),
  "SASRec": sasrec,
}


def main(names):
  for name in names:
    size = SIZES[name]
    topology = parse_topology(name)
    for model in MODELS.values():

      def lower(mesh, model=model, size=size, topology=topology):
        task, batches = model(size, mesh.size)
        config = PlanConfig(memory_bytes=topology.generation.memory_bytes)
        layout = Layout(
          task, optax.adam(1e-3), batches, {}, config, jax.random.key(0)
        )
        return layout.lower(mesh)

      ahead.compile_all(lower, [name], model=2)


if __name__ == "__main__":
  main(sys.argv[1:])
