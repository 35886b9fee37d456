"""Labels of tasks in rows: rules, where they count, how many there are."""

import numpy as np
import pytest

from recjax.data.label_columns import LabelRule
from recjax.errors import DataError
from recjax.tasks.position_bias import PositionTower
from recjax.tasks.task_labels import (
  LabelCounts,
  check_counts,
  count_labels,
  known_label,
  label_on_given,
  label_rules,
)
from recjax.tasks.task_objectives import Objective

NAN = np.nan
CLICK = Objective("click", position_biased=True)
BUY = Objective("buy", given="click", where="shown", truth="would_buy")
WATCH = Objective("watch", "secs", "real", log_label=True, given="click")
COLUMNS = {
  "click": [1, 1, 0, NAN, 1],
  "buy": [1, 0, 0, 1, NAN],
  "shown": [1, NAN, 1, 1, 1],
  "secs": [np.e - 1, 0, 5, 5, NAN],
}


def numbers(name):
  return np.array(COLUMNS[name], np.float32)


def test_rules_of_tasks_and_positions():
  tower = PositionTower(num_positions=3, columns=("device",), truth="seen")
  assert label_rules((CLICK, BUY, WATCH), tower) == (
    LabelRule("click"),
    LabelRule("buy", given="click"),
    LabelRule("shown"),
    LabelRule("secs", "log"),
    LabelRule("position", "position", 3, train_only=True),
    LabelRule("device", "number", train_only=True),
    LabelRule("seen", "number", train_only=True, in_batch=False),
    LabelRule("would_buy", in_batch=False),
  )


def test_where_a_label_counts():
  tasks = (CLICK, BUY, WATCH)
  found = known_label(BUY, numbers)
  np.testing.assert_array_equal(found, [1, NAN, 0, 1, NAN])
  found = label_on_given(tasks, BUY, numbers)
  np.testing.assert_array_equal(found, [1, NAN, NAN, NAN, NAN])
  found = label_on_given(tasks, WATCH, numbers)
  np.testing.assert_allclose(found, [1, 0, NAN, NAN, NAN], rtol=1e-6)
  np.testing.assert_array_equal(
    label_on_given(tasks, CLICK, numbers), COLUMNS["click"]
  )


def test_counts_over_blocks():
  entire = Objective("buy", given="click", space="entire")
  blocks = [
    {name: numbers(name)[rows] for name in COLUMNS}
    for rows in (slice(0, 2), slice(2, 5))
  ]
  judged = count_labels((CLICK, entire), blocks)
  assert judged == {"click": LabelCounts(4, 3), "buy": LabelCounts(2, 1)}
  # The entire space trains on what was not clicked as well.
  trained = count_labels((CLICK, entire), blocks, training=True)
  assert trained["buy"] == LabelCounts(4, 2)
  assert LabelCounts(3, 3).one_class and LabelCounts(3, 0).one_class
  assert not LabelCounts(3, 1).one_class


def check(counts, part="validation", select="auc/click"):
  counts = {"click": LabelCounts(9, 4)} | counts
  check_counts((CLICK, BUY), counts, name="shop", part=part, select=select)


def test_a_task_without_labels():
  message = (
    "shop train: no row has a label of the task 'buy', which the column 'buy'"
    " would tell where 'shown' is 1 and 'click' happened."
  )
  with pytest.raises(DataError, match=message):
    check({"buy": LabelCounts()}, part="train")
  check({"buy": LabelCounts(2, 1)}, part="train")


@pytest.mark.parametrize(
  ("select", "positive", "refused"),
  [
    ("auc/buy", 0, True),
    ("auc/buy", 5, True),
    ("gauc@user/buy", 0, True),
    ("auc/click*buy", 0, True),
    ("auc/click*buy", 5, False),  # Rows without a click are negatives.
    ("log_loss/buy", 0, False),
    ("auc/click", 0, False),
  ],
)
def test_a_metric_that_picks_the_weights_is_defined(
  select, positive, refused, caplog
):
  counts = {"buy": LabelCounts(5, positive)}
  if refused:
    with pytest.raises(DataError, match="TrainConfig.select names, is undef"):
      check(counts, select=select)
    return
  check(counts, select=select)
  label = 1 if positive else 0
  assert (
    f"shop validation: all 5 labels of the task 'buy' are {label}; its AUC is"
    " undefined." in caplog.text
  )
