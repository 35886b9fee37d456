"""Lattices of weights, and fronts that no test row has a say in."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recjax.errors import ConfigError
from recjax.evaluation.served_front import (
  ParetoFront,
  ServedPart,
  served_front,
)
from recjax.evaluation.served_score import ServedTarget, served_values
from recjax.tasks.task_objectives import Objective

OBJECTIVES = (Objective("click"), Objective("like"))


def part(seed: int, pull: float = -0.5) -> ServedPart:
  """Two tasks that pull apart."""
  rng = np.random.default_rng(seed)
  first = rng.normal(size=400)
  second = pull * first + rng.normal(size=400)
  logits = np.stack([first, second], axis=1)
  labels = rng.random((400, 2)) < 1 / (1 + np.exp(-logits))
  targets = [
    ServedTarget(o.name, "binary", label.astype(np.float32))
    for o, label in zip(OBJECTIVES, labels.T)
  ]
  noisy = logits + 0.3 * rng.normal(size=logits.shape)
  return ServedPart(served_values(OBJECTIVES, noisy), targets)


def test_two_tasks_have_evenly_spaced_weights():
  found = ParetoFront(5).weights(2)
  first = np.linspace(0, 1, 5)
  np.testing.assert_allclose(found, np.stack([first, 1 - first], axis=1))


@pytest.mark.parametrize("num_tasks", [3, 4])
def test_more_tasks_have_a_lattice(num_tasks):
  found = ParetoFront(4).weights(num_tasks)
  steps = itertools.product(range(4), repeat=num_tasks)
  expected = {step for step in steps if sum(step) == 3}
  assert {tuple(np.rint(3 * row).astype(int)) for row in found} == expected
  assert len(found) == len(expected)
  np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_bad_settings_are_told():
  with pytest.raises(ConfigError, match="num_weights must lie"):
    ParetoFront(1)
  with pytest.raises(ConfigError, match="must be one of"):
    ParetoFront(combine="max")
  with pytest.raises(ConfigError, match="two tasks or more; there is 1"):
    ParetoFront().weights(1)
  with pytest.raises(ConfigError, match="makes 10,626 points of 5 tasks"):
    ParetoFront(21).weights(5)


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_each_point_has_the_aucs_of_its_score(combine):
  parts = {"validation": part(0), "test": part(1)}
  found = served_front(ParetoFront(7, combine), ["click", "like"], parts)
  assert found.judged == ("click", "like")
  for name, rows in parts.items():
    p = rows.values.value
    for point, values in zip(found.weights, getattr(found, name)):
      score = p @ point if combine == "sum" else np.prod(p**point, axis=1)
      expected = [roc_auc_score(t.label, score) for t in rows.targets]
      np.testing.assert_allclose(values, expected, atol=1e-9)
  # The ends are the tasks alone, and each is best at its own.
  assert found.validation[-1, 0] == found.validation[:, 0].max()
  assert found.validation[0, 1] == found.validation[:, 1].max()
  told = found.to_dict()
  assert 0 < told["hypervolume"]["test"] < 0.25


def test_the_front_is_that_of_the_validation():
  parts = {"validation": part(0), "test": part(1)}
  found = served_front(ParetoFront(), ["click", "like"], parts)
  for place, values in enumerate(found.validation):
    beaten = (found.validation >= values).all(axis=1)
    beaten &= (found.validation > values).any(axis=1)
    assert found.on_front[place] == (not beaten.any())
  # Other test rows change what is told, and nothing that is chosen.
  parts["test"] = part(2, pull=0.9)
  other = served_front(ParetoFront(), ["click", "like"], parts)
  np.testing.assert_array_equal(other.on_front, found.on_front)
  assert (other.test != found.test).any()


def test_labels_and_weights_that_do_not_count():
  whole, kept = part(0), np.arange(400) % 4 != 0
  label = np.where(kept, whole.targets[0].label, np.nan)
  targets = [ServedTarget("click", "binary", label), whole.targets[1]]
  weight = np.where(np.arange(400) % 7 == 0, 0.0, 2.0)
  masked = ServedPart(whole.values, targets, weight)
  found = served_front(
    ParetoFront(2), ["click", "like"], {"validation": masked, "test": whole}
  )
  rows = kept & (weight > 0)
  expected = roc_auc_score(label[rows], whole.values.log[rows, 0])
  assert found.validation[1, 0] == pytest.approx(expected)


def test_an_undefined_auc_is_on_no_front():
  whole = part(0)
  ones = ServedTarget("like", "binary", np.ones(400))
  flat = ServedPart(whole.values, [whole.targets[0], ones])
  found = served_front(
    ParetoFront(3), ["click", "like"], {"validation": flat, "test": whole}
  )
  assert np.isnan(found.validation[:, 1]).all() and not found.on_front.any()
