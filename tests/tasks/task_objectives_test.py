"""The losses of tasks against formulae written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.tasks.task_objectives import (
  Objective,
  check_objectives,
  joint_cross_entropy,
  joint_logit,
  served_probability,
  task_losses,
)

CLICK = Objective("click")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 2)).astype(np.float32)
CLICKS = (RNG.random(40) < 0.5).astype(np.float32)
BUYS = CLICKS * (RNG.random(40) < 0.4)
WEIGHT = RNG.uniform(0.5, 2, 40).astype(np.float32) * (np.arange(40) < 35)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))


def losses_of(*objectives, labels=None, logits=LOGITS, weight=WEIGHT):
  labels = labels or {"click": CLICKS, "buy": BUYS}
  arrays = {name: jnp.asarray(x, jnp.float32) for name, x in labels.items()}
  losses, present = jax.jit(
    lambda logits, arrays, weight: task_losses(
      objectives, logits, arrays, weight
    )
  )(jnp.asarray(logits), arrays, jnp.asarray(weight))
  return np.asarray(losses), np.asarray(present)


def cross_entropy(p, y):
  return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def mean(row, weight):
  return (row * weight).sum() / weight.sum()


def test_a_conversion_counts_where_it_was_clicked():
  losses, present = losses_of(CLICK, Objective("buy", given="click"))
  assert present.all()
  expected = mean(cross_entropy(P[:, 0], CLICKS), WEIGHT)
  np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
  clicked = mean(cross_entropy(P[:, 1], BUYS), WEIGHT * CLICKS)
  np.testing.assert_allclose(losses[1], clicked, rtol=1e-5)


def test_the_entire_space_takes_the_probability_of_both():
  buy = Objective("buy", given="click", space="entire")
  losses, _ = losses_of(CLICK, buy)
  both = mean(cross_entropy(P[:, 0] * P[:, 1], BUYS), WEIGHT)
  np.testing.assert_allclose(losses[1], both, rtol=1e-5)


def test_inverse_propensities_undo_the_selection():
  buy = Objective("buy", given="click", space="inverse", min_propensity=0.4)
  losses, _ = losses_of(CLICK, buy)
  both = mean(cross_entropy(P[:, 0] * P[:, 1], BUYS), WEIGHT)
  row = CLICKS * cross_entropy(P[:, 1], BUYS) / np.maximum(P[:, 0], 0.4)
  np.testing.assert_allclose(losses[1], both + mean(row, WEIGHT), rtol=1e-5)

  def of_clicks(logits):
    arrays = {"click": jnp.asarray(CLICKS), "buy": jnp.asarray(BUYS)}
    return task_losses((CLICK, buy), logits, arrays, jnp.asarray(WEIGHT))[0][1]

  # The propensity itself learns from the entire space alone.
  entire = Objective("buy", given="click", space="entire")
  found = jax.grad(of_clicks)(jnp.asarray(LOGITS))[:, 0]
  buy = entire
  np.testing.assert_allclose(
    found, jax.grad(of_clicks)(jnp.asarray(LOGITS))[:, 0], atol=1e-7
  )


def robust(**options):
  return Objective("buy", given="click", space="doubly_robust", **options)


def test_imputed_losses_and_their_errors():
  """Value, and what each of its parts trains, from the formula in NumPy."""
  imputed = RNG.normal(size=(40, 1)).astype(np.float32)
  logits = np.concatenate([LOGITS, imputed], axis=1)
  losses, _ = losses_of(CLICK, robust(min_propensity=0.4), logits=logits)
  both = mean(cross_entropy(P[:, 0] * P[:, 1], BUYS), WEIGHT)
  guess = 1 / (1 + np.exp(-imputed[:, 0].astype(np.float64)))
  clicked = CLICKS / np.maximum(P[:, 0], 0.4)
  known = cross_entropy(P[:, 1], BUYS)
  error = known - cross_entropy(P[:, 1], guess)
  row = known - error + clicked * (error + error**2)
  np.testing.assert_allclose(losses[1], both + mean(row, WEIGHT), rtol=1e-5)

  def of_buys(logits, objective):
    arrays = {"click": jnp.asarray(CLICKS), "buy": jnp.asarray(BUYS)}
    objectives = (CLICK, objective)
    weight = jnp.asarray(WEIGHT)
    return task_losses(objectives, logits, arrays, weight)[0][1]

  gradient = lambda logits, objective: np.asarray(
    jax.grad(of_buys)(jnp.asarray(logits), objective)
  )
  found = gradient(logits, robust(min_propensity=0.4))
  entire = gradient(LOGITS, Objective("buy", given="click", space="entire"))
  share = WEIGHT / WEIGHT.sum()
  # The task's tower learns from a label that is imputed, then corrected.
  expected = entire[:, 1] + share * (P[:, 1] - guess + clicked * (guess - BUYS))
  np.testing.assert_allclose(found[:, 1], expected, atol=1e-6)
  # The imputation learns from clicked rows; the propensity from no part.
  slope = -LOGITS[:, 1] * guess * (1 - guess)
  expected = share * clicked * -2 * error * slope
  np.testing.assert_allclose(found[:, 2], expected, atol=1e-6)
  np.testing.assert_allclose(found[:, 0], entire[:, 0], atol=1e-7)


@pytest.mark.parametrize("right", ["propensity", "imputation"])
def test_one_right_of_two_is_enough(right):
  """The mean gradient is that of all rows seen, if either part is right."""
  num = 200_000
  random = np.random.default_rng(3)
  x = random.normal(size=num)
  click_logit, buy_logit = x - 0.5, -0.5 - 2 * x
  chance = lambda logit: 1 / (1 + np.exp(-logit))
  clicks = (random.random(num) < chance(click_logit)).astype(np.float32)
  buys = (random.random(num) < chance(buy_logit)).astype(np.float32)
  logit = random.normal(size=num)
  logits = np.stack([click_logit, logit, buy_logit], axis=1)
  if right == "propensity":
    logits[:, 2] = 0.3
  else:
    logits[:, 0] = 0.2
  labels = {"click": jnp.asarray(clicks), "buy": jnp.asarray(clicks * buys)}

  def gradient(objective):
    loss = lambda x: task_losses((CLICK, objective), x, labels, jnp.ones(num))
    found = jax.grad(lambda x: loss(x)[0][1])(jnp.asarray(logits, jnp.float32))
    return float(np.sum(np.asarray(found)[:, 1]))

  entire = gradient(Objective("buy", given="click", space="entire"))
  whole = float(np.mean(chance(logit) - buys))
  of_clicks = gradient(Objective("buy", given="click"))
  assert abs(of_clicks - whole) > 0.1, (of_clicks, whole)
  assert abs(gradient(robust()) - entire - whole) < 0.02


def test_labels_that_are_not_known_do_not_count():
  labels = {"click": CLICKS.copy(), "buy": BUYS.copy()}
  labels["click"][::3] = np.nan
  losses, _ = losses_of(CLICK, Objective("buy"), labels=labels)
  known = np.arange(40) % 3 != 0
  row = cross_entropy(P[:, 0], CLICKS)
  np.testing.assert_allclose(losses[0], mean(row, WEIGHT * known), rtol=1e-5)
  np.testing.assert_allclose(
    losses[1], mean(cross_entropy(P[:, 1], BUYS), WEIGHT), rtol=1e-5
  )


def test_rows_outside_a_column_do_not_count():
  """The same as being given a task, without that task."""
  known = CLICKS.copy()
  known[CLICKS == 0] = np.where(np.arange(40) % 2, 0.0, np.nan)[CLICKS == 0]
  labels = {"click": CLICKS, "buy": BUYS, "known": known}
  alone, _ = losses_of(
    Objective("buy", where="known"), logits=LOGITS[:, 1:], labels=labels
  )
  both, _ = losses_of(CLICK, Objective("buy", given="click"))
  np.testing.assert_allclose(alone[0], both[1], rtol=1e-6)


@pytest.mark.parametrize("space", ["entire", "inverse", "doubly_robust"])
@pytest.mark.parametrize("hidden", ["null", "where"])
def test_what_could_not_happen_did_not(space, hidden):
  """A label that is null where nothing was clicked is one of 0 there."""
  imputed = RNG.normal(size=(40, 1)).astype(np.float32)
  clicks = CLICKS.copy()
  clicks[::5] = np.nan  # Neither known, nor is what hangs on it.
  buys = np.where(clicks == 1, BUYS, 1.0)
  buys[1::7] = np.where(clicks[1::7] == 1, np.nan, buys[1::7])
  labels = {"click": clicks, "buy": buys}
  if hidden == "null":
    labels["buy"] = np.where(clicks == 0, np.nan, buys)
  else:
    labels["told"] = np.where(clicks == 1, 1.0, np.nan)
  buy = Objective(
    "buy",
    given="click",
    space=space,
    where="told" if hidden == "where" else "",
    min_propensity=0.4,
  )
  logits = LOGITS
  if space == "doubly_robust":
    logits = np.concatenate([LOGITS, imputed], axis=1)
  losses, _ = losses_of(CLICK, buy, labels=labels, logits=logits)
  # By the formula, over rows whose click is known, and the purchase if clicked.
  clicked = np.nan_to_num(clicks)
  counts = WEIGHT * np.isfinite(clicks)
  counts[1::7] *= clicked[1::7] == 0
  happened = clicked * BUYS
  expected = mean(cross_entropy(P[:, 0] * P[:, 1], happened), counts)
  seen = clicked / np.maximum(P[:, 0], 0.4)
  row = cross_entropy(P[:, 1], happened)
  if space == "inverse":
    expected += mean(seen * row, counts)
  if space == "doubly_robust":
    guess = 1 / (1 + np.exp(-imputed[:, 0].astype(np.float64)))
    error = row - cross_entropy(P[:, 1], guess)
    expected += mean(row - error + seen * (error + error**2), counts)
  np.testing.assert_allclose(losses[1], expected, rtol=1e-5)


def test_a_click_that_is_masked_is_unknown():
  """As the judge has it: no conversion of it counts."""
  click = Objective("click", where="shown")
  shown = np.where(np.arange(40) % 3 == 0, np.nan, np.arange(40) % 3 - 1.0)
  labels = {"click": CLICKS, "buy": BUYS, "shown": shown}
  on = WEIGHT * (np.arange(40) % 3 == 2)
  for space, counts, joint in (("given", on * CLICKS, 0), ("entire", on, 1)):
    buy = Objective("buy", given="click", space=space)
    losses, _ = losses_of(click, buy, labels=labels)
    p = P[:, 0] * P[:, 1] if joint else P[:, 1]
    expected = mean(cross_entropy(p, BUYS), counts)
    np.testing.assert_allclose(losses[1], expected, rtol=1e-5)


def test_real_labels_and_their_logarithm():
  watched = RNG.exponential(30, 40).astype(np.float32)
  for log_label in (False, True):
    watch = Objective("watch", "secs", "real", log_label=log_label)
    labels = {"click": CLICKS, "secs": watched}
    losses, _ = losses_of(CLICK, watch, labels=labels)
    target = np.log1p(watched) if log_label else watched
    expected = mean((LOGITS[:, 1] - target) ** 2, WEIGHT)
    np.testing.assert_allclose(losses[1], expected, rtol=1e-5)
    served = served_probability((CLICK, watch), jnp.asarray(LOGITS))
    np.testing.assert_allclose(served[:, 0], P[:, 0], rtol=1e-5)
    value = np.expm1(LOGITS[:, 1]) if log_label else LOGITS[:, 1]
    np.testing.assert_allclose(served[:, 1], value, rtol=1e-4)


def test_delayed_labels_weigh_what_is_seen_twice():
  losses, _ = losses_of(Objective("click", delayed=True), CLICK_AGAIN)
  p = P[:, 0]
  row = -(1 + p) * CLICKS * np.log(p)
  row -= (1 - p) * (1 + p) * (1 - CLICKS) * np.log(1 - p)
  np.testing.assert_allclose(losses[0], mean(row, WEIGHT), rtol=1e-5)


CLICK_AGAIN = Objective("again", "click")


def test_fake_negatives_lead_to_the_true_rate():
  """Each conversion comes as a 0 and then as a 1: the rate is not 1/(1+1/q)."""
  rate = 0.3
  seen = jnp.asarray(np.r_[np.zeros(1000), np.ones(int(1000 * rate))])
  weight = jnp.ones(seen.shape)
  logit = jnp.zeros(())
  for delayed, expected in ((True, rate), (False, rate / (1 + rate))):
    objective = Objective("buy", delayed=delayed)
    loss = lambda x, o=objective: task_losses(
      (o,), jnp.full((len(seen), 1), x), {"buy": seen}, weight
    )[0][0]
    gradient = jax.jit(jax.grad(loss))
    for _ in range(300):
      logit -= 2.0 * gradient(logit)
    np.testing.assert_allclose(jax.nn.sigmoid(logit), expected, atol=1e-3)


def test_a_later_step_is_not_to_be_more_probable():
  buy = Objective("buy", at_most="click", at_most_strength=0.7)
  losses, _ = losses_of(CLICK, buy)
  expected = mean(cross_entropy(P[:, 1], BUYS), WEIGHT)
  expected += 0.7 * mean(np.maximum(P[:, 1] - P[:, 0], 0), WEIGHT)
  np.testing.assert_allclose(losses[1], expected, rtol=1e-5)


@pytest.mark.parametrize(
  "space", ["given", "entire", "inverse", "doubly_robust"]
)
def test_a_task_without_rows_is_told_and_gives_no_nan(space):
  logits = LOGITS
  if space == "doubly_robust":
    logits = np.concatenate([LOGITS, LOGITS[:, :1]], axis=1)
  buy = Objective("buy", given="click", space=space)
  labels = {"click": np.full(40, np.nan), "buy": np.full(40, np.nan)}
  losses, present = losses_of(CLICK, buy, labels=labels, logits=logits)
  np.testing.assert_array_equal(losses, [0.0, 0.0])
  np.testing.assert_array_equal(present, [False, False])
  gradient = jax.grad(
    lambda logits: jnp.sum(
      task_losses(
        (CLICK, buy),
        logits,
        {name: jnp.asarray(x, jnp.float32) for name, x in labels.items()},
        jnp.asarray(WEIGHT),
      )[0]
    )
  )(jnp.asarray(logits))
  np.testing.assert_array_equal(gradient, np.zeros_like(logits))


def test_products_of_probabilities_do_not_overflow():
  with jax.enable_x64(False):
    a = jnp.array([0.0, 30.0, -40.0, 100.0, -100.0])
    b = jnp.array([0.5, 25.0, -50.0, 100.0, 80.0])
    logit = joint_logit(a, b)
    wide = lambda x: np.asarray(x, np.longdouble)
    p = 1 / (1 + np.exp(-wide(a))) / (1 + np.exp(-wide(b)))
    rest = np.exp(-wide(a)) + np.exp(-wide(b)) + np.exp(-wide(a) - wide(b))
    np.testing.assert_allclose(logit, -np.log(rest), rtol=1e-5)
    loss = joint_cross_entropy(a, b, jnp.ones(5))
    np.testing.assert_allclose(loss, -np.log(p), rtol=1e-5, atol=1e-7)
    assert np.isfinite(jax.grad(lambda a: joint_logit(a, b).sum())(a)).all()


@pytest.mark.parametrize(
  "make,message",
  [
    (lambda: Objective(""), "Objective.name must be a name without '/'"),
    (lambda: Objective("a", kind="bin"), "Did you mean 'binary'"),
    (lambda: Objective("a", space="entire"), "needs `given`"),
    (lambda: Objective("a", log_label=True), "for labels of kind 'real'"),
    (lambda: Objective("a", kind="real", delayed=True), "of kind 'binary'"),
    (
      lambda: Objective("a", given="b", space="entire", delayed=True),
      "for the space 'given'",
    ),
    (lambda: check_objectives(()), "at least one Objective"),
    (lambda: check_objectives((CLICK, CLICK)), "click more than once"),
    (
      lambda: check_objectives((Objective("buy", given="clik"), CLICK)),
      "Did you mean 'click'",
    ),
    (
      lambda: check_objectives((Objective("buy", given="click"), CLICK)),
      "must be a binary task that stands before it; got 'click'",
    ),
  ],
)
def test_bad_objectives_are_told(make, message):
  with pytest.raises(ConfigError, match=message):
    make()
