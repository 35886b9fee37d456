"""Towers and propensities: losses by hand, their means, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa
import pytest
from scipy.special import expit

from recjax.balancing.fixed_weights import FixedWeights
from recjax.balancing.pcgrad import PCGrad
from recjax.data.examples import Examples
from recjax.data.propensities.swap import SwapIntervention
from recjax.embeddings.groups import CategoricalField, TableSettings
from recjax.errors import ConfigError, DataError
from recjax.layers.heads.shared_bottom import SharedBottom
from recjax.models.multi_task import MultiTask
from recjax.tasks.multi_task import MultiTaskRanking
from recjax.tasks.position_bias import (
  TOWER,
  PositionTower,
  Propensities,
  biased_label,
  check_position_bias,
)
from recjax.tasks.task_objectives import Objective, task_losses
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.state import init_state
from recjax.train.step import make_step

RNG = np.random.default_rng(0)
NUM = 40
CLICK = Objective("click", position_biased=True)
BUY = Objective("buy", given="click", space="entire")
LIKE = Objective("like")
KEY = jax.random.key(0)
LOGITS = RNG.normal(size=(NUM, 3)).astype(np.float32)
CLICKS = RNG.integers(0, 2, NUM).astype(np.float32)
BUYS = CLICKS * RNG.integers(0, 2, NUM)
LIKES = RNG.integers(0, 2, NUM).astype(np.float32)
POSITION = RNG.integers(1, 4, NUM).astype(np.float32)
DEVICE = RNG.normal(size=NUM).astype(np.float32)
LABELS = {
  name: jnp.asarray(values)
  for name, values in (
    ("click", CLICKS),
    ("buy", BUYS),
    ("like", LIKES),
    ("position", POSITION),
    ("device", DEVICE),
  )
}
ROWS = Examples.from_table(
  "rows", pa.table({k: np.asarray(v) for k, v in LABELS.items()}), label="click"
)


def cross_entropy(p, y):
  return -np.log(p) * y - np.log1p(-p) * (1 - y)


def losses_of(bias, objectives=(CLICK, BUY, LIKE), params=None):
  logits, labels = bias.observed(
    objectives, jnp.asarray(LOGITS), LABELS, params or {}, KEY
  )
  losses, _ = task_losses(objectives, logits, labels, jnp.ones(NUM))
  return np.asarray(losses)


def drawn(tower):
  params = tower.init(KEY)
  return jax.tree.map(
    lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params
  )


@pytest.mark.parametrize("columns", [(), ("device",)])
@pytest.mark.parametrize("combine", ["product", "sum"])
def test_a_tower_is_in_the_loss_of_what_is_observed(combine, columns):
  tower = PositionTower(num_positions=3, combine=combine, columns=columns)
  tower = tower.fitted(ROWS, "click")
  params = drawn(tower)
  leaves = jax.tree.map(np.asarray, params)
  x = leaves["position"]["embedding"][POSITION.astype(int) - 1]
  if columns:
    x = np.concatenate([x, DEVICE[:, None]], axis=1)
  layer, output = leaves["layers"]["layer_0"], leaves["output"]
  x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
  place = (x @ output["kernel"] + output["bias"])[:, 0].astype(np.float64)
  p = expit(LOGITS.astype(np.float64))
  if combine == "product":
    seen = expit(place) * p[:, 0]
  else:
    seen = expit(place + LOGITS[:, 0])
  expected = [
    cross_entropy(seen, CLICKS).mean(),
    cross_entropy(seen * p[:, 1], BUYS).mean(),
    cross_entropy(p[:, 2], LIKES).mean(),
  ]
  np.testing.assert_allclose(
    losses_of(tower, params=params), expected, rtol=1e-4
  )


def test_propensities_weigh_clicks_and_are_clipped():
  bias = Propensities((1.0, 0.5, 0.1), min_propensity=0.25)
  bias = bias.fitted(ROWS, "click")
  inverse = 1 / np.array([1.0, 0.5, 0.25])[POSITION.astype(int) - 1]
  p = expit(LOGITS.astype(np.float64))
  both = p[:, 0] * p[:, 1]

  def weighed(p, y):
    y = y * inverse
    return (y * cross_entropy(p, 1) + (1 - y) * cross_entropy(p, 0)).mean()

  expected = [
    weighed(p[:, 0], CLICKS),
    weighed(both, BUYS),
    cross_entropy(p[:, 2], LIKES).mean(),
  ]
  np.testing.assert_allclose(losses_of(bias), expected, rtol=1e-4)


def test_weighed_clicks_have_the_loss_of_relevance_in_the_mean():
  num = 400_000
  random = np.random.default_rng(1)
  logit = random.normal(size=num).astype(np.float32)
  relevant = random.random(num) < expit(0.5 - logit)
  position = random.integers(1, 4, num)
  propensity = np.array([1.0, 0.6, 0.3])
  click = relevant & (random.random(num) < propensity[position - 1])
  arrays = {
    "click": jnp.asarray(click, jnp.float32),
    "position": jnp.asarray(position, jnp.float32),
  }
  bias = Propensities(tuple(propensity.tolist())).fitted(ROWS, "click")
  logits, labels = bias.observed(
    (CLICK,), jnp.asarray(logit[:, None]), arrays, {}, KEY
  )
  loss = task_losses((CLICK,), logits, labels, jnp.ones(num))[0][0]
  p = expit(logit.astype(float))
  truth = cross_entropy(p, relevant.astype(float)).mean()
  naive = cross_entropy(p, click.astype(float)).mean()
  assert abs(loss - truth) < 0.01 < abs(naive - truth)


def test_curves_are_against_the_first_position():
  means = {"device": 0.3}
  for combine in ("product", "sum"):
    tower = PositionTower(
      num_positions=3, combine=combine, columns=("device",), hidden=()
    )
    params = drawn(tower)
    table = np.asarray(params["position"]["embedding"], np.float64)
    kernel = np.asarray(params["output"]["kernel"])[:, 0]
    logit = table @ kernel[:4] + 0.3 * kernel[4]
    logit += float(params["output"]["bias"][0])
    odds = np.exp(logit - logit[0])
    expected = expit(logit) / expit(logit[0]) if combine == "product" else odds
    found = tower.curve(params, means)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)
  given = Propensities((0.8, 0.4)).fitted(two_positions(), "click")
  np.testing.assert_allclose(given.curve({}, {}).values, [1.0, 0.5])


def two_positions():
  table = pa.table({"position": [1, 2, 1], "click": [0.0, 1.0, 1.0]})
  return Examples.from_table("rows", table, label="click")


# --- In a step ---------------------------------------------------------------

BATCH = {
  "user": jnp.asarray(RNG.integers(1, 20, NUM), jnp.int32),
  "label": LABELS["click"],
  "where": jnp.arange(NUM) < NUM - 3,
} | {f"label/{name}": values for name, values in LABELS.items()}
TWO = (CLICK, LIKE)


def make(bias, balancer=None):
  return MultiTaskRanking(
    MultiTask(SharedBottom((6,), (4,)), num_tasks=2),
    (CategoricalField("user", 20),),
    tables=(("", TableSettings(init_stddev=0.5)),),
    objectives=TWO,
    balancer=balancer or FixedWeights(),
    position_bias=bias,
  )


def stepped(task):
  optimizer = optax.sgd(0.1)
  mesh = make_mesh(MeshConfig(data=1, model=1))
  start = jax.jit(lambda key: init_state(task, optimizer, key))(KEY)
  step = jax.jit(make_step(task, optimizer, mesh))
  return start, step(start, BATCH, {}, KEY)[0]


def test_a_tower_is_trained_as_the_task_own_and_not_served():
  task = make(PositionTower(num_positions=3), PCGrad())
  start, end = stepped(task)
  plain = make(PositionTower(num_positions=3))
  variables = plain.init(KEY)[1]

  def loss(params):
    total, (weight, _) = plain.loss(params, {}, variables, BATCH, {}, KEY)
    return total / weight

  gradient = jax.grad(loss)(start.params)[TOWER]
  expected = jax.tree.map(
    lambda p, g: p - 0.1 * g, start.params[TOWER], gradient
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
  jax.tree.map(close, end.params[TOWER], expected)
  moved = jax.tree.leaves(jax.tree.map(jnp.ptp, gradient))
  assert max(float(x) for x in moved) > 1e-4
  weights = dict(end.weights)
  features = {"user": BATCH["user"]}
  served = task.scores(weights, features)
  del weights[TOWER]
  np.testing.assert_array_equal(task.scores(weights, features), served)


def test_propensities_train_nothing_of_their_own():
  bias = Propensities((1.0, 0.5, 0.25)).fitted(ROWS, "click")
  assert TOWER not in make(bias).init(KEY)[0]


# --- Bad input ---------------------------------------------------------------


@pytest.mark.parametrize(
  "make_it,message",
  [
    (lambda: PositionTower(combine="prod"), "Did you mean 'product'"),
    (lambda: PositionTower(dropout_rate=0.1), "is for combine='sum'"),
    (lambda: PositionTower(num_positions=0), "num_positions must lie"),
    (lambda: Propensities(), "either values, one a position, or an estimator"),
    (
      lambda: Propensities((1.0,), SwapIntervention()),
      "either values, one a position, or an estimator",
    ),
    (lambda: Propensities((1.0, 1.5)), r"position 2, must lie in \[0.0, 1.0\]"),
    (lambda: Propensities((1.0, 0)), r"position 2, must lie in \(0, 1\]"),
    (lambda: Propensities((1.0, float("nan"))), "position 2, must lie"),
    (lambda: Propensities(estimator=3), "one of recjax.data.propensities"),
    (lambda: Propensities((1.0,), min_propensity=0), "min_propensity must lie"),
    (
      lambda: Objective("secs", kind="real", position_biased=True),
      "position_biased is for labels of kind 'binary'",
    ),
    (
      lambda: Objective("buy", given="click", position_biased=True),
      "position_biased is for labels of kind 'binary'",
    ),
    (
      lambda: check_position_bias((LIKE,), PositionTower()),
      "no Objective has position_biased = True",
    ),
    (
      lambda: check_position_bias(
        (CLICK, Objective("again", "click")), PositionTower()
      ),
      "'again'.*it must be so too",
    ),
    (
      lambda: check_position_bias((CLICK,), "tower"),
      "must be @position_bias.PositionTower",
    ),
  ],
)
def test_bad_settings_are_told(make_it, message):
  with pytest.raises(ConfigError, match=message):
    make_it()


@pytest.mark.parametrize(
  "bias,message",
  [
    (PositionTower(num_positions=2), r"rows, row \d+: column 'position' holds"),
    (PositionTower(column="rank"), "has no column 'rank'"),
    (PositionTower(num_positions=3, columns=("dvice",)), "no column 'dvice'"),
    (Propensities((1.0, 0.5)), r"rows, row \d+: column 'position' holds 3"),
    (
      Propensities(estimator=SwapIntervention(), num_positions=4),
      "position 4 has no row",
    ),
  ],
)
def test_rows_that_do_not_fit_are_told(bias, message):
  with pytest.raises(DataError, match=message):
    bias.fitted(ROWS, "click")


def test_a_column_of_biases_with_a_gap_is_told():
  table = pa.table(
    {"position": [1, 2, 1], "click": [0.0, 1.0, 1.0], "x": [0.1, None, 0.2]}
  )
  rows = Examples.from_table("rows", table, label="click")
  tower = PositionTower(num_positions=2, columns=("x",))
  with pytest.raises(
    DataError, match="row 1: column .x. holds None; it must be a finite number"
  ):
    tower.fitted(rows, "click")


def test_the_label_that_estimates_are_of():
  assert biased_label((LIKE, CLICK)) == "click"
