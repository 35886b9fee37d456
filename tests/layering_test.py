"""The rules of the house, read from the syntax trees of recjax/.

Imports go downward only, gin stays in gin_config.py, and files and functions
stay small. Each violation is named with file and line.
"""

import ast
import pathlib
import textwrap
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]

LEVELS = {
  "__init__": 0,
  "types": 0,
  "errors": 0,
  "files": 0,
  "progress": 0,
  "config": 1,
  "schedules": 1,
  "features": 1,
  "layers": 1,
  "losses": 1,
  "balancing": 1,
  "metrics": 1,
  "embeddings": 1,
  "data": 2,
  "models": 2,
  "tasks": 2,
  "retrieval": 2,
  "train": 3,
  "evaluation": 3,
  "runs": 3,
  "gin_config": 4,
  "command_flags": 4,
  "ab_command": 5,
  "ab_report": 5,
  "compare_command": 5,
  "diff_command": 5,
  "experiment": 5,
  "explain_command": 5,
  "front_command": 5,
  "index_answers": 5,
  "index_building": 5,
  "index_commands": 5,
  "index_queries": 5,
  "launch": 5,
  "multi_task_bench": 5,
  "multi_task_experiment": 5,
  "opened_run": 5,
  "pairs_experiment": 5,
  "planning": 5,
  "ranking_bench": 5,
  "ranking_experiment": 5,
  "reproduce_command": 5,
  "reproduction": 5,
  "retrieval_bench": 5,
  "retrieval_experiment": 5,
  "retrieval_sides": 5,
  "roots": 5,
  "sample_size_command": 5,
  "run_comparison": 5,
  "named_run": 5,
  "sweep_command": 5,
  "sweeps": 5,
  "tested_tasks": 5,
  "workbench": 5,
  "cli": 5,
  "__main__": 5,
}
# Within one level, these alone know each other.
SAME_LEVEL = {
  ("embeddings", "schedules"),
  ("tasks", "data"),
  ("tasks", "retrieval"),
  ("cli", "experiment"),
  ("cli", "launch"),
  ("cli", "planning"),
  ("planning", "launch"),
  ("cli", "workbench"),
  ("cli", "pairs_experiment"),
  ("cli", "ranking_experiment"),
  ("experiment", "workbench"),
  ("pairs_experiment", "workbench"),
  ("ranking_experiment", "ranking_bench"),
  ("multi_task_bench", "ranking_bench"),
  ("multi_task_bench", "tested_tasks"),
  ("multi_task_experiment", "multi_task_bench"),
  ("multi_task_experiment", "tested_tasks"),
  ("multi_task_experiment", "ranking_experiment"),
  ("cli", "retrieval_experiment"),
  ("retrieval_experiment", "retrieval_bench"),
  ("retrieval_experiment", "retrieval_sides"),
  ("retrieval_experiment", "workbench"),
  ("roots", "experiment"),
  ("roots", "multi_task_experiment"),
  ("roots", "pairs_experiment"),
  ("roots", "ranking_experiment"),
  ("roots", "retrieval_experiment"),
  ("cli", "roots"),
  ("ab_command", "ab_report"),
  ("cli", "ab_command"),
  ("cli", "compare_command"),
  ("cli", "diff_command"),
  ("cli", "explain_command"),
  ("cli", "front_command"),
  ("cli", "index_commands"),
  ("cli", "named_run"),
  ("cli", "reproduce_command"),
  ("cli", "sample_size_command"),
  ("cli", "sweep_command"),
  ("cli", "sweeps"),
  ("named_run", "launch"),
  ("named_run", "roots"),
  ("reproduce_command", "reproduction"),
  ("reproduction", "named_run"),
  ("sweeps", "named_run"),
  ("sweep_command", "sweeps"),
  ("compare_command", "run_comparison"),
  ("front_command", "launch"),
  ("front_command", "multi_task_experiment"),
  ("front_command", "roots"),
  ("opened_run", "launch"),
  ("opened_run", "roots"),
  ("index_answers", "index_queries"),
  ("index_building", "opened_run"),
  ("index_commands", "index_answers"),
  ("index_commands", "index_building"),
  ("index_commands", "index_queries"),
  ("index_commands", "opened_run"),
  ("__main__", "cli"),
}
BAD_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# The training loop is read from top to bottom.
LONG_FILES = {"recjax/train/loop.py"}


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
  """(line, dotted module) of all imports that run."""
  waiting: list[ast.AST] = [tree]
  while waiting:
    node = waiting.pop()
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
      waiting += node.orelse
    elif isinstance(node, ast.Import):
      yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      above = package.split(".")[: -node.level + 1 or None]
      parts = [*above, node.module] if node.level else [node.module]
      module = ".".join(part for part in parts if part)
      # `from recjax import data` names a module, others may name a class.
      yield from ((node.lineno, f"{module}.{a.name}") for a in node.names)
    else:
      waiting += ast.iter_child_nodes(node)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
  for node in ast.walk(tree):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      yield node  # pyright: ignore


def import_violations(
  name: str, top: str, tree: ast.Module, package: str
) -> Iterator[str]:
  for line, module in imports(tree, package):
    parts = module.split(".")
    place = f"{name}:{line}"
    if parts[0] == "gin" and name != "recjax/gin_config.py":
      yield f"{place}: gin is imported outside of recjax/gin_config.py"
    if module == "__future__.annotations":
      yield f"{place}: from __future__ import annotations"
    if parts[0] != "recjax" or len(parts) == 1:
      continue
    other = parts[1]
    if other.startswith("__"):
      continue
    if other not in LEVELS:
      yield f"{place}: recjax.{other} has no level in tests/layering_test.py"
    elif other != top and (top, other) not in SAME_LEVEL:
      if LEVELS[top] <= LEVELS[other]:
        yield (
          f"{place}: {top} (L{LEVELS[top]}) imports {other} (L{LEVELS[other]})"
        )


def size_violations(name: str, text: str, tree: ast.Module) -> Iterator[str]:
  num_lines = len(text.splitlines())
  if num_lines > MAX_FILE_LINES:
    yield f"{name}:1: {num_lines} lines, at most {MAX_FILE_LINES}"
  if name in LONG_FILES:
    return
  for function in functions(tree):
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    if length > MAX_FUNCTION_LINES:
      yield (
        f"{name}:{function.lineno}: {function.name} has {length} lines, at "
        f"most {MAX_FUNCTION_LINES}"
      )


def violations(root: pathlib.Path) -> list[str]:
  """All violations in the checkout at `root`, with file and line."""
  found = []
  for path in sorted((root / "recjax").rglob("*.py")):
    relative = path.relative_to(root)
    name, inside = relative.as_posix(), relative.parts[1:]
    top = inside[0].removesuffix(".py")
    text = path.read_text("utf-8")
    tree = ast.parse(text, name)
    for part in relative.with_suffix("").parts:
      if part in BAD_NAMES:
        found.append(f"{name}:1: {part!r} says nothing: name what it holds")
    if top not in LEVELS:
      found.append(f"{name}:1: {top} has no level in tests/layering_test.py")
      continue
    package = ".".join(relative.parts[:-1])
    found += import_violations(name, top, tree, package)
    found += size_violations(name, text, tree)
    test = root / "tests" / pathlib.Path(*inside).with_suffix("")
    test = test.with_name(f"{test.name}_test.py")
    if len(inside) > 1 and path.stem != "__init__" and not test.exists():
      found.append(f"{name}:1: there is no {test.relative_to(root)}")
  return list(dict.fromkeys(found))


def test_the_house_rules_hold():
  found = violations(ROOT)
  assert not found, "\n" + "\n".join(found)


# --- The test of the test --------------------------------------------------


@pytest.fixture
def plant(tmp_path):
  """Writes a file into a small tree and gives the violations there."""

  def write(name: str, text: str) -> list[str]:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return violations(tmp_path)

  for name in ("recjax/runs/record.py", "recjax/train/loop.py"):
    write(name, "from recjax import errors\nfrom recjax.data import splits\n")
    test = name.replace("recjax", "tests").replace(".py", "_test.py")
    write(test, "")
  return write


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("import os\nimport recjax.evaluation.protocol", "2: train (L3) imports "
     "evaluation (L3)"),
    ("from recjax.evaluation import protocol", "1: train (L3) imports "
     "evaluation (L3)"),
    ("from recjax import runs", "1: train (L3) imports runs (L3)"),
    ("from ..runs import record", "1: train (L3) imports runs (L3)"),
    ("from .. import cli", "1: train (L3) imports cli (L5)"),
    ("def f():\n  import recjax.experiment", "2: train (L3) imports "
     "experiment (L5)"),
    ("import recjax.gin_config", "1: train (L3) imports gin_config (L4)"),
    ("import recjax.new", "1: recjax.new has no level"),
    ("import gin", "1: gin is imported outside"),
    ("import os\nfrom gin import config", "2: gin is imported outside"),
    ("from __future__ import annotations", "1: from __future__"),
    ("def f():\n" + "  x = 1\n" * 60, "1: f has 61 lines, at most 60"),
    ("class A:\n  def f(self):\n" + "    x = 1\n" * 60, "2: f has 61 lines"),
    ("x = 1\n" * 401, "1: 401 lines, at most 400"),
  ],
)  # fmt: skip
def test_a_planted_violation_is_found(plant, text, expected):
  (found,) = plant("recjax/train/planted.py", text)[:1]
  assert found.startswith(f"recjax/train/planted.py:{expected}")


def test_what_is_allowed(plant):
  plant("tests/train/planted_test.py", "")
  allowed = """
    import typing
    from typing import TYPE_CHECKING
    import jax
    import recjax
    from recjax import __version__, files
    from recjax.config import names
    from recjax.models.sasrec import SASRec
    from recjax.train import loop
    from . import loop as other
    from .loop import train
    from ..data import splits
    if TYPE_CHECKING:
      from recjax.evaluation import protocol
    if typing.TYPE_CHECKING:
      import recjax.cli
  """
  assert plant("recjax/train/planted.py", allowed) == []
  assert plant("recjax/train/loop.py", "def f():\n" + "  x = 1\n" * 90) == []
  gin = "import gin\nfrom recjax.runs import record\n"
  assert plant("recjax/gin_config.py", gin) == []
  assert plant("recjax/cli.py", "from recjax import experiment\n") == []
  task = "from recjax.data import eval_set\n"
  plant("tests/tasks/next_test.py", "")
  assert plant("recjax/tasks/next.py", task) == []


def test_same_level_exceptions_have_a_direction(plant):
  plant("tests/data/a_test.py", "")
  found = plant("recjax/data/a.py", "from recjax.tasks import next_item\n")
  assert found == ["recjax/data/a.py:1: data (L2) imports tasks (L2)"]
  found = plant("recjax/experiment.py", "from recjax import cli\n")
  assert "recjax/experiment.py:1: experiment (L5) imports cli (L5)" in found


def test_names_and_missing_tests(plant):
  found = plant("recjax/data/sources/utils.py", "")
  assert found == [
    "recjax/data/sources/utils.py:1: 'utils' says nothing: name what it holds",
    "recjax/data/sources/utils.py:1: there is no "
    "tests/data/sources/utils_test.py",
  ]
  plant("tests/data/sources/utils_test.py", "")
  assert plant("recjax/helpers/__init__.py", "")[1:] == [
    "recjax/helpers/__init__.py:1: 'helpers' says nothing: name what it holds",
    "recjax/helpers/__init__.py:1: helpers has no level in "
    "tests/layering_test.py",
  ]
