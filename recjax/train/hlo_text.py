"""What the text of a compiled program tells.

`compiled.as_text()` lists computations, one of them the entry, each a list of
instructions; while loops, branches, fusions and calls name the computations
that they run. From these follow how often an instruction runs in a step, which
buffers are donated, and which large values are made.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from recjax.embeddings.collectives import array_bytes

_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%(?P<name>\S+) \(.*\{$")
_INSTRUCTION = re.compile(
  r"\s+(?P<root>ROOT )?%(?P<name>\S+) = (?P<type>.*?)"
  r" (?P<opcode>[a-z][a-z0-9-]*)\((?P<rest>.*)"
)
_NAMES = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
  r"\b(?P<role>calls|body|condition|to_apply|true_computation|"
  r"false_computation|branch_computations|called_computations)="
  r"(?P<names>%[\w.\-]+|\{[^{}]*\})"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(
  r"(?P<shape>[a-z]\w*\[(?P<dims>[^\]]*)\])(?:\{(?P<layout>[^}]*)\})?"
)
_IN_PLACE = ("scatter", "dynamic-update-slice")
_NO_VALUE = {
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
  "conditional",
  "call",
  "after-all",
  "optimization-barrier",
  "partition-id",
  "replica-id",
}


class Instruction(NamedTuple):
  """A line of a program.

  Attributes:
    name: unique in the program.
    type: of its result, with layouts.
    opcode: such as "fusion".
    operands: names of instructions of the same computation.
    rest: what follows the parenthesis of the operands.
    line: all of it.
  """

  name: str
  type: str
  opcode: str
  operands: tuple[str, ...]
  rest: str
  line: str

  @property
  def source(self) -> str:
    """The operation of the program as JAX has named it."""
    found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.rest)
    return found[1].replace("\\'", "'") if found else ""


class Computation(NamedTuple):
  """A list of instructions, by name; the root gives its result."""

  instructions: dict[str, Instruction]
  root: str


class Program(NamedTuple):
  """A compiled program.

  Attributes:
    header: the first line.
    entry: name of the computation that is the program.
    computations: by name.
  """

  header: str
  entry: str
  computations: dict[str, Computation]


class Execution(NamedTuple):
  """An instruction, and how often a step runs it.

  Attributes:
    instruction: as it stands.
    times: the product of the lengths of the loops around it; a loop of unknown
      length counts once.
    is_exact: no such loop is around it, nor a branch that may not be taken.
    is_fused: within a fusion, so that it has no buffer of its own.
  """

  instruction: Instruction
  times: int
  is_exact: bool
  is_fused: bool


class Parameter(NamedTuple):
  """An argument of a program, as it lies on one device.

  Attributes:
    name: such as "state.tables['item']".
    shape: such as "f32[1000,16]".
    bytes: without the padding of the device's layout.
    padded_bytes: with it.
    is_donated: a result takes its place.
  """

  name: str
  shape: str
  bytes: int
  padded_bytes: int
  is_donated: bool


class Value(NamedTuple):
  """What an instruction makes and does not write in place.

  Attributes:
    shape: such as "f32[1000,16]".
    bytes: with the padding of the device's layout.
    opcode: such as "copy".
    source: the operation as JAX has named it; of a copy of an argument, the
      name of the argument.
  """

  shape: str
  bytes: int
  opcode: str
  source: str


def parse_program(text: str) -> Program:
  """Reads `compiled.as_text()`."""
  lines = text.splitlines()
  computations: dict[str, Computation] = {}
  entry, name, root = "", "", ""
  instructions: dict[str, Instruction] = {}
  for line in lines[1:]:
    if start := _COMPUTATION.match(line):
      name, root, instructions = start["name"], "", {}
      entry = name if start["entry"] else entry
    elif line == "}":
      computations[name] = Computation(instructions, root)
    elif found := _INSTRUCTION.match(line):
      operands, rest = _split_operands(found["rest"])
      instructions[found["name"]] = Instruction(
        found["name"], found["type"], found["opcode"], operands, rest, line
      )
      root = found["name"] if found["root"] else root
  return Program(lines[0] if lines else "", entry, computations)


def _split_operands(text: str) -> tuple[tuple[str, ...], str]:
  depth = 1
  for index, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      return tuple(_NAMES.findall(text[:index])), text[index + 1 :]
  return (), text


def executions(program: Program) -> Iterator[Execution]:
  """All instructions that a step runs; those called twice come twice."""
  waiting = [(program.entry, 1, True, False)]
  while waiting:
    name, times, is_exact, is_fused = waiting.pop()
    computation = program.computations.get(name, Computation({}, ""))
    for instruction in computation.instructions.values():
      yield Execution(instruction, times, is_exact, is_fused)
      rounds = None
      if instruction.opcode == "while":
        rounds = loop_rounds(program, computation, instruction)
      for role, called in _called(instruction):
        if role == "to_apply" and instruction.opcode != "call":
          continue  # Of a reduction: the sum of two numbers.
        is_certain = role in ("calls", "to_apply") or rounds is not None
        waiting.append(
          (
            called,
            times * (rounds if rounds is not None else 1),
            is_exact and is_certain,
            is_fused or instruction.opcode == "fusion",
          )
        )


def _called(instruction: Instruction) -> Iterator[tuple[str, str]]:
  for found in _CALLED.finditer(instruction.rest):
    for name in _NAMES.findall(found["names"]):
      yield found["role"], name


def loop_rounds(
  program: Program, computation: Computation, loop: Instruction
) -> int | None:
  """How often a while loop goes round; None if the text does not tell.

  XLA notes it for some backends. For others it is read from the form that
  `lax.fori_loop` and `lax.scan` give a loop: a counter that starts at a
  constant, grows by 1, and is compared with a constant.
  """
  if noted := _TRIPS.search(loop.rest):
    return int(noted[1])
  called = dict(_called(loop))
  if not {"condition", "body"} <= set(called):
    return None
  condition = program.computations[called["condition"]]
  test = condition.instructions.get(condition.root)
  if test is None or test.opcode != "compare" or len(test.operands) != 2:
    return None
  counter = condition.instructions.get(test.operands[0])
  stop = _constant(condition, test.operands[1])
  place = re.search(r"index=(\d+)", counter.rest) if counter else None
  if stop is None or place is None or "direction=LT" not in test.rest:
    return None
  index = int(place[1])
  start = _constant(computation, _element(computation, loop.operands, index))
  body = program.computations[called["body"]]
  step = body.instructions.get(_element(body, (body.root,), index))
  if start is None or step is None or step.opcode not in ("add", "fusion"):
    return None
  steps = [_constant(body, name) for name in step.operands]
  return max(0, stop - start) if 1 in steps else None


def _element(computation: Computation, operands, index: int) -> str:
  """Name of an element of the tuple that is the only operand."""
  made = computation.instructions.get(operands[0]) if operands else None
  if made is None or made.opcode != "tuple" or index >= len(made.operands):
    return ""
  return made.operands[index]


def _constant(computation: Computation, name: str) -> int | None:
  """The whole number of an instruction, through copies of it."""
  made = computation.instructions.get(name)
  while made and made.opcode in ("copy", "bitcast") and made.operands:
    made = computation.instructions.get(made.operands[0])
  if made is None or made.opcode != "constant":
    return None
  found = re.search(r"constant\((-?\d+)\)", made.line)
  return int(found[1]) if found else None


def parameters(program: Program) -> list[Parameter]:
  """The arguments of a program, in their order."""
  aliases = re.search(r"input_output_alias=\{(.*?\)) \}", program.header)
  donated = set()
  if aliases:
    donated = {int(n) for n in re.findall(r"\((\d+), \{", aliases[1])}
  found = {}
  for instruction in program.computations[program.entry].instructions.values():
    number = re.search(r" parameter\((\d+)\)", instruction.line)
    array = _ARRAY.search(instruction.type)
    if instruction.opcode == "parameter" and number and array:
      found[int(number[1])] = Parameter(
        instruction.source or instruction.name,
        array["shape"],
        array_bytes(array["shape"]),
        _padded_bytes(array),
        int(number[1]) in donated,
      )
  return [found[number] for number in sorted(found)]


def values(program: Program) -> list[Value]:
  """What is made in the memory of a device, the largest first.

  Left out are arguments, views, what a scatter or an update of a slice writes
  in place, and what lies in a faster memory than the main one or is written
  back from it. Values share buffers, so their bytes do not add up to the memory
  that a program needs.
  """
  found = set()
  for execution in executions(program):
    made = execution.instruction
    if execution.is_fused or made.opcode in _NO_VALUE:
      continue
    if made.opcode.endswith(("-start", "-update")):
      continue
    if _result_opcode(program, made) in _IN_PLACE:
      continue
    if made.opcode == "copy-done" and _comes_back(program, made):
      continue
    for array in _ARRAY.finditer(made.type):
      if not _is_on_chip(array):
        found.add(
          Value(array["shape"], _padded_bytes(array), made.opcode, made.source)
        )
  return sorted(found, key=lambda value: (-value.bytes, value))


def _comes_back(program: Program, done: Instruction) -> bool:
  """Whether a copy writes back to memory what a faster one held."""
  for computation in program.computations.values():
    if done.name in computation.instructions:
      start = computation.instructions.get(done.operands[0])
      arrays = list(_ARRAY.finditer(start.type)) if start else []
      return len(arrays) > 1 and _is_on_chip(arrays[1])
  return False


def _is_on_chip(array: re.Match[str]) -> bool:
  return bool(re.search(r"S\([1-9]", array["layout"] or ""))


def _result_opcode(program: Program, instruction: Instruction) -> str:
  """What gives the result: of a fusion, its root behind views."""
  called = [name for role, name in _called(instruction) if role == "calls"]
  if instruction.opcode != "fusion" or not called:
    return instruction.opcode
  computation = program.computations[called[0]]
  made = computation.instructions.get(computation.root)
  while made and made.opcode in ("bitcast", "copy", "convert"):
    made = computation.instructions.get(made.operands[0])
  return _result_opcode(program, made) if made else ""


def dims(shape: str) -> tuple[int, ...]:
  """Sizes of an array such as "f32[8,16]"."""
  return tuple(map(int, re.findall(r"\d+", shape.partition("[")[2])))


def _padded_bytes(array: re.Match[str]) -> int:
  """Bytes of an array whose last axes are filled up to whole tiles."""
  shape, layout = array["shape"], array["layout"] or ""
  order, _, tiling = layout.partition(":")
  tile = re.search(r"T\(([\d,]+)\)", tiling)
  sizes = dims(shape)
  if not tile or not sizes:
    return array_bytes(shape)
  physical = [sizes[int(axis)] for axis in reversed(re.findall(r"\d+", order))]
  blocks = [int(size) for size in tile[1].split(",")]
  physical = [1] * (len(blocks) - len(physical)) + physical
  for index, block in enumerate(blocks, start=len(physical) - len(blocks)):
    physical[index] = -(-physical[index] // block) * block
  kind = shape.partition("[")[0]
  return (
    array_bytes(f"{kind}[{','.join(map(str, physical))}]")
    if (math.prod(physical))
    else 0
  )


def group_size(instruction: Instruction, num_devices: int) -> int:
  """Devices that take part in a collective together.

  Args:
    instruction: a collective.
    num_devices: of the program; all of them if the text names no groups.
  """
  # From jax 0.11 on by axes: mesh['data'=4,'model'=2] {'data'}.
  mesh = re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", instruction.rest)
  if mesh:
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    axes = re.findall(r"'(\w+)'", mesh[2])
    return math.prod(int(sizes[axis]) for axis in axes)
  groups = re.search(
    r"replica_groups=(?:\{\{(?P<first>[\d,]*)\}|\[\d+,(?P<size>\d+)\])",
    instruction.rest,
  )
  if not groups:
    return num_devices
  if groups["size"]:
    return int(groups["size"])
  return groups["first"].count(",") + 1 if groups["first"] else num_devices
