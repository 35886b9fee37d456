"""Features of both sides: names, tables they share, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.errors import ConfigError
from recjax.tasks.ranking import NumericField
from recjax.tasks.sides import (
  Side,
  features_of,
  make_side_collections,
  tower_inputs,
)

ITEM = Side(
  (
    CategoricalField("item_id", 9),
    CategoricalField("genres", 5, combiner="mean", weights="shares"),
    CategoricalField("title", 7),
  ),
  tokens=("title",),
  vectors=(NumericField("image", 3),),
)
USER = Side((CategoricalField("user_id", 4),), numbers=("age",))
SIDES = {"user": USER, "item": ITEM}


def collections(**changes):
  settings = {
    "embedding_dim": 8,
    "feature_dims": {"genres": 2},
    "settings": {"": TableSettings()},
  }
  return make_side_collections(SIDES, ("item_id",), **(settings | changes))


def test_names_hold_the_weights_of_lists():
  assert ITEM.names == ("item_id", "genres", "title", "shares", "image")


def test_a_history_reads_the_tables_of_items():
  dense, sparse, outputs = collections()
  assert not sparse.tables
  dims = {table.name: table.dim for table in dense.tables}
  assert dims == {
    "user/user/user_id": 8,
    "item/item/item_id": 8,
    "item_2/item/genres": 2,
    "item/item/title": 8,
  }
  tables = {lookup.feature: lookup.table for lookup in dense.lookups}
  assert tables["history/item_id"] == tables["item/item_id"]
  assert outputs["item/genres"] == "item_2/item/genres"


def test_a_summed_history_becomes_the_mean_of_all_its_items():
  outputs = collections(sum_history=True)
  combiners = {lookup.feature: lookup.combiner for lookup in outputs[0].lookups}
  assert combiners["history/item_id"] == "sum"
  assert combiners["item/item_id"] == "none"
  side = Side(numbers=("age",))
  where = jnp.array([[True, True, False], [False, False, False]])
  inputs = tower_inputs(
    {"user": side},
    {"history/item_id": jnp.array([[6.0], [0.0]])},
    {"user/age": jnp.zeros(2), "history/where": where},
    history=("item_id",),
  )
  np.testing.assert_array_equal(inputs.history, [[3.0], [0.0]])


def test_features_of_ids_of_any_shape():
  constants = {"item/image": jnp.arange(12.0).reshape(4, 3)}
  ids = jnp.array([[1, 3], [0, 2]])
  found = features_of(("image",), "item", constants, ids, prefix="history")
  np.testing.assert_array_equal(
    found["history/image"][0, 1], constants["item/image"][3]
  )
  assert found["history/image"].shape == (2, 2, 3)


def test_items_of_a_row_become_rows_of_the_tower():
  embeddings = {
    "item/item_id": jnp.ones((2, 3, 8)),
    "item/genres": jnp.ones((2, 3, 2)),
    "item/title": jnp.ones((2, 3, 5, 8)),
  }
  examples = {
    "item/item_id": jnp.ones((2, 3), jnp.int32),
    "item/genres": jnp.ones((2, 3, 4), jnp.int32),
    "item/title": jnp.ones((2, 3, 5), jnp.int32).at[0, 1, 4].set(0),
    "item/image": jnp.ones((2, 3, 3)),
  }
  inputs = tower_inputs({"item": ITEM}, embeddings, examples)
  assert inputs.fields["item/item_id"].shape == (6, 8)
  assert inputs.modalities["image"].shape == (6, 3)
  rows, where = inputs.tokens["title"]
  assert rows.shape == (6, 5, 8)
  np.testing.assert_array_equal(where.sum(axis=1), [5, 4, 5, 5, 5, 5])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"feature_dims": {"genre": 2}}, "Did you mean 'genres'"),
    ({"settings": {"items": TableSettings()}}, "Did you mean 'item'"),
    ({"settings": {"item": TableSettings()}}, "no table settings.*'user'"),
  ],
)
def test_settings_of_what_is_not_there(changes, message):
  with pytest.raises(ConfigError, match=message):
    collections(**changes)


@pytest.mark.parametrize("name", ["genres", "title"])
def test_a_history_reads_single_ids(name):
  with pytest.raises(ConfigError, match=f"'{name}' has several"):
    make_side_collections(
      SIDES,
      (name,),
      embedding_dim=8,
      feature_dims={},
      settings={"": TableSettings()},
    )
