"""The collectives of a compiled program, read from its text."""

import re
from collections import Counter
from typing import NamedTuple

COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-broadcast",
  "collective-permute",
  "ragged-all-to-all",
  "reduce-scatter",
)

_INSTRUCTION = re.compile(
  rf" = (?P<type>\S.*?) (?P<kind>{'|'.join(COLLECTIVES)})(?P<start>-start)?\("
)
_NOISE = re.compile(r"\{[^{}]*\}|/\*.*?\*/|\s")
_TOKEN = re.compile(r"[()]|\w+\[[^\]]*\]")


class Collective(NamedTuple):
  """A collective of a program.

  Attributes:
    kind: such as "all-to-all".
    shape: of its result on one device, such as "f32[128,16]", or
      "8 x f32[16,16]" of a result in eight pieces.
    bytes: of that result.
  """

  kind: str
  shape: str
  bytes: int


def collectives(hlo_text: str) -> list[Collective]:
  """Lists the collectives in the text of a compiled program.

  One that stands in a loop is listed once, however often the loop runs. Bytes
  are those of the result on one device, its own share included, which is what
  an interconnect moves up to the factor (devices - 1) / devices; operands are
  not counted beside it.

  Args:
    hlo_text: `jax.jit(f).lower(...).compile().as_text()`.

  Returns:
    In the order of the text.
  """
  found = []
  for match in _INSTRUCTION.finditer(hlo_text):
    parts = _parse(match["type"])
    # An asynchronous start shows its operands, then its results; that of an
    # all-reduce the results alone.
    if match["start"] and match["kind"] != "all-reduce":
      parts = parts[0][1] if len(parts) == 1 else parts[1]
    shapes = _flat(parts)
    counts = Counter(shapes)
    text = ", ".join(
      shape if count == 1 else f"{count} x {shape}"
      for shape, count in counts.items()
    )
    found.append(Collective(match["kind"], text, sum(map(array_bytes, shapes))))
  return found


def _parse(text: str) -> list:
  """Nested lists of shapes, as the parentheses of a type nest them."""
  stack: list[list] = [[]]
  for token in _TOKEN.findall(_NOISE.sub("", text)):
    if token == "(":
      stack.append([])
    elif token == ")":
      last = stack.pop()
      stack[-1].append(last)
    else:
      stack[-1].append(token)
  return stack[0]


def _flat(parts) -> list[str]:
  if isinstance(parts, str):
    return [parts]
  return [shape for part in parts for shape in _flat(part)]


def array_bytes(shape: str) -> int:
  """Bytes of an array such as "bf16[8,16]"; sub-byte types are packed."""
  kind, dims = re.fullmatch(r"(\w+)\[(.*)\]", shape).groups()  # type: ignore
  bits = re.search(r"\d+", kind)
  width = 8 if kind == "pred" else int(bits[0]) if bits else 0
  size = 1
  for dim in re.findall(r"\d+", dims):
    size *= int(dim)
  return -(-size * width // 8)
