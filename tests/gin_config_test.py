"""Gin files and flags: what is read, what is made, and every refusal."""

import importlib
import pathlib
import subprocess
import sys
import textwrap

import pytest

from recjax import errors, gin_config

MODELS = '''
import dataclasses

import flax.linen as nn

from recjax import errors


class Counter:
  """Remembers how many of it were made."""

  made = 0

  def __init__(self):
    Counter.made += 1


@dataclasses.dataclass(frozen=True)
class Adam:
  learning_rate: float = 0.001
  clip: float | None = None

  def __post_init__(self):
    errors.check_range("learning_rate", self.learning_rate, 0.0, 1.0)


class Tower(nn.Module):
  hidden_dims: tuple[int, ...] = (8,)
  dropout_rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Experiment:
  model: object
  optimizer: object = None
  batch_size: int = 32
  seed: int = 0
  pair: tuple = ()


def broken():
  raise errors.DataError("ratings.dat is truncated")


def linear_decay(rate=1.0, steps=10):
  return rate / steps


CONSTANT = 3
'''

BASE = """
from __gin__ import dynamic_registration
from fixture_models import parts

BATCH_SIZE = 64
parts.Experiment.batch_size = %BATCH_SIZE
parts.Experiment.model = @parts.Tower()
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
  folder = tmp_path_factory.mktemp("on_path")
  package = folder / "fixture_models"
  package.mkdir()
  (package / "__init__.py").write_text("")
  (package / "parts.py").write_text(MODELS)
  (package / "broken_module.py").write_text("import no_such_thing_at_all\n")
  sys.path.insert(0, str(folder))
  importlib.invalidate_caches()
  yield importlib.import_module("fixture_models.parts")
  sys.path.remove(str(folder))


@pytest.fixture
def root(tmp_path, parts) -> pathlib.Path:
  """A gin folder that holds runs/base.gin."""
  write(tmp_path, "runs/base.gin", BASE)
  return tmp_path


def write(folder: pathlib.Path, name: str, text: str) -> str:
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(textwrap.dedent(text))
  return name


def make(root, parts, *names, flags=()):
  gin_config.parse(names or ("runs/base.gin",), flags, [root])
  return gin_config.construct(parts.Experiment)


def refusal(root, parts, *names, flags=()) -> str:
  with pytest.raises(errors.ConfigError) as info:
    make(root, parts, *names, flags=flags)
  return str(info.value)


def hash_of(root, parts, *names, flags=(), without=()) -> str:
  make(root, parts, *names, flags=flags)
  return gin_config.config_hash(gin_config.operative_text(), without=without)


# --- What is made ----------------------------------------------------------


def test_makes_the_root_from_file_and_flags(root, parts):
  experiment = make(
    root,
    parts,
    flags=[
      "BATCH_SIZE=16",
      "Experiment.seed = 7",
      "parts.Tower.hidden_dims=(4, 2)",
      "parts.Experiment.optimizer=@parts.Adam()",
      "Adam.learning_rate=1e-2",
    ],
  )
  assert type(experiment) is parts.Experiment
  assert (experiment.batch_size, experiment.seed) == (16, 7)
  assert type(experiment.model) is parts.Tower
  assert experiment.model.hidden_dims == (4, 2)
  assert experiment.optimizer == parts.Adam(0.01)
  assert hash(experiment.model) == hash(parts.Tower(hidden_dims=(4, 2)))


def test_the_root_of_no_file_has_its_defaults(parts):
  gin_config.parse((), ())
  assert gin_config.construct(parts.Adam) == parts.Adam()


def test_later_files_override_and_includes_are_relative_to_the_root(
  root, parts
):
  write(root, "runs/top.gin", "include 'runs/base.gin'\nBATCH_SIZE = 8\n")
  write(root, "overlays/tiny.gin", "BATCH_SIZE = 2\n")
  assert make(root, parts, "runs/top.gin").batch_size == 8
  tiny = make(root, parts, "runs/top.gin", "overlays/tiny.gin")
  assert tiny.batch_size == 2


def test_a_file_is_found_from_any_folder(root, parts, monkeypatch):
  monkeypatch.chdir(root / "runs")
  assert make(root, parts, "base.gin").batch_size == 64
  monkeypatch.chdir("/")
  assert make(root, parts, str(root / "runs" / "base.gin")).batch_size == 64
  assert make(root, parts, "runs/base.gin").batch_size == 64


def test_the_config_text_can_be_parsed_again(root, parts):
  flags = [
    "Experiment.pair=(@one/parts.Tower(), %BATCH_SIZE)",
    "one/Tower.dropout_rate=0.5",
  ]
  text = gin_config.parse(["runs/base.gin"], flags, [root])
  first = gin_config.construct(parts.Experiment)
  first_hash = gin_config.config_hash(gin_config.operative_text())
  (root / "config.gin").write_text(text)
  (root / "operative.gin").write_text(gin_config.operative_text())
  for name in ("config.gin", "operative.gin"):
    assert make(root, parts, name) == first
    text = gin_config.operative_text()
    assert gin_config.config_hash(text) == first_hash


def test_macros_make_new_objects_and_a_singleton_makes_one(root, parts):
  uses = "parts.Experiment.pair = (%ONE, %ONE)\n"
  write(root, "runs/new.gin", BASE + "ONE = @parts.Counter()\n" + uses)
  a, b = make(root, parts, "runs/new.gin").pair
  assert a is not b
  singleton = """
ONE = @it/gin.singleton()
it/gin.singleton.constructor = @parts.Counter
"""
  write(root, "runs/one.gin", BASE + singleton + uses)
  a, b = make(root, parts, "runs/one.gin").pair
  assert a is b
  text = gin_config.parse(["runs/one.gin"], (), [root])
  (root / "again.gin").write_text(text)
  a, b = make(root, parts, "again.gin").pair
  assert a is b


def test_files_with_one_name_for_two_modules(root, parts):
  write(
    root,
    "models/fraction.gin",
    """
    from __gin__ import dynamic_registration
    import fractions as parts
    parts.Fraction.numerator = 3
    """,
  )
  write(
    root,
    "runs/two.gin",
    "include 'models/fraction.gin'\n"
    + BASE
    + "import fractions\nparts.Experiment.pair = (@fractions.Fraction(),)",
  )
  assert make(root, parts, "runs/two.gin").pair == (3,)


def test_bindings_of_a_class_called_later_count_as_used(root, parts):
  flags = [
    "RATE=0.5",
    "Experiment.optimizer=@parts.linear_decay",
    "parts.linear_decay.rate=%RATE",
  ]
  write(root, "runs/rate.gin", "include 'runs/base.gin'\nRATE = 0.25\n")
  experiment = make(root, parts, "runs/rate.gin", flags=flags)
  assert "\nparts.linear_decay.rate = %RATE" in gin_config.operative_text()
  before = gin_config.config_hash(gin_config.operative_text())
  assert experiment.optimizer() == 0.05
  flags[0] = "RATE=0.75"
  assert hash_of(root, parts, "runs/rate.gin", flags=flags) != before
  (root / "operative.gin").write_text(gin_config.operative_text())
  assert make(root, parts, "operative.gin").optimizer() == 0.075


def test_scopes(root, parts):
  pair = "Experiment.pair=(@a/parts.Adam(), @b/parts.Adam())"
  flags = [pair, "a/Adam.clip=1.0", "Adam.learning_rate=0.5"]
  a, b = make(root, parts, flags=flags).pair
  assert (a, b) == (parts.Adam(0.5, 1.0), parts.Adam(0.5))
  hidden = ["a/Adam.learning_rate=0.1", "b/Adam.learning_rate=0.2"]
  message = refusal(root, parts, flags=flags + hidden)
  assert "nothing uses" in message
  assert "--gin.Adam.learning_rate: fixture_models.parts.Adam" in message


def test_the_text_is_one_that_people_read(root, parts):
  text = gin_config.parse(["runs/base.gin"], ["Tower.hidden_dims=(2,)"], [root])
  lines = [line for line in text.splitlines() if line and line[0] != "#"]
  assert lines == [
    "from __gin__ import dynamic_registration",
    "from fixture_models import parts",
    "BATCH_SIZE = 64",
    "parts.Experiment.batch_size = %BATCH_SIZE",
    "parts.Experiment.model = @parts.Tower()",
    "parts.Tower.hidden_dims = (2,)",
  ]


# --- The hash --------------------------------------------------------------


def test_hash_does_not_depend_on_the_spelling(root, parts):
  base = hash_of(root, parts)
  assert len(base) == 12 and int(base, 16) >= 0
  write(
    root,
    "runs/other.gin",
    """
    # Another order, another import, no macro, a default written out.
    from __gin__ import dynamic_registration
    import fixture_models.parts as p
    p.Tower:
      dropout_rate = 0.10  # As it is.
    p.Experiment.model = @p.Tower()
    p.Experiment.seed = 0
    include 'models/size.gin'
    """,
  )
  write(
    root,
    "models/size.gin",
    """
    from __gin__ import dynamic_registration
    import fixture_models.parts
    fixture_models.parts.Experiment.batch_size = %SIZE
    SIZE = 64
    """,
  )
  assert hash_of(root, parts, "runs/other.gin") == base
  assert hash_of(root, parts, flags=["Tower.hidden_dims=(8,)"]) == base


def test_hash_depends_on_every_value(root, parts):
  hashes = {
    hash_of(root, parts, flags=flags)
    for flags in (
      [],
      ["BATCH_SIZE=65"],
      ["BATCH_SIZE=64.0"],
      ["Experiment.seed=1"],
      ["Experiment.pair=(%BATCH_SIZE,)"],
      ["Experiment.pair=(@a/parts.Adam(),)"],
    )
  }
  assert len(hashes) == 6


def test_hash_without_the_seed(root, parts):
  without = ("Experiment.seed",)
  one = hash_of(root, parts, flags=["Experiment.seed=1"], without=without)
  two = hash_of(root, parts, flags=["Experiment.seed=2"], without=without)
  assert one == two != hash_of(root, parts, flags=["Experiment.seed=1"])


# --- What is refused -------------------------------------------------------


def test_no_such_file(root, parts):
  message = refusal(root, parts, "runs/bas.gin")
  assert "no gin file 'runs/bas.gin'" in message
  assert str(pathlib.Path().absolute()) in message and str(root) in message
  assert "Did you mean 'runs/base.gin'?" in message


def test_no_such_include(root, parts):
  write(root, "runs/top.gin", "X = 1\ninclude 'runs/nothing.gin'\n")
  message = refusal(root, parts, "runs/top.gin")
  assert f"{root}/runs/top.gin:2: no gin file 'runs/nothing.gin'" in message
  assert "looked in" in message


def test_a_missing_file_in_a_fresh_process(root):
  # gin-config alone raises AttributeError: it never imports importlib.util.
  code = "from recjax import gin_config; gin_config.parse(['no/such.gin'])"
  result = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=False
  )
  assert "ConfigError: no gin file 'no/such.gin'" in result.stderr


def test_includes_in_a_circle(root, parts):
  write(root, "runs/a.gin", "include 'runs/b.gin'\n")
  write(root, "runs/b.gin", "include 'runs/a.gin'\n")
  assert "include each other" in refusal(root, parts, "runs/a.gin")


def test_an_include_that_undoes_an_override(root, parts):
  write(root, "runs/top.gin", "BATCH_SIZE = 8\ninclude 'runs/base.gin'\n")
  message = refusal(root, parts, "runs/top.gin")
  assert f"{root}/runs/top.gin:2: the include undoes BATCH_SIZE = 8" in message
  assert f"{root}/runs/base.gin:5" in message and "includes first" in message


@pytest.mark.parametrize(
  ("line", "expected"),
  [
    ("from fixture_models import part", "Did you mean 'fixture_models.parts'"),
    ("import fixture_model.parts", "no module 'fixture_model'"),
    ("from fixture_models.parts import Adam", "is a module and no package"),
    ("import fixture_models.broken_module", "No module named 'no_such_thing"),
    ("from __gin__ import dynamic_registratio", "__gin__.dynamic_registration"),
    ("import os as gin", "'gin' is the name of gin itself"),
    ("parts.Towr.dropout_rate = 0.2", "Did you mean 'Tower'?"),
    ("part.Tower.dropout_rate = 0.2", "Did you mean 'parts'?"),
    ("parts.Tower.dropout = 0.2", "Did you mean 'dropout_rate'?"),
    ("parts.Towr:\n  dropout_rate = 0.2", "Did you mean 'Tower'?"),
    ("parts.CONSTANT.x = 1", "no class or function"),
    ("parts.Experiment.optimizer = @parts.Adm()", "Did you mean 'Adam'?"),
    ("parts.Experiment.seed = %BATCH_SIZ", "Did you mean 'BATCH_SIZE'?"),
    ("parts.Tower.hidden_dims = [4, 2]", "Write a tuple"),
    ("parts.Experiment.pair = ({'a': [1]},)", "Write a tuple"),
    ("parts.Experiment.seed = %gin.REQUIRED", "seed must be given"),
    ("parts.Experiment.seed = ", "Unable to parse value"),
    ("parts.Experiment.seed = (1,", "multi-line statement"),
    ("parts.Experiment.seed = adam", "Failed to parse token 'adam'"),
    ("parts.Experiment.seed", "expected ':' or '='"),
  ],
)
def test_a_line_that_is_wrong(root, parts, line, expected):
  write(root, "runs/bad.gin", BASE + line + "\n")
  message = refusal(root, parts, "runs/bad.gin")
  assert expected in message
  assert f"{root}/runs/bad.gin:" in message


def test_the_line_of_a_syntax_error(root, parts):
  write(root, "runs/bad.gin", "A = 1\n\n# Comment.\nB == 2\n")
  message = refusal(root, parts, "runs/bad.gin")
  assert f"{root}/runs/bad.gin:4: " in message and "B == 2" in message


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("BATCH_SIZ=64", "Did you mean 'BATCH_SIZE'?"),
    ("BATCH_SIZE", "write --gin.NAME=VALUE"),
    ("BATCH_SIZE=", "write --gin.NAME=VALUE"),
    ("BATCH_SIZE=big", "--gin.BATCH_SIZE=\"'text'\""),
    ("BATCH_SIZE=1\nX = 2", "is not a value of gin"),
    ("BATCH_SIZE=[1]", "Write a tuple"),
    ("Experimnt.seed=1", "Did you mean 'Experiment'?"),
    ("Experiment.sed=1", "Did you mean 'seed'?"),
    ("parts.Tower.dropout=0.1", "Did you mean 'dropout_rate'?"),
    ("Experiment.seed=%BATCH_SIZ", "Did you mean 'BATCH_SIZE'?"),
    ("BATCH_SIZE=%BATCH_SIZE", "macros hold each other"),
  ],
)
def test_a_flag_that_is_wrong(root, parts, flag, expected):
  message = refusal(root, parts, flags=[flag])
  assert expected in message
  assert "--gin." in message or "hold each other" in message


def test_a_binding_that_nothing_uses(root, parts):
  write(
    root,
    "runs/bad.gin",
    BASE + "parts.Adam.learning_rate = 0.1\nBATCH_SIZES = 3\n",
  )
  message = refusal(root, parts, "runs/bad.gin")
  assert "nothing uses these settings" in message
  assert (
    f"{root}/runs/bad.gin:8: fixture_models.parts.Adam.learning_rate" in message
  )
  assert f"{root}/runs/bad.gin:9: BATCH_SIZES" in message
  assert "Did you mean 'BATCH_SIZE'?" in message


def test_a_constructor_that_refuses(root, parts):
  flags = ["Experiment.optimizer=@parts.Adam()", "Adam.learning_rate=%RATE"]
  write(root, "runs/rate.gin", BASE + "RATE = 2.0\n")
  message = refusal(root, parts, "runs/rate.gin", flags=flags)
  assert message == (
    "Adam: learning_rate must lie in [0.0, 1.0]; got 2.0. "
    "(learning_rate = %RATE in --gin.Adam.learning_rate; RATE is set in "
    f"{root}/runs/rate.gin:8)"
  )


def test_a_value_that_is_missing(root, parts):
  write(
    root,
    "runs/bad.gin",
    """
    from __gin__ import dynamic_registration
    from fixture_models import parts
    parts.Experiment.seed = 1
    """,
  )
  message = refusal(root, parts, "runs/bad.gin")
  assert "Experiment" in message and "'model'" in message


def test_an_error_of_the_data_stays_one(root, parts):
  flags = ["Experiment.optimizer=@parts.broken()"]
  with pytest.raises(errors.DataError, match="^broken: ratings.dat is trunc"):
    make(root, parts, flags=flags)


def test_a_refused_config_leaves_the_one_before(root, parts):
  make(root, parts)
  refusal(root, parts, flags=["BATCH_SIZ=1"])
  assert gin_config.construct(parts.Experiment).batch_size == 64
