import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.retrieval.exact_index import ExactIndexConfig
from recjax.retrieval.faiss_index import FaissConfig
from recjax.retrieval.index_inputs import items_fingerprint
from recjax.retrieval.scann_index import ScannConfig

# Every item is looked at, so that all kinds find the same.
CONFIGS = {
  "exact": ExactIndexConfig(block=128),
  "scann": ScannConfig(
    num_leaves=10, num_leaves_to_search=10, reorder=400, training_threads=1
  ),
  "scann_brute_force": ScannConfig(brute_force=True),
  "flat": FaissConfig("flat"),
  "hnsw": FaissConfig("hnsw", ef_search=600),
  "ivf_flat": FaissConfig("ivf_flat", num_lists=10, num_probes=10),
  "ivf_pq": FaissConfig(
    "ivf_pq", num_lists=4, num_probes=4, pq_m=4, pq_bits=4, reorder=400
  ),
}
NUM_ITEMS, DIM, K = 400, 8, 10


@pytest.fixture(scope="module")
def items():
  rng = np.random.default_rng(0)
  vectors = rng.standard_normal((NUM_ITEMS, DIM)).astype(np.float32)
  item_id = (rng.permutation(2 * NUM_ITEMS)[:NUM_ITEMS] + 1).astype(np.int32)
  return vectors, item_id


@pytest.fixture(scope="module")
def queries():
  rng = np.random.default_rng(1)
  return rng.standard_normal((12, DIM)).astype(np.float32)


@pytest.fixture(scope="module", params=CONFIGS)
def index(request, items):
  return CONFIGS[request.param].make_index(checkpoint="step 7").build(*items)


def nearest(scores, item_id, k, excluded=None):
  """Sorts all scores of each row, without the excluded ids."""
  found = []
  for row, values in enumerate(scores):
    out = set() if excluded is None else set(excluded[row].tolist())
    pairs = [(-v, i) for v, i in zip(values, item_id) if i not in out]
    found.append(sorted(pairs)[:k])
  values = [[-v for v, _ in row] for row in found]
  return np.array(values), np.array([[i for _, i in row] for row in found])


def test_the_nearest_are_found(index, items, queries):
  vectors, item_id = items
  scores, found = index.search(queries, k=K)
  expected = nearest(queries @ vectors.T, item_id, K)
  np.testing.assert_array_equal(found, expected[1])
  np.testing.assert_allclose(scores, expected[0], rtol=1e-5)
  assert (scores.dtype, found.dtype) == (np.float32, np.int32)


def test_excluded_items_are_not_found(index, items, queries):
  vectors, item_id = items
  rng = np.random.default_rng(2)
  _, best = index.search(queries, k=40)
  # Some rows lose their best items, one loses none, one nearly all.
  excluded = np.where(rng.random(best.shape) < 0.5, best, 0)
  excluded[3] = 0
  scores, found = index.search(queries, k=K, excluded=excluded)
  expected = nearest(queries @ vectors.T, item_id, K, excluded)
  np.testing.assert_array_equal(found, expected[1])
  np.testing.assert_allclose(scores, expected[0], rtol=1e-5)
  every = np.broadcast_to(np.setdiff1d(item_id, item_id[:4]), (12, 396))
  scores, found = index.search(queries, k=K, excluded=every)
  order = np.argsort(-(queries @ vectors[:4].T), axis=1)
  np.testing.assert_array_equal(found[:, :4], item_id[:4][order])
  assert (found[:, 4:] == 0).all() and np.isneginf(scores[:, 4:]).all()


def test_interests_score_by_the_maximum(index, items):
  vectors, item_id = items
  rng = np.random.default_rng(3)
  queries = rng.standard_normal((6, 3, DIM)).astype(np.float32)
  queries[:, 2] = queries[:, 1] * 0.9  # Finds the same items again.
  excluded = item_id[rng.integers(NUM_ITEMS, size=(6, 30))]
  table = np.einsum("bkd,id->bki", queries, vectors).max(1)
  for out in (None, excluded):
    scores, found = index.search(queries, k=K, excluded=out)
    expected = nearest(table, item_id, K, out)
    np.testing.assert_array_equal(found, expected[1])
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_cosine_is_of_normalized_vectors(name, items, queries):
  vectors, item_id = items
  lengths = np.exp(np.linspace(-2, 2, NUM_ITEMS))[:, None].astype(np.float32)
  index = CONFIGS[name].make_index(similarity="cosine")
  index.build(vectors * lengths, item_id)
  unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
  scores, found = index.search(3 * queries, k=K)
  expected = nearest(unit(queries) @ unit(vectors).T, item_id, K)
  np.testing.assert_array_equal(found, expected[1])
  np.testing.assert_allclose(scores, expected[0], rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_cosine_of_very_small_and_very_large_vectors(scale, items, queries):
  vectors, item_id = items
  make = lambda: ExactIndexConfig().make_index(similarity="cosine")
  scores, found = make().build(vectors, item_id).search(queries, k=K)
  index = make().build(vectors * np.float32(scale), item_id)
  scaled = index.search(queries * np.float32(scale), k=K)
  np.testing.assert_array_equal(scaled[1], found)
  np.testing.assert_allclose(scaled[0], scores, rtol=1e-5)


@pytest.mark.parametrize(
  "config",
  [
    ScannConfig(
      num_leaves=20, num_leaves_to_search=4, reorder=20, training_threads=1
    ),
    FaissConfig("ivf_flat", num_lists=20, num_probes=4),
  ],
  ids=lambda config: config.kind,
)
def test_longer_lists_for_excluded_items_are_as_near(config, items, queries):
  """Lists without their best items are found as well as others are."""
  vectors, item_id = items
  exact = ExactIndexConfig().make_index().build(vectors, item_id)
  index = config.make_index().build(vectors, item_id)
  _, best = exact.search(queries, k=3 * K)

  def recall(excluded):
    found = index.search(queries, k=K, excluded=excluded)[1]
    right = exact.search(queries, k=K, excluded=excluded)[1]
    return np.mean([np.isin(a, b).mean() for a, b in zip(found, right)])

  assert recall(best) >= recall(None) - 0.02


@pytest.mark.parametrize("name", CONFIGS)
def test_added_items_are_found(name, items, queries):
  vectors, item_id = items
  index = CONFIGS[name].make_index().build(vectors[:300], item_id[:300])
  before = index.fingerprint
  index.add(vectors[300:], item_id[300:])
  assert index.num_items == NUM_ITEMS
  _, found = index.search(queries, k=K)
  expected = nearest(queries @ vectors.T, item_id, K)
  np.testing.assert_array_equal(found, expected[1])
  chain = items_fingerprint(vectors[300:], item_id[300:], after=before)
  assert index.fingerprint == chain
  with pytest.raises(DataError, match="in the index already"):
    index.add(vectors[:1], item_id[:1])


def test_equal_scores_go_to_the_lower_id(queries):
  vectors = np.repeat(queries[:2], 3, axis=0)
  ids = np.array([9, 2, 7, 4, 8, 1])
  for name in ("exact", "flat", "scann_brute_force"):
    index = CONFIGS[name].make_index().build(vectors, ids)
    _, found = index.search(queries[:1], k=6)
    first = queries[0] @ queries[0] > queries[0] @ queries[1]
    groups = [[2, 7, 9], [1, 4, 8]]
    assert found[0].tolist() == sum(groups if first else groups[::-1], [])


def test_an_index_knows_what_it_is(index, items):
  assert index.checkpoint == "step 7"
  assert index.fingerprint == items_fingerprint(*items)
  assert (index.num_items, index.dim) == (NUM_ITEMS, DIM)
  assert index.build_secs > 0
  # The vectors themselves, and no more than the 64 links of a graph besides.
  low, high = 4 * NUM_ITEMS * DIM, NUM_ITEMS * (4 * DIM + 4 * 64 + 32)
  assert low <= index.memory_bytes <= high


def test_bad_input_is_named(index, queries):
  with pytest.raises(ConfigError, match=r"k must lie in \[1, 400\]; got 0"):
    index.search(queries, k=0)
  with pytest.raises(ConfigError, match=r"\[1, 400\]; got 401"):
    index.search(queries, k=401)
  with pytest.raises(DataError, match=r"\[batch, 8\].*shape \[12, 5\]"):
    index.search(queries[:, :5], k=1)
  with pytest.raises(DataError, match="row 2 holds nan"):
    index.search(np.where(np.arange(12)[:, None] == 2, np.nan, queries), k=1)
  with pytest.raises(DataError, match="one row a query"):
    index.search(queries, k=1, excluded=np.zeros((3, 1), int))


@pytest.mark.parametrize("name", CONFIGS)
def test_an_empty_index_says_so(name, queries, tmp_path):
  index = CONFIGS[name].make_index()
  for call in (
    lambda: index.search(queries, k=1),
    lambda: index.add(queries, np.arange(1, 13)),
    lambda: index.save(tmp_path / "index"),
  ):
    with pytest.raises(DataError, match="is empty: call build"):
      call()
  assert not (tmp_path / "index").exists()


def test_settings_of_the_search_change_without_a_build(index, items):
  fields = index.config.search_fields
  settings = {name: getattr(index.config, name) for name in fields}
  other = index.retuned(**settings)
  assert other.config == index.config and other.item_id is index.item_id
  with pytest.raises(ConfigError, match="no_such can not change in a built"):
    index.retuned(no_such=1)


def test_similarity_is_checked():
  with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
    ExactIndexConfig().make_index(similarity="cosin")
