"""Towers against a loop, and what all heads have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.heads.aitm import AITM
from recjax.layers.heads.cross_stitch import CrossStitch
from recjax.layers.heads.mmoe import MMoE
from recjax.layers.heads.ple import PLE
from recjax.layers.heads.separate import Separate
from recjax.layers.heads.shared_bottom import SharedBottom
from recjax.layers.heads.towers import TaskTowers
from tests.layers.heads import oracle

HEADS = [
  Separate,
  SharedBottom,
  CrossStitch,
  MMoE,
  lambda **settings: MMoE(one_gate=True, **settings),
  PLE,
  lambda **settings: PLE(num_layers=1, **settings),
  AITM,
]
NAMES = ["single", "shared", "stitch", "mmoe", "omoe", "ple", "cgc", "aitm"]


@pytest.mark.parametrize("hidden", [(), (3,), (3, 2)])
def test_each_task_has_its_own_tower(hidden):
  head = TaskTowers(hidden)
  params = oracle.drawn(head, 3)
  found = oracle.applied(head, params, 3)
  oracle.assert_equal(found, lambda x, t: oracle.tower(params, x, t))


def test_each_task_may_have_its_own_input():
  head = TaskTowers((3,))
  params = oracle.drawn(head, 2)
  x = np.random.default_rng(3).normal(size=(oracle.BATCH, 2, oracle.IN))
  x = jnp.asarray(x, jnp.float32)
  found = head.apply({"params": params}, x, num_tasks=2)
  expected = [
    [oracle.tower(params, np.asarray(row[t]), t) for t in range(2)] for row in x
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ConfigError, match="for each of the 3 tasks; got 2"):
    head.apply({"params": params}, x, num_tasks=3)


@pytest.mark.parametrize("make", HEADS, ids=NAMES)
@pytest.mark.parametrize("num_tasks", [1, 3])
def test_every_head_gives_a_logit_a_task_and_learns_all_it_has(make, num_tasks):
  head = make()
  params = oracle.drawn(head, num_tasks)
  assert oracle.applied(head, params, num_tasks).shape == (5, num_tasks)
  x = jnp.asarray(np.random.default_rng(5).normal(size=(400, oracle.IN)))
  loss = lambda params: jnp.sum(
    jnp.sin(
      head.apply({"params": params}, x.astype(jnp.float32), num_tasks=num_tasks)
    )
  )
  gradient = jax.jit(jax.grad(loss))(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.all(np.isfinite(leaf)), path
    if num_tasks > 1:
      assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("make", HEADS, ids=NAMES)
def test_the_logits_of_a_task_do_not_move_towers_of_others(make):
  head = make()
  params = oracle.drawn(head, 2)

  def loss(params):
    x = jnp.asarray(oracle.X)
    return jnp.sum(head.apply({"params": params}, x, num_tasks=2)[:, 0] ** 2)

  towers = jax.jit(jax.grad(loss))(params)["towers"]
  assert np.abs(towers["kernel"][0]).max() > 0
  assert np.all(np.asarray(towers["kernel"][1]) == 0)


@pytest.mark.parametrize("make", HEADS, ids=NAMES)
def test_padding_rows_do_not_count_in_the_statistics(make):
  head = make(batch_norm=True)
  x = jnp.asarray(np.random.default_rng(5).normal(size=(8, oracle.IN)))
  x = x.astype(jnp.float32)
  variables = head.init(jax.random.key(0), x, num_tasks=2)
  run = lambda x, where: head.apply(
    variables,
    x,
    num_tasks=2,
    deterministic=False,
    where=where,
    mutable=["batch_stats"],
  )
  alone, _ = run(x[:6], None)
  padded, _ = run(x.at[6:].set(1e3), jnp.arange(8) < 6)
  np.testing.assert_allclose(padded[:6], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  "make,settings,message",
  [
    (TaskTowers, {"dropout_rate": 1.0}, "TaskTowers.dropout_rate"),
    (Separate, {"activation": "rel"}, "Did you mean 'relu'"),
    (SharedBottom, {"hidden": ()}, "SharedBottom.hidden must be a tuple of at"),
    (SharedBottom, {"tower": (0,)}, r"SharedBottom.tower\[0\]"),
    (CrossStitch, {"own": 1.5}, "CrossStitch.own"),
    (MMoE, {"num_experts": 0}, "MMoE.num_experts"),
    (MMoE, {"gate_dropout_rate": 1.0}, "MMoE.gate_dropout_rate"),
    (PLE, {"shared_experts": 0}, "PLE.shared_experts"),
    (AITM, {"hidden": ()}, "AITM.hidden"),
  ],
)
def test_bad_settings_are_told(make, settings, message):
  with pytest.raises(ConfigError, match=message):
    make(**settings)
