"""Row-wise optimizers against optax on the dense table, and against NumPy.

Gradients are drawn and do not depend on the rows, so that two rules can be
compared over many steps without one's rounding steering the other.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.embeddings.row_optimizers import (
  FTRL,
  SGD,
  Adagrad,
  LazyAdam,
  Momentum,
  RowWiseAdagrad,
  SkipAwareAdam,
)
from recjax.embeddings.rows import update_rows
from recjax.errors import ConfigError

NUM_ROWS, DIM, NUM_LOOKUPS, NUM_STEPS = 12, 3, 9, 40
ALL = (SGD, Momentum, Adagrad, RowWiseAdagrad, LazyAdam, SkipAwareAdam, FTRL)
SCHEDULES = {
  "constant": ({}, lambda rate: rate),
  "cosine": (
    {"schedule": "cosine", "warmup_steps": 5, "decay_steps": 30},
    lambda rate: optax.warmup_cosine_decay_schedule(0.0, rate, 5, 30),
  ),
  "linear": (
    {"schedule": "linear", "decay_steps": 50},
    lambda rate: optax.linear_schedule(rate, 0.0, 50),
  ),
}


def _table(seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(NUM_ROWS, DIM)).astype(np.float32)


def _random_steps():
  """Rows, drawn with repeats, and gradients of the lookups of each step."""
  rng = np.random.default_rng(1)
  rows = rng.integers(0, NUM_ROWS, (NUM_STEPS, NUM_LOOKUPS))
  grads = rng.normal(size=(*rows.shape, DIM))
  return rows.astype(np.int32), grads.astype(np.float32)


def _full_steps():
  """Every row is looked up twice in each step."""
  rng = np.random.default_rng(2)
  rows = np.tile(np.arange(NUM_ROWS, dtype=np.int32), (NUM_STEPS, 2))
  grads = rng.normal(size=(*rows.shape, DIM))
  return rows, grads.astype(np.float32)


def _dense(rows, grads):
  """Gradients of the whole table, of each step."""
  total = np.zeros((len(rows), NUM_ROWS, DIM))
  for step, (row, grad) in enumerate(zip(rows, grads, strict=True)):
    np.add.at(total[step], row, grad)
  return total


def _train(optimizer, table, steps):
  """The tables after each step, and the slots after the last."""

  @jax.jit
  def run(table, rows, grads):
    def one_step(carry, inputs):
      step, row, grad = inputs
      carry = update_rows(*carry, row, grad, step, optimizer=optimizer)
      return carry, carry[0]

    count = jnp.arange(len(rows), dtype=jnp.int32)
    start = (table, optimizer.slots(NUM_ROWS, DIM))
    (_, slots), tables = jax.lax.scan(one_step, start, (count, rows, grads))
    return tables, slots

  tables, slots = run(jnp.asarray(table), *map(jnp.asarray, steps))
  return np.asarray(tables), jax.tree.map(np.asarray, slots)


def _train_dense(optimizer, table, steps):
  """The same by optax, with dense gradients; its state after each step."""

  @jax.jit
  def run(table, grads):
    def one_step(carry, grad):
      table, state = carry
      updates, state = optimizer.update(grad, state, table)
      table = optax.apply_updates(table, updates)
      return (table, state), (table, state)

    return jax.lax.scan(one_step, (table, optimizer.init(table)), grads)[1]

  grads = jnp.asarray(_dense(*steps), jnp.float32)
  return jax.tree.map(np.asarray, run(jnp.asarray(table), grads))


def _touched(rows):
  """[step, row]: whether a step looks a row up."""
  return np.stack([np.isin(np.arange(NUM_ROWS), row) for row in rows])


close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(
  "make,make_dense",
  [
    (SGD, optax.sgd),
    (
      functools.partial(Adagrad, initial_accumulator=0.1, eps=1e-7),
      optax.adagrad,
    ),
    (
      functools.partial(Adagrad, initial_accumulator=0.0, eps=1e-3),
      functools.partial(optax.adagrad, initial_accumulator_value=0, eps=1e-3),
    ),
  ],
  ids=["sgd", "adagrad", "adagrad from zero"],
)
def test_exact_rules_equal_optax_on_the_dense_table(make, make_dense, schedule):
  settings, dense_rate = SCHEDULES[schedule]
  steps = _random_steps()
  tables, _ = _train(make(learning_rate=0.3, **settings), _table(), steps)
  expected, _ = _train_dense(make_dense(dense_rate(0.3)), _table(), steps)
  close(tables, expected)
  assert np.median(np.abs(expected[-1] - _table())) > 0.05  # They did move.


@pytest.mark.parametrize(
  "make,make_dense",
  [
    (Momentum, functools.partial(optax.sgd, momentum=0.9)),
    (LazyAdam, optax.adam),
    (SkipAwareAdam, optax.adam),
    (
      functools.partial(LazyAdam, b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.2),
      functools.partial(
        optax.adamw, b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.2
      ),
    ),
  ],
  ids=["momentum", "lazy adam", "skip-aware adam", "adamw"],
)
def test_rules_with_memory_equal_optax_if_every_row_is_touched(
  make, make_dense
):
  settings, dense_rate = SCHEDULES["cosine"]
  steps = _full_steps()
  tables, _ = _train(make(learning_rate=0.1, **settings), _table(), steps)
  expected, _ = _train_dense(make_dense(dense_rate(0.1)), _table(), steps)
  close(tables, expected)


def test_row_wise_adagrad_against_numpy():
  steps = _random_steps()
  optimizer = RowWiseAdagrad(
    learning_rate=0.3, initial_accumulator=0.2, eps=1e-3
  )
  tables, slots = _train(optimizer, _table(), steps)
  table, total = _table().astype(np.float64), np.full(NUM_ROWS, 0.2)
  for step, grad in enumerate(_dense(*steps)):
    for row in np.flatnonzero(_touched(steps[0])[step]):
      total[row] += sum(grad[row] ** 2) / DIM
      table[row] -= 0.3 * grad[row] / np.sqrt(total[row] + 1e-3)
    close(tables[step], table)
  close(slots["sum_squares"], total)


@pytest.mark.parametrize("optimizer", [Adagrad, RowWiseAdagrad])
def test_no_division_by_zero(optimizer):
  """A row that is touched, but never had a gradient, stays."""
  rule = optimizer(initial_accumulator=0.0, eps=0.0)
  steps = np.zeros((2, 1), np.int32), np.zeros((2, 1, DIM), np.float32)
  np.testing.assert_array_equal(_train(rule, _table(), steps)[0][-1], _table())


def _left_out(rows, grads, rate, b1, b2, eps):
  """Sum of the moves of dense Adam at steps that do not touch the row."""
  first, second = np.zeros((2, NUM_ROWS, DIM))
  moves = np.zeros((NUM_ROWS, DIM))
  touched = _touched(rows)
  for step, grad in enumerate(_dense(rows, grads), 1):
    first = b1 * first + (1 - b1) * grad
    second = b2 * second + (1 - b2) * grad**2
    unbiased = first / (1 - b1**step), second / (1 - b2**step)
    move = rate * unbiased[0] / (np.sqrt(unbiased[1]) + eps)
    moves += np.where(touched[step - 1][:, None], 0.0, move)
  return moves


def test_skip_aware_adam_differs_by_the_moves_left_out():
  rows, grads = _random_steps()
  tables, slots = _train(
    SkipAwareAdam(learning_rate=0.1), _table(), (rows, grads)
  )
  expected, (state, _) = _train_dense(optax.adam(0.1), _table(), (rows, grads))
  last = [np.flatnonzero(hits)[-1] for hits in _touched(rows).T]
  np.testing.assert_array_equal(slots["last_step"], np.add(last, 1))
  # The moments are those of the dense rule, at the step of the last touch.
  for name, moments in (
    ("first_moment", state.mu),
    ("second_moment", state.nu),
  ):
    close(slots[name], moments[last, np.arange(NUM_ROWS)])
  left_out = _left_out(rows, grads, 0.1, 0.9, 0.999, 1e-8)
  assert np.abs(left_out).max() > 0.05
  close(tables[-1], expected[-1] + left_out, atol=1e-4)


def test_lazy_adam_keeps_the_moments_of_untouched_rows():
  rows, grads = _random_steps()
  rule = LazyAdam(learning_rate=0.1, b1=0.8, b2=0.9, eps=1e-4)
  tables, _ = _train(rule, _table(), (rows, grads))
  table = _table().astype(np.float64)
  first, second = np.zeros((2, NUM_ROWS, DIM))
  for step, grad in enumerate(_dense(rows, grads), 1):
    for row in np.flatnonzero(_touched(rows)[step - 1]):
      first[row] = 0.8 * first[row] + 0.2 * grad[row]
      second[row] = 0.9 * second[row] + 0.1 * grad[row] ** 2
      unbiased = second[row] / (1 - 0.9**step)
      table[row] -= (
        0.1 * first[row] / (1 - 0.8**step) / (np.sqrt(unbiased) + 1e-4)
      )
    close(tables[step - 1], table)
  dense, _ = _train_dense(
    optax.adam(0.1, b1=0.8, b2=0.9, eps=1e-4), _table(), (rows, grads)
  )
  assert np.abs(dense[-1] - table).max() > 0.05


def test_momentum_waits_at_untouched_rows():
  rows, grads = _random_steps()
  tables, _ = _train(
    Momentum(learning_rate=0.1, decay=0.5), _table(), (rows, grads)
  )
  table, momentum = _table().astype(np.float64), np.zeros((NUM_ROWS, DIM))
  for step, grad in enumerate(_dense(rows, grads)):
    for row in np.flatnonzero(_touched(rows)[step]):
      momentum[row] = 0.5 * momentum[row] + grad[row]
      table[row] -= 0.1 * momentum[row]
  close(tables[-1], table)
  dense, _ = _train_dense(optax.sgd(0.1, momentum=0.5), _table(), (rows, grads))
  assert np.abs(dense[-1] - table).max() > 0.05


def _mcmahan(grads, touched, alpha, beta, l1, l2, start):
  """Algorithm 1 of the paper, weight by weight, with its per-coordinate z."""
  tables = []
  w = np.zeros((NUM_ROWS, DIM))
  z, n = np.zeros_like(w), np.full_like(w, start)
  for step, grad in enumerate(grads):
    for i in np.flatnonzero(touched[step]):
      for j in range(DIM):
        g = grad[i, j]
        sigma = (np.sqrt(n[i, j] + g * g) - np.sqrt(n[i, j])) / alpha
        z[i, j] += g - sigma * w[i, j]
        n[i, j] += g * g
        if abs(z[i, j]) <= l1:
          w[i, j] = 0.0
        else:
          strength = (beta + np.sqrt(n[i, j])) / alpha + l2
          w[i, j] = -(z[i, j] - np.sign(z[i, j]) * l1) / strength
    tables.append(w.copy())
  return np.stack(tables)


@pytest.mark.parametrize(
  "l1,l2,start", [(0.0, 0.0, 0.0), (2.0, 0.0, 0.1), (1.0, 5.0, 0.0)]
)
def test_ftrl_against_the_paper(l1, l2, start):
  rows, grads = _random_steps()
  optimizer = FTRL(
    learning_rate=0.3, beta=0.5, l1=l1, l2=l2, initial_accumulator=start
  )
  tables, _ = _train(optimizer, np.zeros((NUM_ROWS, DIM)), (rows, grads))
  args = (0.3, 0.5, l1, l2, start)
  expected = _mcmahan(_dense(rows, grads), _touched(rows), *args)
  close(tables, expected)
  np.testing.assert_array_equal(tables == 0.0, expected == 0.0)
  # Of rows that were touched, some are zero just if there is a penalty.
  was_touched = np.cumsum(_touched(rows), axis=0) > 0
  assert bool(np.any(tables[was_touched] == 0.0)) == bool(l1)
  # Exact: with zero gradients at all other rows nothing else comes out.
  every = np.ones((NUM_STEPS, NUM_ROWS), bool)
  dense = _mcmahan(_dense(rows, grads), every, *args)
  np.testing.assert_allclose(dense, expected, atol=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_ftrl_follows_a_schedule(schedule):
  """Without penalties it is w <- w - lr_t g / (b + sqrt(n))."""
  settings, make_rate = SCHEDULES[schedule]
  rate_of, steps = make_rate(0.3), _random_steps()
  optimizer = FTRL(learning_rate=0.3, beta=0.5, **settings)
  tables, _ = _train(optimizer, np.zeros((NUM_ROWS, DIM)), steps)
  table, total = np.zeros((2, NUM_ROWS, DIM))
  for step, grad in enumerate(_dense(*steps)):
    rate = float(rate_of(step))
    total += grad**2 * (rate > 0)
    table -= rate * grad / (0.5 + np.sqrt(total))
    close(tables[step], table, atol=1e-4)
  assert np.abs(table).max() > 0.1


def test_ftrl_keeps_another_start_until_it_is_touched():
  rows = np.full((1, 1), 4, np.int32)
  grads = np.ones((1, 1, DIM), np.float32)
  tables, _ = _train(FTRL(learning_rate=0.3), _table(), (rows, grads))
  others = np.arange(NUM_ROWS) != 4
  np.testing.assert_array_equal(tables[0][others], _table()[others])
  # n = 1, so that z = 1 - w / lr and the strength is 2 / lr.
  close(tables[0][4], -(1.0 - _table()[4] / 0.3) / (2 / 0.3))


def test_weight_decay_pulls_touched_rows_alone():
  rows, grads = _random_steps()
  optimizer = Adagrad(learning_rate=0.5, weight_decay=0.1)
  tables, _ = _train(optimizer, _table(), (rows[:1], 0 * grads[:1]))
  touched = _touched(rows)[0]
  assert 0 < touched.sum() < NUM_ROWS
  np.testing.assert_array_equal(tables[0][~touched], _table()[~touched])
  close(tables[0][touched], 0.95 * _table()[touched])


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not FTRL])
def test_weight_decay_is_decoupled_from_the_gradient(kind):
  rows, grads = jnp.asarray(_table()), jnp.asarray(_table(1))
  slots = kind().slots(NUM_ROWS, DIM)
  moved, plain = (
    kind(learning_rate=0.5, weight_decay=decay).update(
      rows, slots, grads, jnp.int32(0)
    )
    for decay in (0.1, 0.0)
  )
  close(plain[0] - moved[0], 0.05 * rows)
  jax.tree.map(np.testing.assert_array_equal, moved[1], plain[1])


@pytest.mark.parametrize("kind", ALL)
def test_a_rate_of_zero_moves_nothing(kind):
  optimizer = kind(learning_rate=0.5, warmup_steps=3)
  rows, slots = jnp.asarray(_table()), optimizer.slots(NUM_ROWS, DIM)
  moved, _ = optimizer.update(rows, slots, jnp.asarray(_table(1)), jnp.int32(0))
  np.testing.assert_array_equal(moved, rows)


@pytest.mark.parametrize("kind", ALL)
def test_slots_have_a_row_for_each(kind):
  slots = kind().slots(7, 4)
  assert all(slot.shape in ((7, 4), (7,)) for slot in slots.values())
  updated = kind().update(
    jnp.ones((7, 4)), slots, jnp.ones((7, 4)), jnp.int32(0)
  )[1]
  same = lambda new, old: new.shape == old.shape and new.dtype == old.dtype
  assert jax.tree.all(jax.tree.map(same, updated, slots))


@pytest.mark.parametrize(
  "kind,settings,message",
  [
    (SGD, {"learning_rate": -1.0}, "SGD.learning_rate must lie in"),
    (Adagrad, {"eps": -1.0}, "Adagrad.eps must lie in"),
    (RowWiseAdagrad, {"eps": -1.0}, "RowWiseAdagrad.eps must lie in"),
    (Momentum, {"decay": 1.0}, "Momentum.decay must lie in"),
    (LazyAdam, {"b1": 1.0}, "LazyAdam.b1 must lie in"),
    (SkipAwareAdam, {"b2": 1.5}, "SkipAwareAdam.b2 must lie in"),
    (SGD, {"schedule": "cosin"}, "Did you mean 'cosine'"),
    (SGD, {"schedule": "linear"}, "SGD.decay_steps must be larger than"),
    (FTRL, {"weight_decay": 0.1}, "FTRL.l1 and FTRL.l2"),
    (FTRL, {"learning_rate": 0.0}, "FTRL.learning_rate must lie in"),
  ],
)
def test_bad_settings_name_the_rule(kind, settings, message):
  with pytest.raises(ConfigError, match=message):
    kind(**settings)
