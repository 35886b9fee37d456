"""Labels of tasks in rows: rules, where they count, how many there are."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.label_columns import LabelRule
from recjax.errors import DataError
from recjax.tasks.position_bias import PositionTower
from recjax.tasks.task_labels import (
  LabelCounts,
  base_rates,
  check_counts,
  count_labels,
  judged_labels,
  known_label,
  label_rules,
  served_name,
  trained_name,
)
from recjax.tasks.task_objectives import Objective, task_losses

NAN = np.nan
CLICK = Objective("click", position_biased=True)
BUY = Objective("buy", given="click", where="shown", truth="would_buy")
WATCH = Objective("watch", "secs", "real", log_label=True, given="click")
COLUMNS = {
  "click": [1, 1, 0, NAN, 1],
  "buy": [1, 0, 0, 1, NAN],
  "shown": [1, NAN, 1, 1, 1],
  "secs": [np.e - 1, 0, 5, 5, NAN],
  "would_buy": [1, 0, 1, 1, 0],
}


def numbers(name):
  return np.array(COLUMNS[name], np.float32)


def test_rules_of_tasks_and_positions():
  tower = PositionTower(num_positions=3, columns=("device",), truth="seen")
  assert label_rules((CLICK, BUY, WATCH), tower) == (
    LabelRule("click"),
    LabelRule("buy", given="click", masks=("shown",)),
    LabelRule("shown"),
    LabelRule("secs", "log"),
    LabelRule("position", "position", 3, train_only=True),
    LabelRule("device", "number", train_only=True),
    LabelRule("seen", "number", train_only=True, in_batch=False),
    LabelRule("would_buy", in_batch=False),
  )


def test_where_a_label_counts():
  found = known_label(BUY, numbers)
  np.testing.assert_array_equal(found, [1, NAN, 0, 1, NAN])
  found = dict(judged_labels((CLICK, BUY, WATCH), numbers))
  assert list(found) == ["click", "buy", "click*buy", "buy@all", "watch"]
  np.testing.assert_array_equal(found["click"], COLUMNS["click"])
  np.testing.assert_array_equal(found["buy"], [1, NAN, NAN, NAN, NAN])
  np.testing.assert_array_equal(found["click*buy"], [1, NAN, 0, NAN, NAN])
  np.testing.assert_array_equal(found["buy@all"], COLUMNS["would_buy"])
  np.testing.assert_allclose(found["watch"], [1, 0, NAN, NAN, NAN], rtol=1e-6)


def test_a_click_that_is_masked_is_unknown():
  click = Objective("click", where="shown")
  found = dict(judged_labels((click, Objective("buy", given="click")), numbers))
  np.testing.assert_array_equal(found["buy"], [1, NAN, NAN, NAN, NAN])
  np.testing.assert_array_equal(found["click*buy"], [1, NAN, 0, NAN, NAN])


def test_counts_over_blocks():
  entire = Objective("buy", given="click", space="entire")
  weight = np.array([2, 1, 0, 1, 3], np.float32)
  rows = (slice(0, 2), slice(2, 5))
  block = lambda cut: {name: numbers(name)[cut] for name in COLUMNS}
  blocks = [(block(cut), None) for cut in rows]
  counts = count_labels((CLICK, entire, WATCH), blocks)
  watched = counts.pop("watch")
  assert counts == {
    "click": LabelCounts(4, 0.0, 1.0, 4.0, 3.0),
    "buy": LabelCounts(2, 0.0, 1.0, 2.0, 1.0),
    "click*buy": LabelCounts(3, 0.0, 1.0, 3.0, 1.0),
  }
  assert watched.known == 2
  np.testing.assert_allclose(watched.mean, 0.5, rtol=1e-6)
  blocks = [(block(cut), weight[cut]) for cut in rows]
  counts = count_labels((CLICK, entire), blocks)
  assert counts["click"] == LabelCounts(3, 1.0, 1.0, 6.0, 6.0)
  assert counts["buy"] == LabelCounts(2, 0.0, 1.0, 3.0, 2.0)
  assert counts["click"].alike and not counts["buy"].alike
  assert count_labels((CLICK,), []) == {"click": LabelCounts()}


@pytest.mark.parametrize("space", ["given", "entire", "inverse"])
def test_the_rows_that_count_are_those_of_the_loss(space):
  """One row at a time: the loss says whether there is anything."""
  click = Objective("click", where="on")
  buy = Objective("buy", given="click", where="shown", space=space)
  values = [0.0, 1.0, NAN]
  rows = [
    {"click": c, "on": o, "buy": b, "shown": s, "weight": w}
    for c in values for o in values for b in values for s in values
    for w in (0.0, 0.5)
  ]  # fmt: skip
  present, known = [], []
  losses = jax.jit(
    lambda labels, weight: task_losses(
      (click, buy), jnp.zeros((1, 2)), labels, weight
    )
  )
  for row in rows:
    block = {name: np.array([x], np.float32) for name, x in row.items()}
    weight = block.pop("weight")
    present.append(losses(block, weight)[1].tolist())
    counts = count_labels((click, buy), [(block, weight)])
    known.append([counts[trained_name(o)].known > 0 for o in (click, buy)])
  assert known == present
  assert 0 < np.sum(present, axis=0)[1] < len(rows)


COUNTS = {
  name: LabelCounts(9, 0.0, 1.0, 9.0, 4.0)
  for name in ("click", "buy", "click*buy", "buy@all", "watch")
}


def check(counts, part="validation", select="auc/click", **options):
  tasks = (CLICK, BUY, WATCH)
  options = {"name": "shop", "part": part, "select": select} | options
  check_counts(tasks, COUNTS | counts, **options)


def test_a_task_without_labels():
  message = (
    "shop train: no row has a label of the task 'buy', which the column 'buy'"
    " would tell where 'shown' is 1 and 'click' happened."
  )
  with pytest.raises(DataError, match=message):
    check({"buy": LabelCounts()}, part="train")
  check({}, part="train")
  message = (
    "shop test: no row has a label in the column 'would_buy', the truth of the"
    " task 'buy'"
  )
  with pytest.raises(DataError, match=message):
    check({"buy@all": LabelCounts()}, part="test")
  check({"buy@all": LabelCounts()}, part="train")


def alike(label):
  return LabelCounts(5, float(label), float(label), 5.0, 5.0 * label)


@pytest.mark.parametrize(
  ("select", "counts", "refused"),
  [
    ("auc/buy", {"buy": alike(0)}, True),
    ("auc/buy", {"buy": alike(1)}, True),
    ("gauc@user/buy", {"buy": alike(0)}, True),
    ("auc/click*buy", {"click*buy": alike(0)}, True),
    ("auc/click*buy", {"buy": alike(1)}, False),
    ("auc/click*buy@served", {"click*buy": alike(0)}, True),
    ("gauc@user/click@served", {"click": alike(1)}, True),
    ("auc/watch@served", {"watch": alike(2.5)}, True),
    ("auc/watch@served", {"buy": alike(0)}, False),
    ("auc/buy@all", {"buy@all": alike(1)}, True),
    ("normalized_entropy/buy", {"buy": alike(1)}, True),
    ("log_loss/buy", {"buy": alike(0)}, False),
    ("auc/click", {"buy": alike(0)}, False),
    ("last", {"click": alike(0)}, False),
  ],
)
def test_a_metric_that_picks_the_weights_is_defined(select, counts, refused):
  if not refused:
    check(counts, select=select)
    return
  ((judged, found),) = counts.items()
  message = (
    f"shop validation: all 5 labels of the task {judged!r} are {found.low:g},"
    f" so that {select!r}, which TrainConfig.select names, is undefined."
  )
  with pytest.raises(DataError, match=re.escape(message)):
    check(counts, select=select)


def test_labels_that_are_alike_are_told(caplog):
  check({"buy": alike(1), "watch": alike(3)})
  told = "shop validation: all 5 labels of the task 'buy' are 1; its AUC is"
  assert told in caplog.text and "'watch'" not in caplog.text
  # The entropy of the training rate is one of two classes.
  select = "normalized_entropy/buy"
  check({"buy": alike(1)}, select=select, training_rate=True)


def test_base_rates():
  counts = COUNTS | {"watch": alike(2.5), "buy@all": LabelCounts()}
  tasks = (CLICK, BUY, WATCH)
  rates = base_rates(tasks, counts, name="shop")
  rate = pytest.approx(4 / 9)
  assert rates == {"click": rate, "buy": rate, "click*buy": rate, "watch": 2.5}
  with pytest.raises(DataError, match="shop train: 'buy@all' has no label, an"):
    base_rates(tasks, counts, name="shop", needed=True)
  counts = COUNTS | {"click": alike(1)}
  assert "click" not in base_rates(tasks, counts, name="shop")
  with pytest.raises(DataError, match="all 5 labels of the task 'click' are 1"):
    base_rates(tasks, counts, name="shop", needed=True)


def test_names_of_what_is_judged_and_trained():
  assert [served_name(o) for o in (CLICK, BUY, WATCH)] == [
    "click", "click*buy", "watch",
  ]  # fmt: skip
  entire = Objective("buy", given="click", space="entire")
  assert trained_name(entire) == "click*buy" and trained_name(BUY) == "buy"
