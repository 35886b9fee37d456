"""Gin at the edge: read gin files, make the root object, and be strict.

This is the only module that imports gin. The files are read here with gin's
parser and checked (`recjax.config`), so that a complaint names the file, the
line, the value and the nearest name that exists; gin then gets one resolved
text. Its own file reader is not used: it needs `importlib.util`, which it
never imports, and fails with AttributeError on a missing file.

Where gin needs care:

* A mistyped macro, a binding that nothing uses, an undefined `%MACRO`, and an
  include that undoes a value set above it are silent in gin: errors here.
* A list makes a Linen module unhashable: lists are refused, write tuples.
* `%MACRO` that holds `@X()` makes a new X at each use. That is harmless for
  frozen dataclasses; to share one object write `NAME = @it/gin.singleton()`
  and `it/gin.singleton.constructor = @X`.
* A value that has to be given is bound to `%gin.REQUIRED` until it is.
* A class that is named without parentheses (`@X`) is called later: what is
  bound for it counts as used, and stands at the end of `operative_text`.
"""

import dataclasses
import hashlib
import io
import pathlib
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gin
from gin import config as gin_state
from gin import config_parser

from recjax import errors, files
from recjax.config import bindings as bindings_lib
from recjax.config import names, values

_CALL = re.compile(r"\n  In call to configurable '([^']+)' \(.*\)(?: in.*)?")

# Where each binding of gin's own global config was written, for messages.
_PLACES: dict[values.Key, str] = {}


class _Delegate(config_parser.ParserDelegate):
  """Makes inert references, so that parsing imports and calls nothing."""

  def configurable_reference(
    self, scoped_configurable_name: str, evaluate: bool
  ) -> values.Reference:
    scope, _, target = scoped_configurable_name.rpartition("/")
    return values.Reference(scope, target, "@()" if evaluate else "@")

  def macro(self, macro_name: str) -> values.Reference:
    return values.Reference("", macro_name, "%")


def _read_statements(text: str, name: str) -> list[values.Statement]:
  """The statements of a gin text; a syntax error names the file and line."""
  try:
    parser = config_parser.ConfigParser(io.StringIO(text), _Delegate())
    return [_as_statement(statement) for statement in parser]
  except tokenize.TokenError as error:
    message, (line, _) = error.args
  except SyntaxError as error:
    # Messages of gin may go over two lines.
    message, line = " ".join(str(error.msg).split()), error.lineno or 1
  lines = text.splitlines() or [""]
  content = lines[min(line, len(lines)) - 1].strip()
  raise errors.ConfigError(
    f"{name}:{line}: {message.rstrip('.')}. The line reads: {content}"
  )


def _as_statement(statement: Any) -> values.Statement:
  line = statement.location.line_num
  match statement:
    case config_parser.IncludeStatement():
      return values.Include(line, statement.filename)
    case config_parser.ImportStatement():
      name = statement.bound_name()
      whole = statement.is_from or statement.alias
      prefix = statement.module if whole else name
      if statement.module == "gin.config":
        prefix = "gin"  # gin writes its own singleton as `config.singleton`.
      return values.Import(line, statement.module, name, prefix)
    case config_parser.BindingStatement():
      scope, selector, parameter, value, _ = statement
      return values.Binding(line, scope, selector, parameter, value)
    case _:
      return values.Block(line, statement.selector)


def parse(
  gin_files: Sequence[files.PathLike],
  bindings: Sequence[str] = (),
  search_paths: Sequence[files.PathLike] = (),
) -> str:
  """Reads gin files and flags into gin's config, replacing what it held.

  Args:
    gin_files: paths, or names within a gin folder ("runs/sasrec_ml1m.gin");
      later ones override earlier ones. An `include` is written relative to
      the gin folder.
    bindings: "NAME=VALUE" of the flags --gin.NAME=VALUE, the last word. NAME
      is a macro, "Class.parameter" or "module.Class.parameter".
    search_paths: gin folders looked in before the packaged one.

  Returns:
    The whole config as one gin text, which can be parsed again.

  Raises:
    ConfigError: an unknown file, module, class, parameter or macro, a list, a
      syntax error, or an include that undoes an override.
  """
  config = _collect(gin_files, bindings, search_paths)
  config.check()
  gin.clear_config()
  _PLACES.clear()
  try:
    with gin_state.interactive_mode():  # A notebook may reload a module.
      gin.parse_config(config.text())
  except Exception as error:
    raise errors.ConfigError(f"gin refuses the config: {error}") from error
  _PLACES.update(config.places)
  return gin.config_str()


def _collect(
  gin_files: Sequence[files.PathLike],
  bindings: Sequence[str],
  search_paths: Sequence[files.PathLike] = (),
) -> bindings_lib.Bindings:
  folders = (*search_paths, *names.gin_roots())
  config = bindings_lib.Bindings(_read_statements, folders)
  for name in gin_files:
    config.add_file(names.find_gin_file(str(name), (pathlib.Path(), *folders)))
  for binding in bindings:
    config.add_flag(binding)
  return config


def names_set_by(
  gin_files: Sequence[files.PathLike],
  bindings: Sequence[str],
  *,
  beside: tuple[Sequence[files.PathLike], Sequence[str]],
) -> set[str]:
  """The settings that some files and flags set, by full dotted names.

  Args:
    gin_files: read after those of `beside`.
    bindings: flags after those of `beside`.
    beside: files and flags of the config that they change.

  Raises:
    ConfigError: one of them names what does not exist.
  """
  before = _collect(*beside).places
  after = _collect((*beside[0], *gin_files), (*beside[1], *bindings)).places
  named = {
    values.write_key(key)
    for key, place in after.items()
    if before.get(key) != place
  }
  # A flag that sets again what a flag has set stands at the same place.
  return named | {
    values.write_key(key)
    for key in after
    for text in bindings
    if after[key] == f"--gin.{text.partition('=')[0].strip()}"
  }


def named_root(roots: Sequence[type]) -> type:
  """The one class of `roots` that the parsed config is about.

  Raises:
    ConfigError: it is about none of them, or about several.
  """
  parsed = {key[1].rpartition(".")[2] for key in _read(gin.config_str())}
  named = [root for root in roots if root.__name__ in parsed]
  if len(named) == 1:
    return named[0]
  known = ", ".join(root.__name__ for root in roots)
  found = ", ".join(root.__name__ for root in named) or "none"
  raise errors.ConfigError(
    f"a config must set parameters of exactly one of {known}; it sets those of"
    f" {found}. Files of gin/runs show how."
  )


def construct(root: Callable[..., Any]) -> Any:
  """Calls `root` with what is bound, and checks that all of it is used.

  Args:
    root: a class or function.

  Returns:
    What it returns.

  Raises:
    ConfigError: a constructor refuses its values, a value is missing, or
      nothing uses a binding. A DataError or RunError stays one.
  """
  try:
    configurable = gin.get_configurable(root)
  except ValueError:  # No gin file names the root.
    with gin_state.interactive_mode():
      configurable = gin.external_configurable(root, module=root.__module__)
  try:
    value = configurable()
  except (ValueError, TypeError, RuntimeError) as error:
    raise _explained(error) from error
  used, later = _split_bindings()
  unused = [key for key in _read(gin.config_str()) if key not in used | later]
  if unused:
    known = [values.write_key(key) for key in used | later]
    lines = [
      f"\n  {_PLACES.get(key, 'config')}: {values.write_key(key)}."
      f"{errors.nearest(values.write_key(key), known)}"
      for key in unused
    ]
    raise errors.ConfigError(
      "nothing uses these settings (what they name is not part of the run, "
      f"or another setting hides them):{''.join(lines)}"
    )
  return value


def _explained(error: Exception) -> Exception:
  """`error` without the wrapping of gin, and with the places of its values."""
  text = str(error)
  path = _CALL.findall(text)[::-1]
  message = _CALL.sub("", text).split("\n  No values supplied by Gin")[0]
  hints = []
  bound = _read(gin.config_str())
  for key, place in _PLACES.items():
    value = bound.get(key)
    named = key[2] and re.search(rf"\b{re.escape(key[2])}\b", message)
    if named and path and key[1].split(".")[-1] == path[-1]:
      hints.append(f"{key[2]} = {value!r} in {place}")
      macro = ("", str(value).removeprefix("%"), "")
      if macro in _PLACES:
        hints.append(f"{macro[1]} is set in {_PLACES[macro]}")
  where = f" ({'; '.join(hints)})" if hints else ""
  message = f"{' > '.join(path)}: {message.strip()}{where}".removeprefix(": ")
  for kind in (errors.ConfigError, errors.DataError, errors.RunError):
    if isinstance(error, kind):
      return kind(message)
  return errors.ConfigError(message)


def _read(text: str) -> dict[values.Key, Any]:
  """The bindings of a text that gin wrote, under full dotted names."""
  return {key: value for key, value, _ in _read_lines(text)}


def _read_lines(text: str) -> Iterator[tuple[values.Key, Any, str]]:
  """Key and value of each binding under full names, and its line as it is."""
  prefixes: dict[str, str] = {}

  def full(selector: str) -> str:
    first, dot, rest = selector.partition(".")
    return prefixes.get(first, first) + dot + rest

  def resolve(reference: values.Reference) -> values.Reference:
    if reference.kind == "%":
      return reference
    return dataclasses.replace(reference, target=full(reference.target))

  for statement in _read_statements(text, "config"):
    match statement:
      case values.Import():
        prefixes[statement.name] = statement.prefix
      case values.Binding():
        key = statement.key(full(statement.selector))
        value = values.map_references(statement.value, resolve)
        spelled = values.write_key(statement.key(statement.selector))
        yield key, value, f"{spelled} = {statement.value!r}"


def _split_bindings() -> tuple[set[values.Key], set[values.Key]]:
  """The bindings that took effect, and those that a later call may use."""
  bound = _read(gin.config_str())
  used: set[values.Key] = set()
  for scope, selector, parameter in _read(gin.operative_config_str()):
    parts = scope.split("/") if scope else []
    for length in range(len(parts), -1, -1):  # The innermost scope wins.
      key = ("/".join(parts[:length]), selector, parameter)
      if key in bound:
        used.add(key)
        break
  later: set[values.Key] = set()
  waiting = list(used)
  while waiting:
    key = waiting.pop()
    for reference in values.references(bound[key]):
      if reference.kind == "@" or key in later:
        is_macro = reference.kind == "%"
        found = {
          other
          for other in bound
          if other[1] == reference.target and (not other[2]) == is_macro
        }
        waiting += found - used - later
        later |= found - used
  return used, later


def operative_text() -> str:
  """What the run uses, defaults included, as gin text; after `construct`."""
  text = gin.operative_config_str()
  _, later = _split_bindings()
  if not later:
    return text
  whole = gin.config_str()
  imports = re.findall(r"^(?:import|from) .*$", whole, re.MULTILINE)
  new = [line for line in imports if line not in text.splitlines()]
  lines = [line for key, _, line in _read_lines(whole) if key in later]
  return "\n".join((text, "# Bound for later calls:", *new, *lines)) + "\n"


def bindings(text: str) -> dict[str, str]:
  """The settings of a text of `operative_text`: values by full names."""
  return {
    values.write_key(key): repr(value) for key, value in _read(text).items()
  }


def config_hash(text: str, *, without: Sequence[str] = ()) -> str:
  """12 hex digits that name a config, however it was spelled.

  The same for the same settings written in another file, order or import,
  through a macro or not, or left at their default.

  Args:
    text: a text of `operative_text`.
    without: parameters left out, such as "Experiment.seed".
  """
  canonical = values.canonical_text(_read(text), without=without)
  return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:12]
