"""What a gin text says, as plain values: statements, references, bindings."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from recjax import errors

# Scope, selector (the dotted name of a class or function) and parameter. A
# macro is ("", NAME, "").
Key = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Reference:
  """`@scope/module.Name`, `@scope/module.Name()` or `%MACRO` in a value.

  Attributes:
    scope: names separated by slashes, or empty.
    target: the class, function or macro named.
    kind: "@" (the class itself), "@()" (an instance) or "%" (a macro).
  """

  scope: str
  target: str
  kind: str

  def __repr__(self) -> str:
    scoped = f"{self.scope}/{self.target}" if self.scope else self.target
    return f"%{scoped}" if self.kind == "%" else f"@{scoped}{self.kind[1:]}"


@dataclasses.dataclass(frozen=True)
class Include:
  """`include 'models/sasrec.gin'`."""

  line: int
  filename: str


@dataclasses.dataclass(frozen=True)
class Import:
  """`from package import module as name`, or `import package.module`.

  Attributes:
    line: counted from 1.
    module: the dotted module.
    name: what it is called in the file.
    prefix: the dotted module that `name` stands for.
  """

  line: int
  module: str
  name: str
  prefix: str


@dataclasses.dataclass(frozen=True)
class Binding:
  """`scope/selector.parameter = value`; a macro has no parameter."""

  line: int
  scope: str
  selector: str
  parameter: str
  value: Any

  @property
  def is_macro(self) -> bool:
    """Whether this is `NAME = value`."""
    return not self.parameter

  def key(self, selector: str) -> Key:
    """The key of the binding when its selector is called `selector`."""
    if not self.is_macro:
      return self.scope, selector, self.parameter
    scoped = f"{self.scope}/{self.selector}" if self.scope else self.selector
    return "", scoped, ""


@dataclasses.dataclass(frozen=True)
class Block:
  """The head `selector:` of indented bindings."""

  line: int
  selector: str


Statement = Include | Import | Binding | Block


def write_key(key: Key) -> str:
  """The key as gin writes it: "scope/module.Name.parameter" or "MACRO"."""
  scope, selector, parameter = key
  scoped = f"{scope}/{selector}" if scope else selector
  return f"{scoped}.{parameter}" if parameter else scoped


def references(value: Any) -> Iterator[Reference]:
  """The references anywhere in a value."""
  if isinstance(value, Reference):
    yield value
  elif isinstance(value, dict):
    for key, element in value.items():
      yield from references(key)
      yield from references(element)
  elif isinstance(value, (list, tuple)):
    for element in value:
      yield from references(element)


def map_references(value: Any, change: Callable[[Reference], Any]) -> Any:
  """`value` with each reference replaced by `change(reference)`."""
  if isinstance(value, Reference):
    return change(value)
  if isinstance(value, dict):
    return {
      map_references(key, change): map_references(element, change)
      for key, element in value.items()
    }
  if isinstance(value, (list, tuple)):
    return type(value)(map_references(element, change) for element in value)
  return value


def has_list(value: Any) -> bool:
  """Whether there is a list anywhere in a value."""
  if isinstance(value, dict):
    return any(map(has_list, value.values()))
  if isinstance(value, tuple):
    return any(map(has_list, value))
  return isinstance(value, list)


def inline(
  value: Any, values: Mapping[Key, Any], inside: tuple[str, ...] = ()
) -> Any:
  """`value` with the macros replaced by what they hold.

  Args:
    value: what a binding holds.
    values: all bindings; a macro that is not among them stays.
    inside: the macros being replaced.

  Raises:
    ConfigError: macros hold each other.
  """

  def replace(reference: Reference) -> Any:
    key = ("", reference.target, "")
    if reference.kind != "%" or key not in values:
      return reference
    chain = (*inside, reference.target)
    if reference.target in inside:
      raise errors.ConfigError(
        f"macros hold each other: {' -> '.join(f'%{name}' for name in chain)}."
      )
    return inline(values[key], values, chain)

  return map_references(value, replace)


def canonical_text(
  values: Mapping[Key, Any], *, without: Sequence[str] = ()
) -> str:
  """One sorted line a binding, the macros replaced by what they hold.

  Args:
    values: bindings under full dotted names.
    without: parameters left out, such as "Experiment.seed".
  """
  lines = []
  for key, value in values.items():
    name = write_key(key)
    left_out = any(f".{name}".endswith(f".{other}") for other in without)
    if key[2] and not left_out:
      lines.append(f"{name} = {inline(value, values)!r}\n")
  return "".join(sorted(lines))
