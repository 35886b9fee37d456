"""Collections against plain indexing, and against dense tables and optax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.compression import Hashing, QuotientRemainder
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.row_optimizers import SGD, Adagrad
from recjax.embeddings.rows import PADDING_ROW
from recjax.embeddings.tables import TableSpec
from recjax.errors import ConfigError, DataError

DIM, BATCH, LEN, NUM_ITEMS, NUM_USERS = 4, 6, 5, 30, 20
ADAGRAD = Adagrad(learning_rate=0.2)
ITEM = TableSpec("item", NUM_ITEMS, DIM, optimizer=ADAGRAD)
USER = TableSpec("user", NUM_USERS, DIM, optimizer=ADAGRAD)
LOOKUPS = (
  Lookup("item", "item"),
  Lookup("user", "user"),
  Lookup("basket", "item", combiner="mean", weights="amounts"),
  Lookup("friends", "user", combiner="sqrtn"),
  Lookup("basket", "item", name="sequence"),
  Lookup("basket", "item", combiner="sum", name="basket_sum"),
)


def _batch(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda high, *shape: rng.integers(0, high, shape).astype(np.int32)
  batch = {
    "item": draw(NUM_ITEMS, BATCH),
    "user": draw(NUM_USERS, BATCH),
    "basket": draw(NUM_ITEMS, BATCH, LEN),
    "friends": draw(NUM_USERS, BATCH, 3),
    "amounts": rng.uniform(0.5, 2.0, (BATCH, LEN)).astype(np.float32),
  }
  batch["basket"][:, 3] = batch["basket"][:, 1]  # The same id in a list.
  batch["basket"][1], batch["item"][2] = 0, 0
  return batch


def _combined(rows, ids, weights, combiner):
  weights = np.where(ids > 0, weights, 0.0)
  total = np.einsum("bl,bld->bd", weights, rows)
  size = {
    "sum": np.ones(len(ids)),
    "mean": weights.sum(1),
    "sqrtn": np.sqrt((weights**2).sum(1)),
  }[combiner]
  return total / np.where(size > 0, size, 1.0)[:, None]


def _reference(item, user, batch):
  """The embeddings by plain indexing; row 0 of both tables is zero."""
  ids, friends = batch["basket"], batch["friends"]
  ones = np.ones(ids.shape)
  return {
    "item": item[batch["item"]],
    "user": user[batch["user"]],
    "basket": _combined(item[ids], ids, batch["amounts"], "mean"),
    "friends": _combined(user[friends], friends, ones[:, :3], "sqrtn"),
    "sequence": item[ids],
    "basket_sum": _combined(item[ids], ids, ones, "sum"),
  }


def _embed(collection, tables, batch):
  @jax.jit
  def embed(tables, batch):
    routes = collection.routes(batch)
    return collection.embed(collection.gather(tables, routes), batch)

  return embed(tables, batch)


def _loss(embeddings):
  """Something with another gradient at each place."""
  return sum(
    jnp.sum(
      jnp.sin(embedding + jnp.arange(embedding.size).reshape(embedding.shape))
    )
    for embedding in embeddings.values()
  )


def _train(collection, batches):
  """Tables and slots after a step on each batch."""

  @jax.jit
  def step(tables, slots, batch, count):
    routes = collection.routes(batch)
    rows = collection.gather(tables, routes)
    grads = jax.grad(lambda rows: _loss(collection.embed(rows, batch)))(rows)
    return collection.update(tables, slots, routes, grads, count, rows)

  tables = collection.init(jax.random.key(0))
  slots = collection.init_slots()
  for count, batch in enumerate(batches):
    batch = jax.tree.map(jnp.asarray, batch)
    tables, slots = step(tables, slots, batch, jnp.int32(count))
  return tables, slots


@pytest.fixture(params=["", "all"], ids=["apart", "stacked"])
def collection(request):
  tables = (
    dataclasses.replace(ITEM, stack=request.param),
    dataclasses.replace(USER, stack=request.param),
  )
  return EmbeddingCollection(tables, LOOKUPS)


def _by_table(collection, arrays):
  """The rows of each table, wherever they lie."""
  return {
    spec.name: np.asarray(arrays[name])[start : start + spec.ids_rows]
    for name, layout in collection.arrays.items()
    for spec, start in zip(layout.tables, layout.starts, strict=True)
  }


def test_embeddings_are_rows_combined(collection):
  tables, batch = collection.init(jax.random.key(0)), _batch()
  embeddings = _embed(collection, tables, jax.tree.map(jnp.asarray, batch))
  expected = _reference(batch=batch, **_by_table(collection, tables))
  assert set(embeddings) == set(expected)
  for name, embedding in embeddings.items():
    np.testing.assert_allclose(
      embedding, expected[name], atol=1e-6, err_msg=name
    )


@pytest.mark.parametrize("compression", [None, Hashing(7, 2)])
def test_a_lookup_is_all_steps_in_one(collection, compression):
  tables = tuple(
    dataclasses.replace(spec, compression=compression)
    for spec in collection.tables
  )
  collection = EmbeddingCollection(tables, LOOKUPS)
  arrays = collection.init(jax.random.key(0))
  batch = jax.tree.map(jnp.asarray, _batch())
  steps = _embed(collection, arrays, batch)
  at_once = jax.jit(collection.lookup)(arrays, batch)
  assert set(at_once) == set(steps)
  for name, embedding in steps.items():
    np.testing.assert_allclose(at_once[name], embedding, atol=1e-6)
  found = jax.grad(lambda arrays: _loss(collection.lookup(arrays, batch)))
  expected = jax.grad(lambda arrays: _loss(_embed(collection, arrays, batch)))
  found = jax.jit(found)(arrays)
  for name, gradient in jax.jit(expected)(arrays).items():
    np.testing.assert_allclose(found[name], gradient, atol=1e-5)


def test_many_steps_equal_optax_on_dense_tables():
  """With features that share a table, lists, weights and repeated ids."""
  collection = EmbeddingCollection((ITEM, USER), LOOKUPS)
  batches = [_batch(seed) for seed in range(8)]
  dense = _by_table(collection, collection.init(jax.random.key(0)))
  optimizer = optax.adagrad(0.2)
  state = optimizer.init(dense)

  @jax.jit
  def step(dense, state, batch):
    def loss(dense):
      # Row 0 is no parameter.
      masked = {name: rows.at[0].set(0.0) for name, rows in dense.items()}
      return _loss(_jax_reference(batch=batch, **masked))

    updates, state = optimizer.update(jax.grad(loss)(dense), state)
    return optax.apply_updates(dense, updates), state

  dense = jax.tree.map(jnp.asarray, dense)
  for batch in batches:
    dense, state = step(dense, state, jax.tree.map(jnp.asarray, batch))
  trained = _by_table(collection, _train(collection, batches)[0])
  for name, rows in trained.items():
    np.testing.assert_allclose(rows, dense[name], atol=2e-5, err_msg=name)
    np.testing.assert_array_equal(rows[0], np.zeros(DIM))


def _jax_reference(item, user, batch):
  """`_reference`, to be differentiated."""
  ids, friends = batch["basket"], batch["friends"]

  def total(rows, ids, weights, norm):
    weights = jnp.where(ids > 0, weights, 0.0)
    size = norm(weights)
    summed = jnp.sum(weights[..., None] * rows, axis=1)
    return summed / jnp.where(size > 0, size, 1.0)[:, None]

  return {
    "item": item[batch["item"]],
    "user": user[batch["user"]],
    "basket": total(item[ids], ids, batch["amounts"], lambda w: w.sum(1)),
    "friends": total(
      user[friends], friends, 1.0, lambda w: jnp.sqrt((w**2).sum(1))
    ),
    "sequence": item[ids],
    "basket_sum": total(item[ids], ids, 1.0, lambda w: jnp.ones(len(w))),
  }


def test_a_stack_is_its_tables_one_after_the_other():
  stacked = EmbeddingCollection(
    tuple(dataclasses.replace(spec, stack="all") for spec in (ITEM, USER)),
    LOOKUPS,
  )
  apart = EmbeddingCollection((ITEM, USER), LOOKUPS)
  assert list(stacked.arrays) == ["all"] and list(apart.arrays) == [
    "item",
    "user",
  ]
  # Rounded up once: 30 + 20 rows, not 128 each.
  assert stacked.init(jax.random.key(0))["all"].shape == (128, DIM)
  batches = [_batch(seed) for seed in range(3)]
  (tables, slots), (tables2, slots2) = (
    _train(collection, batches) for collection in (stacked, apart)
  )
  # Sums of the same gradients, in another order.
  for one, two in (
    (_by_table(stacked, tables), _by_table(apart, tables2)),
    tuple(
      _by_table(c, {name: slot["sum_squares"] for name, slot in s.items()})
      for c, s in ((stacked, slots), (apart, slots2))
    ),
  ):
    for name in one:
      np.testing.assert_allclose(one[name], two[name], atol=1e-6)


@pytest.mark.parametrize("stack", ["", "all"])
def test_ids_outside_a_table_are_padding(stack):
  """They read nothing, train nothing, and no mean counts them."""
  tables = tuple(dataclasses.replace(s, stack=stack) for s in (ITEM, USER))
  lookups = (
    Lookup("item", "item"),
    Lookup("basket", "item", combiner="mean"),
    Lookup("user", "user"),
  )
  collection = EmbeddingCollection(tables, lookups)
  batch = {
    "item": np.array([NUM_ITEMS, -1, 0], np.int32),
    "basket": np.array([[3, NUM_ITEMS + 2, 0]] * 3, np.int32),
    "user": np.array([0, -5, 2**31 - 1], np.int32),
  }
  arrays = collection.init(jax.random.key(0))
  before = _by_table(collection, arrays)
  embeddings = _embed(collection, arrays, jax.tree.map(jnp.asarray, batch))
  np.testing.assert_array_equal(embeddings["item"], np.zeros((3, DIM)))
  np.testing.assert_array_equal(embeddings["user"], np.zeros((3, DIM)))
  np.testing.assert_allclose(
    embeddings["basket"], np.tile(before["item"][3], (3, 1)), rtol=1e-6
  )
  after = _by_table(collection, _train(collection, [batch])[0])
  moved = {name: np.any(after[name] != before[name], axis=1) for name in after}
  np.testing.assert_array_equal(np.flatnonzero(moved["item"]), [3])
  assert not np.any(moved["user"])


def test_routes_of_padding():
  collection = EmbeddingCollection((ITEM,), (Lookup("item", "item"),))
  routes = collection.routes({"item": jnp.array([4, 0, NUM_ITEMS, -3])})
  np.testing.assert_array_equal(routes["item"], [4] + [PADDING_ROW] * 3)


@pytest.mark.parametrize(
  "compression",
  [
    QuotientRemainder(4),
    Hashing(7, num_hashes=3, seed=2),
  ],
  ids=["quotient-remainder", "three hashes"],
)
def test_compressed_tables(compression):
  """Looked up and trained as the rows that make an id."""
  spec = TableSpec(
    "item", 30, DIM, optimizer=SGD(learning_rate=0.1), compression=compression
  )
  lookups = Lookup("item", "item"), Lookup("basket", "item", combiner="sum")
  collection = EmbeddingCollection((spec,), lookups)
  batch = {
    name: np.where(ids < 30, ids, 1)
    for name, ids in _batch().items()
    if name in ("item", "basket")
  }
  arrays = collection.init(jax.random.key(0))
  table = np.asarray(arrays["item"])

  parts_of = {
    name: np.asarray(compression.rows(jnp.asarray(ids)))
    for name, ids in batch.items()
  }

  def reference(table):
    product = getattr(compression, "operation", "add") == "multiply"
    out = {}
    for name, ids in batch.items():
      parts = table[parts_of[name]]
      out[name] = parts.prod(-2) if product else parts.sum(-2)
      out[name] = out[name] * (ids > 0)[..., None]
    return out | {"basket": out["basket"].sum(1)}

  embeddings = _embed(collection, arrays, jax.tree.map(jnp.asarray, batch))
  for name, expected in reference(table).items():
    np.testing.assert_allclose(embeddings[name], expected, atol=1e-6)

  def loss(table):
    return _loss(reference(table))

  trained = _train(collection, [batch])[0]["item"]
  gradient = jax.jit(jax.grad(loss))(jnp.asarray(table))
  np.testing.assert_allclose(trained, table - 0.1 * gradient, atol=1e-5)


def test_dense_tables_are_differentiated_as_a_whole():
  spec = dataclasses.replace(ITEM, optimizer=None)
  collection = EmbeddingCollection((spec, USER), LOOKUPS)
  assert not collection.is_sparse("item") and collection.is_sparse("user")
  assert set(collection.init_slots()) == {"user"}
  tables, batch = collection.init(jax.random.key(0)), _batch()
  arrays = jax.tree.map(jnp.asarray, batch)

  def loss(item):
    return _loss(_embed(collection, tables | {"item": item}, arrays))

  def reference(item):
    rows = {"user": tables["user"], "item": item.at[0].set(0.0)}
    return _loss(_jax_reference(batch=arrays, **rows))

  np.testing.assert_allclose(
    jax.jit(jax.grad(loss))(tables["item"]),
    jax.jit(jax.grad(reference))(tables["item"]),
    atol=1e-5,
  )


def test_bfloat16_tables_are_looked_up_as_float32():
  spec = dataclasses.replace(ITEM, dtype="bfloat16")
  collection = EmbeddingCollection((spec,), (Lookup("item", "item"),))
  tables, slots = _train(collection, [{"item": np.arange(6, dtype=np.int32)}])
  assert tables["item"].dtype == jnp.bfloat16
  assert slots["item"]["sum_squares"].dtype == jnp.float32
  rows = _embed(collection, tables, {"item": jnp.array([3])})["item"]
  assert rows.dtype == jnp.float32
  np.testing.assert_array_equal(rows[0], np.asarray(tables["item"][3]))


def test_max_norm_is_that_of_the_table():
  spec = dataclasses.replace(ITEM, max_norm=0.01)
  collection = EmbeddingCollection((spec,), (Lookup("item", "item"),))
  tables, _ = _train(collection, [{"item": np.array([5], np.int32)}])
  norms = np.linalg.norm(tables["item"][1:NUM_ITEMS], axis=1)
  assert norms[4] == pytest.approx(0.01) and np.delete(norms, 4).min() > 0.05


def test_gradients_are_not_padded_to_all_lookups():
  """Each lookup's gradient is put in its place, not added to zeros."""
  names = [f"feature_{number}" for number in range(8)]
  collection = EmbeddingCollection(
    (ITEM,), tuple(Lookup(name, "item") for name in names)
  )
  batch = {name: jnp.ones((BATCH,), jnp.int32) for name in names}
  rows = {"item": jnp.ones((8 * BATCH, DIM))}
  gradient = jax.make_jaxpr(
    jax.grad(lambda rows: _loss(collection.embed(rows, batch)))
  )(rows)
  operations = {equation.primitive.name for equation in gradient.eqns}
  assert "split" in operations and not operations & {"pad", "scatter-add"}


@pytest.mark.parametrize(
  "ids,message",
  [
    (
      {"item": [1, 30]},
      r"'item' must lie in \[0, 29\], the ids of the table 'item'; got 30 at"
      r" \[1\], and 1 outside in all",
    ),
    ({"item": [-1, 3]}, r"got -1 at \[0\]"),
    ({"basket": [[1, 2], [3, 99]]}, r"'basket' .* got 99 at \[1, 1\]"),
  ],
)
def test_ids_outside_are_told_on_the_host(ids, message):
  lookups = Lookup("item", "item"), Lookup("basket", "item", combiner="sum")
  collection = EmbeddingCollection((ITEM,), lookups)
  good = {"item": np.array([0, 29]), "basket": np.array([[0, 29], [1, 2]])}
  collection.check_ids(good)
  with pytest.raises(DataError, match=message):
    collection.check_ids(good | jax.tree.map(np.array, ids, is_leaf=_is_list))


def _is_list(node):
  return isinstance(node, list)


_stacked = dataclasses.replace(USER, stack="all")


@pytest.mark.parametrize(
  "make,message",
  [
    (
      lambda: EmbeddingCollection((ITEM, ITEM), (Lookup("a", "item"),)),
      "tables must have different names; got item more than once",
    ),
    (
      lambda: EmbeddingCollection((ITEM,), (Lookup("a", "item"),) * 2),
      "lookups must have different names; got a more than once",
    ),
    (
      lambda: EmbeddingCollection((ITEM,), (Lookup("a", "itm"),)),
      r"Lookup\('a'\).table must be one of 'item'.* Did you mean 'item'",
    ),
    (
      lambda: EmbeddingCollection((ITEM, USER), (Lookup("a", "item"),)),
      "no feature reads the tables user",
    ),
    (
      lambda: EmbeddingCollection(
        (ITEM, dataclasses.replace(USER, stack="item")),
        (Lookup("a", "item"), Lookup("b", "user")),
      ),
      r"TableSpec\('user'\).stack must not be the name of a table",
    ),
  ],
)
def test_bad_collections_name_the_rule(make, message):
  with pytest.raises(ConfigError, match=message):
    make()
