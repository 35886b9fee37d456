"""All bindings of gin files and flags, resolved and checked, before gin."""

import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recjax import errors, files
from recjax.config import names, values

DYNAMIC_REGISTRATION = "__gin__.dynamic_registration"
REQUIRED = "gin.REQUIRED"
_BUILTINS = ("gin.singleton",)

# Reads (text, name for messages) into statements.
Read = Callable[[str, str], Sequence[values.Statement]]


class Bindings:
  """The bindings of all files and flags, the last one winning.

  Attributes:
    values: what each key is bound to; classes have full dotted names.
    places: where each key was bound last: "path:line" or "--gin.NAME".
  """

  def __init__(self, read: Read, folders: Sequence[files.PathLike]):
    self.values: dict[values.Key, Any] = {}
    self.places: dict[values.Key, str] = {}
    self._read = read
    self._folders = tuple(folders)
    self._modules: set[str] = set()
    self._prefixes: dict[str, str] = {}  # Imported by any of the files.
    self._targets: dict[str, Any] = {}  # Dotted name -> class or function.

  def add_file(
    self, path: pathlib.Path, includers: tuple[pathlib.Path, ...] = ()
  ) -> None:
    """Reads a file and what it includes.

    Args:
      path: of the file.
      includers: the files that are being read.

    Raises:
      ConfigError: anything in the file names what does not exist, or an
        include undoes a binding above it.
    """
    if path in includers:
      chain = " -> ".join(map(str, (*includers, path)))
      raise errors.ConfigError(f"gin files include each other: {chain}.")
    prefixes: dict[str, str] = {}
    own: dict[values.Key, str] = {}
    for statement in self._read(_read_text(path), str(path)):
      place = f"{path}:{statement.line}"
      match statement:
        case values.Include():
          folders = (path.parent.parent, path.parent, *self._folders)
          included = names.find_gin_file(
            statement.filename, folders, place=place
          )
          before = {key: self.values[key] for key in own}
          self.add_file(included, (*includers, path))
          self._check_not_undone(before, own, place)
        case values.Import():
          self._import(statement, prefixes, place)
        case values.Binding():
          own[self._bind(statement, prefixes, place)] = place
        case values.Block():
          self._resolve(statement.selector, prefixes, place)

  def add_flag(self, text: str) -> None:
    """Adds the `NAME=VALUE` of a flag `--gin.NAME=VALUE`.

    Raises:
      ConfigError: there is no such macro, class or parameter, or the value
        is not one of gin's.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    place = f"--gin.{name}"
    if not (name and equals and value):
      raise errors.ConfigError(
        f"--gin.{text} has no value: write --gin.NAME=VALUE."
      )
    try:
      (binding,) = self._read(f"{name} = {value}", place)
    except ValueError as error:  # A ConfigError, or more than one statement.
      raise errors.ConfigError(
        f"--gin.{text}: {value} is not a value of gin: a number, True, False, "
        "None, (a, tuple), @a.Reference(), %A_MACRO or a quoted string, "
        f"which in a shell is --gin.{name}=\"'text'\"."
      ) from error
    assert isinstance(binding, values.Binding)
    if binding.is_macro:
      self._check_known_macro(name, place)
    first = binding.selector.split(".")[0]
    if binding.is_macro or first in self._prefixes:
      self._bind(binding, self._prefixes, place)
      return
    target = self._complete(binding.selector, place)
    top = target.split(".")[0]
    full = dataclasses.replace(binding, selector=target)
    self._bind(full, {**self._prefixes, top: top}, place)

  def check(self) -> None:
    """Raises ConfigError at an undefined macro or a value still required."""
    macros = {key[1] for key in self.values if not key[2]}
    for key, value in self.values.items():
      name, place = values.write_key(key), self.places[key]
      for reference in values.references(value):
        if reference.target == REQUIRED:
          raise errors.ConfigError(
            f"{place}: {name} must be given: set it in a gin file below this "
            f"one, or by --gin.{name}=VALUE."
          )
        if reference.kind == "%" and reference.target not in macros:
          raise errors.ConfigError(
            f"{place}: {name} uses %{reference.target}, which no gin file or "
            f"flag sets.{errors.nearest(reference.target, macros)}"
          )
      values.inline(value, self.values)

  def text(self) -> str:
    """One gin text that says it all."""
    modules = {self._module_of(target) for target in self._targets}
    aliases: dict[str, str] = {}
    lines = [f"from __gin__ import {DYNAMIC_REGISTRATION.split('.')[1]}"]
    for module in sorted(modules):
      parent, _, stem = module.rpartition(".")
      taken = (*aliases.values(), "gin")
      alias = module.replace(".", "_") if stem in taken else stem
      aliases[module] = alias
      start = f"from {parent} import {stem}" if parent else f"import {stem}"
      lines.append(start if alias == stem else f"{start} as {alias}")

    def short(target: str) -> str:
      if target in _BUILTINS:
        return target
      module = self._module_of(target)
      return aliases[module] + target.removeprefix(module)

    def shorten(reference: values.Reference) -> values.Reference:
      if reference.kind == "%":
        return reference
      return dataclasses.replace(reference, target=short(reference.target))

    for (scope, selector, parameter), value in self.values.items():
      name = short(selector) if parameter else selector
      key = values.write_key((scope, name, parameter))
      lines.append(f"{key} = {values.map_references(value, shorten)!r}")
    return "\n".join(lines) + "\n"

  def _module_of(self, target: str) -> str:
    """The imported module that a class or function is reached from."""
    found = [m for m in self._modules if target.startswith(f"{m}.")]
    return max(found, key=len)

  def _check_not_undone(
    self,
    before: Mapping[values.Key, Any],
    own: Mapping[values.Key, str],
    place: str,
  ) -> None:
    for key, value in before.items():
      if repr(self.values[key]) != repr(value):
        raise errors.ConfigError(
          f"{place}: the include undoes {values.write_key(key)} = {value!r} "
          f"of {own[key]} (it is set again in {self.places[key]}). Put "
          "includes first and overrides below them."
        )

  def _check_known_macro(self, name: str, place: str) -> None:
    macros = {key[1] for key in self.values if not key[2]}
    for value in self.values.values():
      macros |= {
        reference.target
        for reference in values.references(value)
        if reference.kind == "%" and reference.target != REQUIRED
      }
    if name not in macros:
      raise errors.ConfigError(
        f"{place}: no gin file sets or uses a macro {name!r}."
        f"{errors.nearest(name, macros)} "
        f"Known: {', '.join(sorted(macros)) or 'none'}."
      )

  def _complete(self, selector: str, place: str) -> str:
    """The one class in use whose dotted name ends with `selector`."""
    found = [
      target
      for target in self._targets
      if f".{target}".endswith(f".{selector}")
    ]
    if len(found) == 1:
      return found[0]
    if found:
      raise errors.ConfigError(
        f"{place}: {selector!r} may be any of {', '.join(found)}: write more "
        "of its name."
      )
    known = sorted({target.split(".")[-1] for target in self._targets})
    raise errors.ConfigError(
      f"{place}: no gin file uses a class {selector!r}."
      f"{errors.nearest(selector, known)} In use: {', '.join(known)}."
    )

  def _import(
    self, statement: values.Import, prefixes: dict[str, str], place: str
  ) -> None:
    if statement.module.startswith("__gin__."):
      errors.check_choice(
        f"{place}: the import", statement.module, (DYNAMIC_REGISTRATION,)
      )
      return
    if statement.prefix == "gin":  # A text that gin itself wrote.
      prefixes[statement.name] = statement.prefix
      return
    if statement.name == "gin":
      raise errors.ConfigError(
        f"{place}: 'gin' is the name of gin itself: import ... as another."
      )
    names.import_module(statement.module, place)
    self._modules.add(statement.module)
    prefixes[statement.name] = statement.prefix
    self._prefixes = {**prefixes, **self._prefixes}

  def _resolve(
    self, selector: str, prefixes: Mapping[str, str], place: str
  ) -> str:
    """The full dotted name of a class or function as a file writes it."""
    first, *rest = selector.split(".")
    builtin = ".".join((prefixes.get(first, first), *rest))
    if builtin in _BUILTINS:
      return builtin
    if first not in prefixes:
      raise errors.ConfigError(
        f"{place}: {selector!r}: nothing is imported as {first!r} there."
        f"{errors.nearest(first, prefixes)} Write `from __gin__ import "
        "dynamic_registration` and `from PACKAGE import MODULE` on top of "
        "the file."
      )
    full = prefixes[first]
    target = importlib.import_module(full)
    for attribute in rest:
      if not hasattr(target, attribute):
        public = [name for name in dir(target) if not name.startswith("_")]
        raise errors.ConfigError(
          f"{place}: {full} has no {attribute!r}."
          f"{errors.nearest(attribute, public)}"
        )
      full, target = f"{full}.{attribute}", getattr(target, attribute)
    if not callable(target):
      raise errors.ConfigError(f"{place}: {full} is no class or function.")
    name = names.public_name(target, full)
    if name != full:
      self._modules.add(target.__module__)
    self._targets[name] = target
    return name

  def _bind(
    self, binding: values.Binding, prefixes: Mapping[str, str], place: str
  ) -> values.Key:
    def resolve(reference: values.Reference) -> values.Reference:
      if reference.kind == "%":
        return reference
      target = self._resolve(reference.target, prefixes, place)
      return values.Reference(reference.scope, target, reference.kind)

    selector = binding.selector
    if not binding.is_macro:
      selector = self._resolve(selector, prefixes, place)
      if selector not in _BUILTINS:
        names.check_parameter(
          self._targets[selector], selector, binding.parameter, place
        )
    key = binding.key(selector)
    if values.has_list(binding.value):
      raise errors.ConfigError(
        f"{place}: {values.write_key(key)} = {binding.value!r} holds a list, "
        "which makes a module unhashable. Write a tuple: (a, b), or (a,)."
      )
    self.values[key] = values.map_references(binding.value, resolve)
    self.places[key] = place
    return key


def _read_text(path: pathlib.Path) -> str:
  try:
    return path.read_text("utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise errors.ConfigError(f"{path} can not be read: {error}.") from error
