"""Whether a compiled step leaves large tables where they are.

A step must read and write the rows of its batch alone. It does if the buffer of
every table is donated, and if nothing of the size of a table is made or
travels.
"""

import math
import re
from typing import Any

from recjax.embeddings.collectives import Collective, collectives
from recjax.embeddings.plans import bytes_text
from recjax.train import hlo_text

SPARSE_TABLES = r"^\w+\.(tables|slots)\b"
"""Names of the sparse tables of a `TrainState` and of their slots."""


def sparse_arguments(
  program: hlo_text.Program, tables: str = SPARSE_TABLES
) -> list[hlo_text.Parameter]:
  """The arguments of a program that are tables."""
  return [
    parameter
    for parameter in hlo_text.parameters(program)
    if re.search(tables, parameter.name)
  ]


def table_faults(
  compiled: Any, tables: str = SPARSE_TABLES, *, min_bytes: int = 2**20
) -> tuple[str, ...]:
  """What a compiled step does to whole tables.

  A temporary is told by its size, for an array of as many elements as a
  device has of the table, or of so many rows of it as some devices have
  together, is hardly anything else in a program with a table of millions of
  rows. Where all temporaries together are smaller than the table there is none.

  Args:
    compiled: `jax.jit(step).lower(...).compile()`.
    tables: pattern of the names of arguments that are tables.
    min_bytes: on a device; smaller tables only need to be donated, as batches
      may be of their size.

  Returns:
    A sentence a fault.
  """
  program = hlo_text.parse_program(compiled.as_text())
  temp_bytes = compiled.memory_analysis().temp_size_in_bytes
  made = hlo_text.values(program)
  moved = [
    found
    for execution in hlo_text.executions(program)
    for found in collectives(execution.instruction.line)
  ]
  faults = []
  for table in sparse_arguments(program, tables):
    if not table.is_donated:
      faults.append(f"{table.name} {table.shape} is not donated.")
    if table.bytes >= min_bytes:
      if temp_bytes >= table.bytes:
        faults += _copies(table, made)
      faults += _moves(table, moved)
  return tuple(dict.fromkeys(faults))


def _copies(table: hlo_text.Parameter, made: list[hlo_text.Value]):
  for value in made:
    if _is_like(value.shape, table.shape):
      source = f" by {value.source}" if value.source else ""
      yield (
        f"{value.opcode} makes {value.shape}, {bytes_text(value.bytes)}, of the"
        f" size of {table.name} {table.shape}{source}."
      )


def _moves(table: hlo_text.Parameter, moved: list[Collective]):
  for collective in moved:
    shapes = re.findall(r"\w+\[[^\]]*\]", collective.shape)
    if any(_is_like(shape, table.shape) for shape in shapes):
      yield (
        f"{collective.kind} moves {collective.shape},"
        f" {bytes_text(collective.bytes)}, of the size of {table.name}"
        f" {table.shape}."
      )


def _is_like(shape: str, table: str) -> bool:
  """Whether an array is a table, or the parts of several devices of one."""
  sizes, piece = hlo_text.dims(shape), hlo_text.dims(table)
  if math.prod(sizes) == math.prod(piece):
    return True
  return any(
    len(order) == len(piece)
    and order[1:] == piece[1:]
    and order[0] > piece[0]
    and order[0] % piece[0] == 0
    for order in (sizes, sizes[::-1])
  )
