import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.tasks.objectives import BinaryCrossEntropy, FullSoftmax
from recjax.train.mesh import MeshConfig, make_mesh
from recjax.train.state import init_state, leaf_names, state_shardings
from recjax.train.step import make_many_steps, make_step
from recjax.types import ITEM

KEY = jax.random.key(7)


def plain_mean_loss(params, model, window, length, num_items):
  """Cross-entropy by its formula: a row a sequence, a mean over targets."""
  len_ = window.shape[1] - 1
  places = jnp.broadcast_to(jnp.arange(len_), (window.shape[0], len_))
  is_target = places < length[:, None]
  ids = jnp.where(is_target, window[:, :-1], 0)
  hidden = model.apply(
    {"params": params["model"]},
    {ITEM: params["tables"]["item"][ids]},
    places,
    is_target.astype(jnp.int32),
  )["hidden"]
  logits = hidden @ params["tables"]["item"][1 : num_items + 1].T
  log_p = jax.nn.log_softmax(logits)
  target = jnp.maximum(window[:, 1:] - 1, 0)
  log_p = jnp.take_along_axis(log_p, target[..., None], axis=2)[..., 0]
  return -jnp.sum(jnp.where(is_target, log_p, 0.0)) / jnp.sum(is_target)


@pytest.fixture(scope="module")
def one_step(planted):
  """Takes a step of plain SGD with learning rate 1."""

  def run(task, batch, *, step=0, optimizer=None):
    optimizer = optimizer or optax.sgd(1.0)
    state = init_state(task, optimizer, jax.random.key(1))
    state = state.replace(step=jnp.int32(step))
    take = make_step(task, optimizer, make_mesh(MeshConfig()))
    new, metrics = jax.jit(take)(state, batch, {}, KEY)
    return state, new, metrics

  return run


@pytest.fixture(scope="module")
def expected(planted):
  """Loss and gradient of step 1 by the plain formula."""

  @functools.cache
  def compute(model):
    task = planted.task(FullSoftmax(), model=model)
    batch = planted.batches().host_batch(1)
    params = init_state(task, optax.sgd(1.0), jax.random.key(1)).params
    loss = functools.partial(
      plain_mean_loss, model=model, num_items=planted.num_items
    )
    return jax.jit(jax.value_and_grad(loss))(
      params, window=batch["window"], length=batch["length"]
    )

  return compute


@pytest.mark.parametrize(
  "name,micro_rows",
  [("linear", 4), ("linear", 8), ("linear", 16), ("sasrec", 4)],
)
def test_accumulated_gradient_is_that_of_the_mean_loss(
  planted, one_step, expected, name, micro_rows
):
  model = planted.models[name](dim=8, max_len=12, dropout_rate=0.0)
  task = planted.task(
    FullSoftmax(), model=model, micro_rows=micro_rows, positions="from_start"
  )
  batch = planted.batches().host_batch(1)
  assert batch["num_rows"] > 4  # More than one micro-batch of the smallest.
  before, after, metrics = one_step(task, batch)
  loss, gradient = expected(model)
  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
  difference = jax.tree.map(jnp.subtract, before.params, after.params)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6),
    difference,
    gradient,
  )
  norms = [np.linalg.norm(g) for g in jax.tree.leaves(gradient)]
  np.testing.assert_allclose(
    metrics["gradient_norms"], norms, rtol=1e-3, atol=1e-6
  )
  assert len(norms) == len(leaf_names(before.params))
  assert after.step == 1


def test_what_is_random_follows_the_step_number(planted, one_step):
  task, batch = planted.task(), planted.batches().host_batch(0)
  first, again, later = (
    one_step(task, batch, step=step)[2]["loss"] for step in (5, 5, 6)
  )
  assert first == again
  assert first != later


def test_many_steps_are_the_steps_one_by_one(planted):
  task, batches = planted.task(), planted.batches()
  optimizer = optax.adam(1e-2)
  step = make_step(task, optimizer, make_mesh(MeshConfig()))
  state = init_state(task, optimizer, jax.random.key(1))
  many = jax.jit(make_many_steps(step, batches, 5))
  many_state, metrics = many(
    state, batches.plan(2), batches.device_data, 1, 3, {}, KEY
  )
  one, losses = jax.jit(step), []
  for index in (1, 2, 3):
    batch = batches.host_batch(2 * batches.steps_per_epoch + index)
    state, new = one(state, batch, {}, KEY)
    losses.append(new["loss"])
  assert metrics["loss"].shape == (5,)
  assert not np.any(metrics["loss"][3:])
  np.testing.assert_allclose(metrics["loss"][:3], losses, rtol=1e-5)
  assert many_state.step == state.step == 3
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
    many_state.params,
    state.params,
  )


def compiled_text(planted, objective, config):
  mesh = make_mesh(config)
  task = planted.task(objective, data_shards=config.data)
  optimizer = optax.adam(1e-3)
  shapes = jax.eval_shape(
    functools.partial(init_state, task, optimizer), jax.random.key(0)
  )
  shardings = state_shardings(shapes, mesh)
  replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  step = jax.jit(
    make_step(task, optimizer, mesh),
    in_shardings=(shardings, replicated, replicated, replicated),
    out_shardings=(shardings, replicated),
    donate_argnums=0,
  )
  batch = planted.batches().host_batch(0)
  return step.lower(shapes, batch, {}, jax.random.key(0)).compile().as_text()


@pytest.mark.parametrize("objective", [BinaryCrossEntropy(), FullSoftmax()])
@pytest.mark.parametrize(
  "config", [MeshConfig(data=1, model=4), MeshConfig(data=2, model=4)]
)
def test_no_collective_moves_the_whole_table(planted, objective, config):
  text = compiled_text(planted, objective, config)
  results = re.findall(
    r"^.* = (.*?) (?:all-gather|all-reduce|reduce-scatter|all-to-all"
    r"|collective-permute)(?:-start)?\(",
    text,
    re.MULTILINE,
  )
  shapes = re.findall(r"f32\[([\d,]+)\]", " ".join(results))
  sizes = [math.prod(map(int, shape.split(","))) for shape in shapes]
  assert sizes
  # 128 rows of width 8, however they are turned or grouped.
  assert 128 * 8 not in sizes, results
