"""Values of a gin text: references, macros, the canonical text."""

import pytest

from recjax import errors
from recjax.config import values

MACRO = values.Reference("", "DIM", "%")
MADE = values.Reference("big", "m.Tower", "@()")
CLASS = values.Reference("", "m.Tower", "@")


def test_references_are_written_as_gin_writes_them():
  assert repr((MACRO, [MADE], {"a": CLASS})) == (
    "(%DIM, [@big/m.Tower()], {'a': @m.Tower})"
  )


def test_references_are_found_anywhere():
  value = {"a": (1, [MADE]), MACRO: "%text", "b": CLASS}
  assert set(values.references(value)) == {MACRO, MADE, CLASS}


def test_map_references_keeps_the_rest():
  value = {"a": (1, [MACRO]), MACRO: "x"}
  mapped = values.map_references(value, lambda reference: reference.target)
  assert mapped == {"a": (1, ["DIM"]), "DIM": "x"}
  assert type(mapped["a"]) is tuple


def test_has_list():
  assert values.has_list(({"a": [1]},))
  assert not values.has_list(({"a": (1, "[]")}, MADE))


def test_inline_follows_macros_of_macros():
  bound = {
    ("", "DIM", ""): values.Reference("", "SIZE", "%"),
    ("", "SIZE", ""): (8, MADE),
  }
  assert values.inline((MACRO, 1), bound) == ((8, MADE), 1)
  bound["", "SIZE", ""] = (MACRO,)
  with pytest.raises(errors.ConfigError, match="%DIM -> %SIZE -> %DIM"):
    values.inline(MACRO, bound)


def test_canonical_text():
  bound = {
    ("b", "m.Tower", "dim"): MACRO,
    ("", "m.Adam", "rate"): 0.1,
    ("", "DIM", ""): 64,
    ("", "m.Run", "seed"): 1,
    ("", "m.Run", "init_seed"): 2,
  }
  assert values.canonical_text(bound) == (
    "b/m.Tower.dim = 64\nm.Adam.rate = 0.1\nm.Run.init_seed = 2\n"
    "m.Run.seed = 1\n"
  )
  without = values.canonical_text(bound, without=("seed", "Adam.rate"))
  assert without == "b/m.Tower.dim = 64\nm.Run.init_seed = 2\n"


def test_keys_of_bindings():
  macro = values.Binding(1, "a", "DIM", "", 3)
  assert macro.is_macro and macro.key("ignored") == ("", "a/DIM", "")
  bound = values.Binding(1, "a", "t.Tower", "dim", 3)
  assert bound.key("m.Tower") == ("a", "m.Tower", "dim")
  assert values.write_key(bound.key("m.Tower")) == "a/m.Tower.dim"
