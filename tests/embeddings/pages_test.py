"""Tables in large pages are the same tables."""

import pathlib
import platform
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.embeddings.pages import use_large_pages

NUM_ROWS, DIM = 2**15, 64
BYTES = 4 * NUM_ROWS * DIM  # 8 MiB: whole pages of 2 MiB are in any of it.


@pytest.fixture
def table():
  return jax.random.normal(jax.random.key(0), (NUM_ROWS, DIM))


def _large_page_bytes():
  """Bytes of this process in large pages, as Linux counts them."""
  rollup = pathlib.Path("/proc/self/smaps_rollup")
  if not rollup.exists():
    return None
  line = next(x for x in rollup.read_text().splitlines() if "AnonHuge" in x)
  return 1024 * int(line.split()[1])


def _has_large_pages():
  """Whether this Linux gives them on request, as it does from 6.1 on."""
  setting = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
  if not setting.exists() or "[never]" in setting.read_text():
    return False
  release = platform.release().split(".")
  return (int(release[0]), int(re.match(r"\d+", release[1])[0])) >= (6, 1)


def test_values_and_addresses_stay(table):
  expected, address = np.array(table), table.unsafe_buffer_pointer()
  moved = use_large_pages({"item": table}, min_bytes=BYTES)
  # All but a part at each end; nothing where the system has no such pages.
  assert moved == 0 or BYTES - 2**22 < moved <= BYTES
  assert moved or not _has_large_pages()
  if moved and (counted := _large_page_bytes()) is not None:
    assert counted >= moved
  assert table.unsafe_buffer_pointer() == address
  np.testing.assert_array_equal(table, expected)
  update = jax.jit(lambda table: table.at[7].add(1.0), donate_argnums=0)
  np.testing.assert_allclose(update(table)[7], expected[7] + 1.0)


def test_small_arrays_are_left(table):
  assert use_large_pages([table], min_bytes=BYTES + 1) == 0
  assert use_large_pages([jnp.ones(3)], min_bytes=0) == 0


def test_every_piece_of_a_sharded_table(table):
  mesh = Mesh(np.array(jax.devices()[:2]), ("model",))
  cut = jax.device_put(table, NamedSharding(mesh, PartitionSpec("model")))
  expected = np.array(cut)
  assert use_large_pages(cut, min_bytes=BYTES) == 0  # Each has a half.
  moved = use_large_pages(cut, min_bytes=BYTES // 2)
  assert moved == 0 or BYTES - 2**23 < moved <= BYTES
  np.testing.assert_array_equal(cut, expected)
