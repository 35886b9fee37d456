import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.draws import can_draw, draw_piece
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.tables import INITIALIZERS, TableSpec

DIM = 12


def collection(dtype="float32", num_ids=300):
  specs = tuple(
    TableSpec(name, num_ids + place, DIM, name, 0.3, dtype=dtype, stack="s")
    for place, name in enumerate(INITIALIZERS)
  )
  return EmbeddingCollection(
    specs, tuple(Lookup(spec.name, spec.name) for spec in specs)
  )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pieces_are_those_of_whole_tables(dtype, monkeypatch):
  # Blocks of a few rows, the last of them not whole.
  monkeypatch.setattr("recjax.embeddings.draws._BLOCK_ELEMENTS", 500)
  tables = collection(dtype)
  key = jax.random.key(5)
  whole = np.asarray(tables.init(key)["s"])
  assert whole.shape == (1280, DIM)
  names = [spec.name for spec in tables.tables]
  keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
  draw = jax.jit(
    functools.partial(
      draw_piece, tables.arrays["s"], keys, num_rows=700, num_columns=8
    )
  )
  for row, column in ((0, 0), (250, 4), (580, 3)):
    found = np.asarray(draw(jnp.int32(row), jnp.int32(column)))
    assert found.dtype == whole.dtype and found.shape == (700, 8)
    np.testing.assert_allclose(
      found.astype(np.float32),
      whole[row : row + 700, column : column + 8].astype(np.float32),
      rtol=1e-6 if dtype == "float32" else 1e-2,
      atol=1e-7,
    )


def test_places_past_32_bits_are_drawn():
  # JAX draws element i from the two words of i; here i passes 2^32.
  first = 2**32 // DIM - 2
  spec = TableSpec("t", 500_000_000, DIM, "uniform")
  tables = EmbeddingCollection((spec,), (Lookup("t", "t"),))
  (key,) = jax.random.split(jax.random.key(1), 1)
  draw = functools.partial(
    draw_piece, tables.arrays["t"], {"t": key}, num_rows=8, num_columns=DIM
  )
  found = np.asarray(jax.jit(draw)(jnp.int32(first), jnp.int32(0)))
  place = (first * DIM + np.arange(8 * DIM, dtype=np.uint64)).reshape(8, DIM)
  words = [
    threefry(np.asarray(jax.random.key_data(key)), int(i) >> 32, int(i) % 2**32)
    for i in place.reshape(-1)
  ]
  uniform = (np.array(words, np.uint32) >> 9).astype(np.float32) * 2.0**-23
  bound = np.float32(500_000_000**-0.5)
  expected = (uniform * 2 - 1).reshape(8, DIM) * bound
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-10)


def threefry(key, high, low):
  """Threefry-2x32 of 20 rounds (Salmon et al., 2011); the words' xor."""
  mask = 2**32 - 1
  keys = [int(key[0]), int(key[1])]
  keys.append(keys[0] ^ keys[1] ^ 0x1BD11BDA)
  x, y = (high + keys[0]) & mask, (low + keys[1]) & mask
  turns = ((13, 15, 26, 6), (17, 29, 16, 24))
  for group in range(5):
    for turn in turns[group % 2]:
      x = (x + y) & mask
      y = ((y << turn) | (y >> (32 - turn))) & mask
      y ^= x
    x = (x + keys[(group + 1) % 3]) & mask
    y = (y + keys[(group + 2) % 3] + group + 1) & mask
  return x ^ y


def test_other_generators_are_left_to_jax():
  assert can_draw(jax.random.key(0))
  assert not can_draw(jax.random.key(0, impl="rbg"))
