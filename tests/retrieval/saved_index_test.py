import json

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from recjax.errors import ConfigError, DataError
from recjax.retrieval.exact_index import ExactIndexConfig
from recjax.retrieval.faiss_index import FaissConfig
from recjax.retrieval.index_files import MANIFEST
from recjax.retrieval.saved_index import load_index
from recjax.retrieval.scann_index import ScannConfig

CONFIGS = (
  ExactIndexConfig(block=128),
  ScannConfig(num_leaves=10, num_leaves_to_search=4, reorder=50),
  ScannConfig(brute_force=True),
  FaissConfig("hnsw"),
  FaissConfig("ivf_pq", num_lists=4, num_probes=2, pq_m=4, pq_bits=4),
)


@pytest.fixture(scope="module")
def items():
  rng = np.random.default_rng(0)
  return rng.standard_normal((300, 8), np.float32), np.arange(300) * 2 + 1


@pytest.fixture
def folder(items, tmp_path):
  index = ExactIndexConfig().make_index(checkpoint="run a, step 5")
  index.build(*items).save(tmp_path / "index")
  return tmp_path / "index"


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_what_is_loaded_finds_the_same(config, similarity, items, tmp_path):
  vectors, item_id = items
  index = config.make_index(similarity=similarity, checkpoint="step 5")
  index.build(vectors[:250], item_id[:250])
  index.add(vectors[250:280], item_id[250:280])
  index.save(tmp_path / "a")
  # A moved folder is a whole index still.
  (tmp_path / "a").rename(tmp_path / "b")
  loaded = load_index(
    tmp_path / "b",
    expected_checkpoint="step 5",
    expected_items=index.fingerprint,
  )
  assert type(loaded) is type(index) and loaded.config == config
  for name in ("similarity", "checkpoint", "fingerprint", "dim", "build_secs"):
    assert getattr(loaded, name) == getattr(index, name)
  assert loaded.memory_bytes == index.memory_bytes
  queries = vectors[:40] + 0.1
  for ours in (index, loaded):
    # Adding goes on where it ended.
    ours.add(vectors[280:], item_id[280:])
  for found, expected in zip(
    loaded.search(queries, k=7), index.search(queries, k=7), strict=True
  ):
    np.testing.assert_array_equal(found, expected)
  assert loaded.fingerprint == index.fingerprint


def test_the_manifest_says_what_is_in_it(folder, items):
  manifest = json.loads((folder / MANIFEST).read_text())
  assert manifest["kind"] == "exact"
  assert manifest["settings"] == {
    "block": 2048,
    "query_block": 512,
    "axis": "model",
  }
  assert (manifest["dim"], manifest["num_items"]) == (8, 300)
  assert manifest["versions"]["jax"] == jax.__version__
  assert set(manifest["files"]) == {"item_id.npy", "vectors.npy"}


def test_another_checkpoint_or_other_items_are_refused(folder):
  with pytest.raises(
    ConfigError, match="another checkpoint: from 'run a, step 5'.*'step 6'"
  ):
    load_index(folder, expected_checkpoint="step 6")
  with pytest.raises(ConfigError, match="another items"):
    load_index(folder, expected_items="0" * 64)


def test_a_truncated_file_is_named(folder):
  path = folder / "vectors.npy"
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(DataError, match="vectors.npy has .* truncated"):
    load_index(folder)


def change_manifest(folder, **changes):
  path = folder / MANIFEST
  path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_unknown_kind_or_setting_is_named(folder):
  change_manifest(folder, settings={"blocks": 3})
  with pytest.raises(DataError, match="does not know.*blocks"):
    load_index(folder)
  change_manifest(folder, kind="annoy")
  with pytest.raises(DataError, match="kind 'annoy'.*'exact', 'scann'"):
    load_index(folder)


def test_what_a_package_can_not_read_names_the_versions(folder):
  change_manifest(folder, kind="faiss", settings={"method": "flat"})
  with pytest.raises(DataError, match="can not be read.*'jax'.*'faiss'"):
    load_index(folder)


def test_an_exact_index_is_laid_out_over_another_mesh(folder, items):
  mesh = Mesh(np.array(jax.devices()), ("model",))
  vectors, item_id = items
  loaded = load_index(folder, mesh=mesh)
  _, found = loaded.search(vectors[:9], k=5)
  order = np.argsort(-(vectors[:9] @ vectors.T), axis=1)[:, :5]
  np.testing.assert_array_equal(found, item_id[order])
