"""What holds for every metric of labelled examples."""

import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recjax.metrics
from recjax.metrics import auc, calibration, classification

GROUP = (np.arange(48) * 7 % 5).astype(np.int32)


def grouped(function, **options):
  """A function of examples alone; its group follows from the score's place."""

  def call(score, label, group, weight, where):
    return function(score, label, group, weight, where, **options)

  return call


def plain(function, **options):
  def call(score, label, group, weight, where):
    del group
    return function(score, label, weight, where, **options)

  return call


ece = calibration.expected_calibration_error_metric
# Every metric with its options, and what it is when nothing counts.
CASES = {
  "auc": (plain(auc.auc_metric), np.nan),
  "delong": (plain(auc.delong_auc), np.nan),
  "gauc": (grouped(auc.grouped_auc_metric), (np.nan, 0, 0, 0)),
  "log_loss": (plain(classification.log_loss_metric), 0),
  "log_loss_of_logits": (
    plain(classification.log_loss_metric, from_logits=True),
    0,
  ),
  "normalized_entropy": (plain(classification.normalized_entropy_metric), 0),
  "normalized_entropy_given": (
    plain(classification.normalized_entropy_metric, base_rate=0.2),
    0,
  ),
  "rmse": (plain(classification.rmse_metric), 0),
  "ece": (plain(ece, num_bins=4), 0),
  "ece_equal_mass": (plain(ece, num_bins=4, binning="equal_mass"), 0),
  "ece_of_logits": (plain(ece, from_logits=True), 0),
}
METRICS = {
  auc.auc_metric,
  auc.grouped_auc_metric,
  classification.log_loss_metric,
  classification.normalized_entropy_metric,
  classification.rmse_metric,
  ece,
}


@functools.cache
def compiled(name):
  return jax.jit(CASES[name][0])


def examples(seed: int):
  """Tied scores in (0, 1), labels, groups, whole weights, a mask."""
  rng = np.random.default_rng(seed)
  score = (rng.integers(1, 12, 48) / 13).astype(np.float32)
  label = rng.random(48) < score
  weight = rng.integers(0, 4, 48).astype(np.float32)
  return score, label, GROUP, weight, rng.random(48) < 0.8


def check(actual, expected, rtol=2e-6):
  actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
  assert len(actual) == len(expected)
  np.testing.assert_allclose(
    np.array(actual, np.float64), np.array(expected, np.float64), rtol, 1e-7
  )


def test_every_metric_is_on_the_list():
  found = set()
  for module in pkgutil.iter_modules(recjax.metrics.__path__):
    if module.name == "ranking":  # On the list of ranking_test.py.
      continue
    names = vars(importlib.import_module(f"recjax.metrics.{module.name}"))
    found |= {v for k, v in names.items() if k.endswith("_metric")}
  assert found == METRICS


@pytest.mark.parametrize("name", CASES)
def test_jit_equals_eager_equals_numpy(name):
  parts = examples(1)
  expected = CASES[name][0](*parts)
  check(compiled(name)(*parts), expected)
  check(CASES[name][0](*map(jnp.asarray, parts)), expected)
  assert np.isfinite(jax.tree.leaves(expected)).all()


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_loop(name):
  several = [examples(seed) for seed in (2, 3, 4)]
  stacked = [jnp.stack(list(map(jnp.asarray, part))) for part in zip(*several)]
  together = jax.jit(jax.vmap(CASES[name][0]))(*stacked)
  for i, parts in enumerate(several):
    row = jax.tree.map(lambda leaf, i=i: leaf[i], together)
    check(row, compiled(name)(*parts))


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_count_has_no_effect(name):
  score, label, group, weight, where = examples(5)
  counts = where & (weight > 0)
  assert (~where).sum() > 3 and (where & (weight == 0)).sum() > 3
  for noise in (np.float32(np.nan), np.float32(0.99)):
    noisy = np.where(counts, score, noise)
    other = np.where(counts, label, ~label)
    moved = np.where(counts, group, 3).astype(np.int32)
    parts = noisy, other, moved, weight, where
    check(
      compiled(name)(*parts),
      compiled(name)(score, label, group, weight, where),
    )
    check(
      CASES[name][0](*parts),
      CASES[name][0](
        *(p[counts] for p in (score, label, group, weight, where))
      ),
    )


@pytest.mark.parametrize("name", CASES)
def test_order_has_no_effect(name):
  parts = examples(6)
  order = np.random.default_rng(0).permutation(48)
  check(compiled(name)(*(p[order] for p in parts)), compiled(name)(*parts))


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"delong"}))
def test_a_weight_is_a_repetition(name):
  score, label, group, weight, where = examples(7)
  often = np.repeat(np.arange(48), weight.astype(int))
  repeated = [p[often] for p in (score, label, group)]
  expected = CASES[name][0](*repeated, None, where[often])
  check(compiled(name)(score, label, group, weight, where), expected)


@pytest.mark.parametrize("name", CASES)
def test_the_unit_of_the_weights_has_no_effect(name):
  score, label, group, weight, where = examples(8)
  check(
    compiled(name)(score, label, group, weight * 37.5, where),
    compiled(name)(score, label, group, weight, where),
  )


@pytest.mark.parametrize("name", CASES)
def test_nothing_counts(name):
  score, label, group, weight, _ = examples(9)
  nothing = np.zeros(48, bool)
  expected = np.broadcast_to(
    CASES[name][1], len(jax.tree.leaves(CASES[name][0](*examples(9))))
  )
  for function in (compiled(name), CASES[name][0]):
    check(function(score, label, group, weight, nothing), list(expected))
  empty = [part[:0] for part in (score, label, group, weight, nothing)]
  check(CASES[name][0](*empty), list(expected))
  if name in ("auc", "gauc", "ece"):
    check(CASES[name][0](*map(jnp.asarray, empty)), list(expected))


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_is_computed_in_float32(name):
  score, label, group, weight, where = examples(10)
  short = jnp.asarray(score, jnp.bfloat16)
  rounded = np.asarray(short.astype(jnp.float32))
  check(
    CASES[name][0](short, label, group, weight, where),
    compiled(name)(rounded, label, group, weight, where),
  )
