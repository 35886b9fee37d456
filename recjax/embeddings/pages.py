"""Large pages for tables in the memory of a Linux host.

A lookup reads one row anywhere in a table. With pages of 4 KiB the processor
has to find each row's page first, which for a table of gigabytes costs more
than the row; pages of 2 MiB are few enough to be known. Where Linux gives them
on request alone (`/sys/kernel/mm/transparent_hugepage/enabled` is "madvise"),
this module requests them. Donated tables are trained in place and keep them.
"""

import ctypes
import sys
from typing import Any

import jax

_PAGE_BYTES = 2**21
# Of Linux's madvise(2): collapse the pages that are there into large ones.
_MADV_COLLAPSE = 25


def use_large_pages(tree: Any, *, min_bytes: int = 2**26) -> int:
  """Moves arrays on the CPU to pages of 2 MiB; for tables, once, at the start.

  The arrays keep their addresses and values. It takes about a second for every
  two gigabytes, and does nothing on other devices and systems, on a Linux
  before 6.1, and where there is no such page left.

  Args:
    tree: of arrays, such as tables and slots.
    min_bytes: of an array on one device; smaller ones are left.

  Returns:
    How many bytes now lie in large pages.
  """
  if sys.platform != "linux":
    return 0
  total = 0
  for array in jax.tree.leaves(tree):
    for shard in array.addressable_shards:
      if shard.device.platform == "cpu" and shard.data.nbytes >= min_bytes:
        total += _collapse(shard.data)
  return total


def _collapse(array: jax.Array) -> int:
  """Bytes of the array that lie in large pages afterwards."""
  start = jax.block_until_ready(array).unsafe_buffer_pointer()
  first = -(-start // _PAGE_BYTES) * _PAGE_BYTES
  size = (start + array.nbytes) // _PAGE_BYTES * _PAGE_BYTES - first
  if size <= 0:
    return 0
  failed = ctypes.CDLL(None).madvise(
    ctypes.c_void_p(first), ctypes.c_size_t(size), _MADV_COLLAPSE
  )
  return 0 if failed else size
