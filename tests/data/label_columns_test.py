"""What columns of labels may hold, and which row is told."""

import numpy as np
import pytest

from recjax.data.label_columns import (
  LabelRule,
  check_labels,
  check_names,
  label_key,
  label_names,
)
from recjax.errors import ConfigError, DataError

NAN = np.nan


def check(rules, columns, **options):
  values = {name: np.array(x, np.float32) for name, x in columns.items()}
  check_labels(rules, values, name="rows", **options)


@pytest.mark.parametrize(
  ("kind", "good", "bad", "message"),
  [
    ("binary", [0, 1, NAN], 2, "holds 2; it must be 0, 1 or null"),
    ("binary", [0, 1, NAN], 0.5, "holds 0.5; it must be 0, 1 or null"),
    ("binary", [0, 1, NAN], -np.inf, "holds -inf; it must be 0, 1 or null"),
    ("real", [-3.5, 1e9, NAN], np.inf, "holds inf; it must be a finite"),
    ("log", [-0.9, 1e9, NAN], -1, "holds -1; .* above -1, or null"),
    ("log", [0.0, NAN], np.inf, "holds inf; .* above -1, or null"),
    ("number", [-1, 1e9], NAN, "holds None; it must be a finite number"),
    ("position", [1, 7], 8, "holds 8; a position must be .* from 1 to 7"),
    ("position", [1, 7], 0, "holds 0; a position must be"),
    ("position", [1, 7], 1.5, "holds 1.5; a position must be"),
    ("position", [1, 7], NAN, "holds None; a position must be"),
  ],
)
def test_what_each_kind_may_hold(kind, good, bad, message):
  rule = LabelRule("y", kind, last=7)
  check([rule], {"y": good})
  with pytest.raises(
    DataError, match=f"rows, row 102: column 'y' {message}.*2 such rows"
  ):
    check([rule], {"y": [good[0], good[1], bad, good[0], bad]}, first_row=100)


def test_a_conversion_without_a_click():
  rules = (LabelRule("click"), LabelRule("buy", given="click"))
  columns = {"click": [0, 1, NAN, 0, 0], "buy": [0, 1, 1, NAN, 1]}
  with pytest.raises(
    DataError,
    match="rows, row 4: column 'buy' is 1 where 'click' is 0.*1 such rows",
  ):
    check(rules, columns)
  columns["buy"][4] = 0
  check(rules, columns)  # Where a click is unknown it may have been one.


def test_a_conversion_that_is_masked_may_lack_its_click():
  rule = LabelRule("buy", given="click", masks=("shown", "told"))
  rules = (LabelRule("click"), rule)
  columns = {
    "click": [0, 0, 0],
    "buy": [1, 1, 0],
    "shown": [1, NAN, 1],
    "told": [0, 1, 1],
  }
  check(rules, columns)
  columns["told"][0] = 1
  with pytest.raises(DataError, match="rows, row 0: .*there are 1 such rows"):
    check(rules, columns)


def test_a_rule_of_training_rows_alone():
  rule = LabelRule("y", "position", last=2, train_only=True)
  check([rule], {"y": [3]}, part="test")
  with pytest.raises(DataError, match="holds 3"):
    check([rule], {"y": [3]}, part="train")


def test_names():
  rules = (
    LabelRule("click"),
    LabelRule("truth", in_batch=False),
    LabelRule("buy", given="click"),
    LabelRule("click", "real"),
  )
  assert label_names(rules) == ("click", "truth", "buy")
  assert label_names(rules, in_batch=True) == ("click", "buy")
  assert label_key("click") == "label/click"
  check_names(rules, ["a", "buy", "click", "truth"], "rows")
  with pytest.raises(
    DataError, match="rows has no column 'click'; .* Did you mean 'clicks'"
  ):
    check_names(rules, ["clicks", "buy"], "rows")
  with pytest.raises(ConfigError, match="LabelRule.kind must be one of"):
    LabelRule("y", "binry")
