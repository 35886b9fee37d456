"""What holds for every loss. A new one that is not listed here fails."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recjax.losses
from recjax.losses.pairwise import bpr_loss, hinge_loss, warp_loss
from recjax.losses.pointwise import binary_cross_entropy_loss, gbce_loss
from recjax.losses.retrieval import (
  candidate_softmax_loss,
  in_batch_softmax_loss,
  info_nce_loss,
  mixture_loss,
  symmetric_in_batch_loss,
)
from recjax.losses.softmax import full_softmax_loss, sampled_softmax_loss

PLACES = (3, 4)
NUM_NEGATIVES = 5
NUM_ITEMS = 9
_rng = np.random.default_rng(0)
WHERE = jnp.asarray(_rng.random(PLACES) < 0.6)
TARGET = jnp.asarray(_rng.integers(1, NUM_ITEMS + 1, PLACES), jnp.int32)
IS_POSITIVE = jnp.asarray(_rng.random((*PLACES, NUM_NEGATIVES)) < 0.2)
LOG_COUNT = jnp.log(
  jnp.asarray(_rng.random((*PLACES, NUM_NEGATIVES)), jnp.float32)
)
BATCH = PLACES[0] * PLACES[1]
ROW_ITEM = jnp.asarray(_rng.integers(1, NUM_ITEMS + 1, BATCH), jnp.int32)
ROW_USER = jnp.asarray(_rng.integers(1, 9, BATCH), jnp.int32)
ROW_LOG_Q = jnp.log(jnp.asarray(_rng.random(BATCH), jnp.float32))
LOG_POSITIVE = LOG_COUNT[..., 0]


@dataclasses.dataclass
class Case:
  """A loss as a function of its differentiable inputs and the mask."""

  shapes: tuple[tuple[int, ...], ...]
  call: Callable
  is_in_batch: bool = False
  """The rows of a batch are each other's candidates."""

  def inputs(self, scale=1.0, dtype=jnp.float32):
    rng = np.random.default_rng(1)
    return tuple(
      jnp.asarray(scale * rng.normal(size=shape), dtype)
      for shape in self.shapes
    )

  @functools.cached_property
  def value_and_grad(self):
    """Of the sum over positions; kept, for it is compiled once."""
    return jax.jit(
      jax.value_and_grad(
        lambda inputs, where: jnp.sum(self.call(*inputs, where))
      )
    )


def in_batch(call):
  """A loss of rows of a batch against each other."""
  return Case(
    ((*PLACES, BATCH),),
    lambda scores, where: call(
      scores.reshape(BATCH, BATCH), where.reshape(BATCH)
    ).reshape(PLACES),
    is_in_batch=True,
  )


SAMPLED = (PLACES, (*PLACES, NUM_NEGATIVES))
CASES = {
  "binary_cross_entropy_loss": Case(SAMPLED, binary_cross_entropy_loss),
  "gbce_loss": Case(
    SAMPLED,
    lambda *args: gbce_loss(*args, num_items=NUM_ITEMS, calibration=0.75),
  ),
  "bpr_loss": Case(SAMPLED, bpr_loss),
  "hinge_loss": Case(SAMPLED, hinge_loss),
  "warp_loss": Case(
    SAMPLED,
    lambda positive, negative, where: warp_loss(
      positive, negative, IS_POSITIVE, where, num_items=NUM_ITEMS
    ),
  ),
  "candidate_softmax_loss": Case(
    SAMPLED,
    lambda positive, negative, where: candidate_softmax_loss(
      positive, negative, LOG_COUNT, LOG_POSITIVE, IS_POSITIVE, where
    ),
  ),
  "in_batch_softmax_loss": in_batch(
    lambda scores, where: in_batch_softmax_loss(
      scores, ROW_ITEM, ROW_LOG_Q, where
    )
  ),
  "symmetric_in_batch_loss": in_batch(
    lambda scores, where: symmetric_in_batch_loss(
      scores, ROW_ITEM, ROW_LOG_Q, where, ROW_USER
    )
  ),
  "info_nce_loss": in_batch(functools.partial(info_nce_loss, temperature=0.5)),
  "mixture_loss": Case(
    SAMPLED,
    lambda positive, negative, where: mixture_loss(
      candidate_softmax_loss(positive, negative, None, None, None, where),
      binary_cross_entropy_loss(positive, negative, where, IS_POSITIVE),
      weight=0.3,
    ),
  ),
  "sampled_softmax_loss": Case(
    SAMPLED,
    lambda positive, negative, where: sampled_softmax_loss(
      positive, negative, IS_POSITIVE, LOG_COUNT, where
    ),
  ),
  "full_softmax_loss": Case(
    ((*PLACES, 6), (NUM_ITEMS + 3, 6)),
    lambda hidden, table, where: full_softmax_loss(
      hidden, table, TARGET, where, num_items=NUM_ITEMS, chunk=3
    ),
  ),
}


# A masked row takes its item away from the candidates of the others.
ALONE = [name for name, case in CASES.items() if not case.is_in_batch]


@pytest.fixture(params=CASES)
def case(request) -> Case:
  return CASES[request.param]


def gradients(case, inputs, where):
  value, grads = case.value_and_grad(inputs, where)
  return np.float32(value), [np.asarray(g) for g in grads]


def test_every_loss_is_listed():
  found = set()
  for module in pkgutil.iter_modules(recjax.losses.__path__):
    name = f"recjax.losses.{module.name}"
    found |= {
      key
      for key, value in vars(importlib.import_module(name)).items()
      if inspect.isfunction(value)
      and value.__module__ == name
      and key.endswith("_loss")
      and not key.startswith("_")
    }
  assert found == set(CASES), "list the loss in CASES of this file"


def test_jit_equals_eager(case):
  inputs = case.inputs()
  eager = jnp.sum(case.call(*inputs, WHERE))
  jitted = gradients(case, inputs, WHERE)[0]
  np.testing.assert_allclose(jitted, eager, rtol=1e-6)


@pytest.mark.parametrize("case", ALONE, indirect=True)
def test_is_the_sum_of_its_positions(case):
  inputs = case.inputs()
  alone = 0.0
  for place in np.argwhere(WHERE):
    only = np.zeros(PLACES, bool)
    only[tuple(place)] = True
    alone += gradients(case, inputs, jnp.asarray(only))[0]
  together = gradients(case, inputs, WHERE)[0]
  np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize("garbage", [7.0, 1e30, np.inf, np.nan])
def test_masked_entries_have_no_effect(case, garbage):
  inputs = case.inputs()
  spoiled = tuple(
    jnp.asarray(np.where(expand(WHERE, x.ndim), x, np.float32(garbage)))
    if x.shape[:2] == PLACES
    else x
    for x in inputs
  )
  value, grads = gradients(case, inputs, WHERE)
  other_value, other_grads = gradients(case, spoiled, WHERE)
  assert value == other_value
  for grad, other in zip(grads, other_grads, strict=True):
    np.testing.assert_array_equal(grad, other)
    if grad.shape[:2] == PLACES:
      assert np.all(grad[~WHERE] == 0.0)
      assert np.any(grad[WHERE] != 0.0)


def expand(where, ndim):
  return where.reshape(*where.shape, *[1] * (ndim - where.ndim))


def test_all_masked_gives_zero(case):
  value, grads = gradients(case, case.inputs(), jnp.zeros(PLACES, bool))
  assert value == 0.0
  assert all(np.all(grad == 0.0) for grad in grads)


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e8])
def test_finite_at_extreme_scores(case, scale):
  value, grads = gradients(case, case.inputs(scale), WHERE)
  assert np.isfinite(value)
  assert all(np.all(np.isfinite(grad)) for grad in grads)


def test_bfloat16(case):
  inputs = case.inputs(dtype=jnp.bfloat16)
  value, grads = gradients(case, inputs, WHERE)
  exact_value, exact_grads = gradients(
    case, tuple(x.astype(jnp.float32) for x in inputs), WHERE
  )
  np.testing.assert_allclose(value, exact_value, rtol=2e-2)
  for grad, exact, x in zip(grads, exact_grads, inputs, strict=True):
    assert grad.dtype == x.dtype
    np.testing.assert_allclose(
      grad.astype(np.float32), exact, rtol=5e-2, atol=2e-2
    )
