import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from recjax.errors import ConfigError
from recjax.retrieval import exact_index
from recjax.retrieval.exact_index import ExactIndexConfig, chunk_size


def planted(num_items, dim=8, batch=20, seed=0):
  """Small integers: exact scores, heavy ties, settled by the lower id."""
  rng = np.random.default_rng(seed)
  vectors = rng.integers(-2, 3, (num_items, dim)).astype(np.float32)
  queries = rng.integers(-2, 3, (batch, dim)).astype(np.float32)
  item_id = rng.permutation(2 * num_items)[:num_items] + 1
  return vectors, item_id, queries


def brute_force(vectors, item_id, queries, k):
  scores = queries @ vectors.T
  order = np.lexsort((np.broadcast_to(item_id, scores.shape), -scores), axis=1)
  order = order[:, :k]
  return np.take_along_axis(scores, order, 1), item_id[order]


@pytest.mark.parametrize(
  ("num_items", "k", "block"),
  [
    (1, 1, 128),
    (50, 7, 2048),
    (300, 300, 128),
    (3001, 10, 256),  # Chunks of more than one item, and a last block.
    (4096, 1, 2048),
  ],
)
def test_agrees_with_sorting(num_items, k, block):
  vectors, item_id, queries = planted(num_items)
  index = ExactIndexConfig(block=block, query_block=8).make_index()
  index.build(vectors, item_id)
  scores, found = index.search(queries, k=k)
  expected = brute_force(vectors, item_id, queries, k)
  np.testing.assert_array_equal(found, expected[1])
  np.testing.assert_array_equal(scores, expected[0])
  assert (scores.dtype, found.dtype) == (np.float32, np.int32)


def test_negative_scores_are_not_beaten_by_what_fills_the_last_block():
  vectors, item_id, _ = planted(129)
  vectors = -np.abs(vectors) - 1
  index = ExactIndexConfig(block=128).make_index().build(vectors, item_id)
  queries = np.ones((3, 8), np.float32)
  scores, found = index.search(queries, k=129)
  np.testing.assert_array_equal(
    found, brute_force(vectors, item_id, queries, 129)[1]
  )
  assert scores.max() < 0


def test_no_queries():
  vectors, item_id, _ = planted(20)
  index = ExactIndexConfig().make_index().build(vectors, item_id)
  scores, found = index.search(np.zeros((0, 8), np.float32), k=3)
  assert scores.shape == found.shape == (0, 3)


def test_added_items_are_found_as_if_built_at_once():
  vectors, item_id, queries = planted(700)
  index = ExactIndexConfig().make_index().build(vectors[:400], item_id[:400])
  index.add(vectors[400:], item_id[400:])
  scores, found = index.search(queries, k=50)
  expected = brute_force(vectors, item_id, queries, 50)
  np.testing.assert_array_equal(found, expected[1])
  np.testing.assert_array_equal(scores, expected[0])
  assert index.num_items == 700


@pytest.mark.parametrize(
  ("num_items", "k"), [(5000, 10), (5000, 900), (1300, 20), (3, 2)]
)
def test_eight_devices_find_what_one_finds(num_items, k):
  vectors, item_id, queries = planted(num_items)
  mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
  config = ExactIndexConfig(block=128)
  index = config.make_index(mesh=mesh).build(vectors, item_id)
  scores, found = index.search(queries, k=k)
  expected = brute_force(vectors, item_id, queries, k)
  np.testing.assert_array_equal(found, expected[1])
  np.testing.assert_array_equal(scores, expected[0])
  assert index._blocks.sharding.spec == PartitionSpec("model")


def test_no_vectors_travel_between_devices():
  vectors, item_id, queries = planted(5000)
  mesh = Mesh(np.array(jax.devices()), ("model",))
  config = ExactIndexConfig(block=128)
  index = config.make_index(mesh=mesh).build(vectors, item_id)
  text = (
    exact_index._search.lower(
      index._blocks,
      queries,
      k=10,
      chunk=8,
      num_items=5000,
      mesh=mesh,
      axis="model",
    )
    .compile()
    .as_text()
  )
  collectives = [
    line
    for line in text.splitlines()
    if any(f" {name}" in line for name in ("all-", "collective-", "reduce-sc"))
  ]
  # 8 devices give 10 scores and 10 places for each of 20 queries.
  shapes = {line.split(" = ")[1].split("{")[0] for line in collectives}
  assert shapes == {"f32[20,80]", "s32[20,80]"}


def test_chunks_grow_with_the_square_root():
  assert [chunk_size(n, 100) for n in (128, 6400, 10**6, 10**9)] == [
    1,
    8,
    128,
    128,
  ]
  assert chunk_size(100_096, 100) == 32


def test_settings_are_checked():
  with pytest.raises(ConfigError, match="multiple of 128; got 300.* is 256"):
    ExactIndexConfig(block=300)
  with pytest.raises(ConfigError, match="query_block must lie in"):
    ExactIndexConfig(query_block=0)
  mesh = Mesh(np.array(jax.devices()), ("data",))
  with pytest.raises(ConfigError, match="one of .'data'.; got 'model'"):
    ExactIndexConfig().make_index(mesh=mesh)
