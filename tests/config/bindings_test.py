"""Bindings of statements given by hand; with gin files: gin_config_test."""

import pytest

from recjax import errors
from recjax.config import bindings, values

FRACTIONS = values.Import(1, "fractions", "fractions", "fractions")
DECIMALS = values.Import(2, "decimal", "d", "decimal")


def make(tmp_path, texts):
  """Bindings whose files hold the given statements."""
  for name in texts:
    (tmp_path / name).write_text(name)
  made = bindings.Bindings(lambda text, name: texts[text], (tmp_path,))
  made.add_file(tmp_path / next(iter(texts)))
  return made


def test_names_are_resolved_and_the_last_binding_wins(tmp_path):
  made_of = values.Reference("s", "d.Context", "@()")
  made = make(
    tmp_path,
    {
      "a.gin": [
        FRACTIONS,
        DECIMALS,
        values.Include(3, "b.gin"),
        values.Binding(4, "", "ONE", "", 1),
        values.Binding(5, "", "fractions.Fraction", "numerator", made_of),
      ],
      "b.gin": [
        values.Import(1, "fractions", "f", "fractions"),
        values.Binding(2, "", "f.Fraction", "numerator", 3),
        values.Binding(3, "x", "f.Fraction", "numerator", 4),
      ],
    },
  )
  resolved = values.Reference("s", "decimal.Context", "@()")
  assert made.values == {
    ("", "ONE", ""): 1,
    ("", "fractions.Fraction", "numerator"): resolved,
    ("x", "fractions.Fraction", "numerator"): 4,
  }
  assert made.places["", "ONE", ""] == f"{tmp_path}/a.gin:4"
  assert made.places["x", "fractions.Fraction", "numerator"].endswith("b.gin:3")
  assert made.text().splitlines() == [
    "from __gin__ import dynamic_registration",
    "import decimal",
    "import fractions",
    "fractions.Fraction.numerator = @s/decimal.Context()",
    "x/fractions.Fraction.numerator = 4",
    "ONE = 1",
  ]
  made.check()


def test_modules_of_one_name_are_told_apart(tmp_path):
  made = make(
    tmp_path,
    {
      "a.gin": [
        values.Import(1, "os.path", "p", "os.path"),
        values.Import(
          2, "importlib.resources.abc", "a", "importlib.resources.abc"
        ),
        values.Import(3, "collections.abc", "b", "collections.abc"),
        values.Binding(
          4, "", "A", "", values.Reference("", "a.Traversable", "@")
        ),
        values.Binding(5, "", "B", "", values.Reference("", "b.Sized", "@")),
      ],
    },
  )
  assert made.text().splitlines()[1:] == [
    "from collections import abc",
    "from importlib.resources import abc as importlib_resources_abc",
    "A = @importlib_resources_abc.Traversable",
    "B = @abc.Sized",
  ]


def test_an_import_counts_in_its_file_only(tmp_path):
  texts = {
    "a.gin": [
      values.Include(1, "b.gin"),
      values.Binding(2, "", "fractions.Fraction", "numerator", 1),
    ],
    "b.gin": [FRACTIONS],
  }
  with pytest.raises(errors.ConfigError, match="nothing is imported as 'frac"):
    make(tmp_path, texts)


def test_a_file_that_is_no_text(tmp_path):
  (tmp_path / "a.gin").write_bytes(b"\xff\xfe")
  made = bindings.Bindings(lambda text, name: [], ())
  with pytest.raises(errors.ConfigError, match="a.gin can not be read"):
    made.add_file(tmp_path / "a.gin")


def test_an_undefined_macro(tmp_path):
  macro = values.Reference("", "SIZE", "%")
  made = make(tmp_path, {"a.gin": [values.Binding(1, "", "DIM", "", macro)]})
  with pytest.raises(errors.ConfigError, match="a.gin:1: DIM uses %SIZE"):
    made.check()
