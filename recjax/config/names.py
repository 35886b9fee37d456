"""What a config names - files, modules, parameters - or the nearest name."""

import importlib
import inspect
import pathlib
import pkgutil
import re
import sys
from collections.abc import Iterable
from typing import Any

from recjax import errors, files


def gin_roots() -> tuple[pathlib.Path, ...]:
  """The folder of packaged gin files: <checkout>/gin, or in the wheel."""
  package = pathlib.Path(__file__).parent.parent
  # In site-packages the folder `gin` beside us is gin-config itself.
  return tuple(
    folder
    for folder in (package.parent / "gin", package / "gin_configs")
    if folder.is_dir() and not (folder / "__init__.py").exists()
  )[:1]


def find_gin_file(
  name: str, folders: Iterable[files.PathLike] = (), *, place: str = ""
) -> pathlib.Path:
  """The path of a gin file given as a path, or relative to one of `folders`.

  Args:
    name: a path, or a name such as "runs/sasrec_ml1m.gin".
    folders: looked in, in this order.
    place: who asks, for the message.

  Raises:
    ConfigError: there is no such file; names all places looked in.
  """
  paths = [pathlib.Path(folder) for folder in folders]
  paths = list(dict.fromkeys(paths))
  for path in paths:
    if (path / name).is_file():
      return (path / name).resolve()
  known = [
    str(path.relative_to(root))
    for root in paths
    if root != pathlib.Path()  # The working directory may be large.
    for path in sorted((*root.glob("*.gin"), *root.glob("*/*.gin")))
  ]
  looked_in = ", ".join(str(path.absolute()) for path in paths)
  raise errors.ConfigError(
    f"{place}{': ' if place else ''}no gin file {str(name)!r}; looked in "
    f"{looked_in}.{errors.nearest(str(name), known)}"
  )


def import_module(module: str, place: str) -> None:
  """Imports `module`.

  Raises:
    ConfigError: there is no such module (names the nearest one), or it can
      not be imported.
  """
  try:
    importlib.import_module(module)
    return
  except ModuleNotFoundError as error:
    missing = error.name or ""
    if missing != module and not module.startswith(missing + "."):
      raise errors.ConfigError(
        f"{place}: importing {module!r} failed: {error}."
      ) from error
  parent, _, _ = missing.rpartition(".")
  search = []
  if parent:
    search = getattr(importlib.import_module(parent), "__path__", None)
  if search is None:
    raise errors.ConfigError(
      f"{place}: {parent!r} is a module and no package: import it, and write "
      f"{parent.split('.')[-1]}.{missing.split('.')[-1]} where it is used."
    )
  siblings = [
    f"{parent}.{found.name}" for found in pkgutil.iter_modules(search)
  ]
  raise errors.ConfigError(
    f"{place}: no module {missing!r}.{errors.nearest(missing, siblings)}"
    + (f" {parent!r} holds: {', '.join(siblings)}." if siblings else "")
  )


def public_name(target: Any, spelled: str) -> str:
  """The dotted name of a class or function by where it is defined.

  Two files may reach one class on two ways; the name stays the same. A name
  with a private part (`optax._src.alias.adam`) stays as it was spelled.
  """
  module = getattr(target, "__module__", None) or ""
  name = getattr(target, "__qualname__", "")
  full = f"{module}.{name}"
  if re.search(r"(^|\.)_|<", full) or not name or module not in sys.modules:
    return spelled
  found: Any = sys.modules[module]
  for part in name.split("."):
    found = getattr(found, part, None)
  return full if found is target else spelled


def check_parameter(target: Any, name: str, parameter: str, place: str) -> None:
  """Raises ConfigError unless `target` takes a parameter of that name."""
  if not callable(target):
    raise errors.ConfigError(f"{place}: {name!r} is no class or function.")
  try:
    parameters = inspect.signature(target).parameters
  except (ValueError, TypeError):
    return  # Built in C, without a signature: gin will check what it can.
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return
  if parameter not in parameters:
    raise errors.ConfigError(
      f"{place}: {name} has no parameter {parameter!r}."
      f"{errors.nearest(parameter, parameters)} "
      f"It has: {', '.join(parameters)}."
    )
