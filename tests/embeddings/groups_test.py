import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.compression import Hashing
from recjax.embeddings.groups import (
  CategoricalField,
  TableSettings,
  fields_of,
  make_collections,
  stack_fields,
)
from recjax.embeddings.row_optimizers import Adagrad
from recjax.errors import ConfigError

FIELDS = (
  CategoricalField("user", 20),
  CategoricalField("cross", 5000, groups=("linear",)),
  CategoricalField("item", 30),
)
GROUPS = {"linear": 1, "embedding": 4}


def test_each_group_has_a_table_of_each_of_its_fields():
  dense, sparse = make_collections(
    GROUPS,
    FIELDS,
    {"": TableSettings(), "linear": TableSettings(optimizer=Adagrad())},
  )
  assert [spec.name for spec in dense.tables] == [
    "embedding/user",
    "embedding/item",
  ]
  assert [spec.name for spec in sparse.tables] == [
    "linear/user",
    "linear/cross",
    "linear/item",
  ]
  assert set(dense.arrays) == {"embedding"} and set(sparse.arrays) == {"linear"}
  assert {spec.dim for spec in dense.tables} == {4}
  assert [f.name for f in fields_of("embedding", FIELDS)] == ["user", "item"]


def test_fields_are_stacked_in_their_order():
  dense, _ = make_collections(GROUPS, FIELDS, {"": TableSettings()})
  batch = {name: jnp.array([1, 2], jnp.int32) for name in ("user", "cross")}
  batch["item"] = jnp.array([3, 0], jnp.int32)
  tables = dense.init(jax.random.key(0))
  rows = dense.gather(tables, dense.routes(batch))
  embeddings = dense.embed(rows, batch)
  stacked = stack_fields(embeddings, "embedding", FIELDS)
  table = np.asarray(tables["embedding"])
  expected = [[table[1], table[20 + 3]], [table[2], np.zeros(4)]]
  np.testing.assert_array_equal(stacked, expected)
  assert stack_fields(embeddings, "linear", FIELDS).shape == (2, 3, 1)


def test_large_tables_alone_are_compressed():
  settings = TableSettings(compression=Hashing(100), compress_from=1000)
  dense, _ = make_collections(GROUPS, FIELDS, {"": settings})
  rows = {spec.name: spec.ids_rows for spec in dense.tables}
  assert rows["linear/cross"] == 101 and rows["linear/item"] == 30


def test_settings_of_no_group_are_refused():
  with pytest.raises(ConfigError, match="Did you mean 'linear'"):
    make_collections(GROUPS, FIELDS, {"linar": TableSettings()})
  with pytest.raises(ConfigError, match="no table settings for the group"):
    make_collections(GROUPS, FIELDS, {"linear": TableSettings()})
