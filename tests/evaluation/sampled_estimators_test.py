"""Estimates of full metrics: formulas, planted ranks, and no sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from recjax.errors import ConfigError, DataError
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.sampled_estimators import (
  ESTIMATORS,
  corrected_metrics,
  metric_of_rank,
)
from recjax.evaluation.sampled_ranks import SampledRanks
from recjax.metrics import ranking
from recjax.metrics.ranks import Ranks

METRICS = (
  ("hit_rate@10", "hit_rate", 10),
  ("ndcg@10", "ndcg", 10),
  ("mrr", "mrr", None),
)


def seen(above, pool, num_draws, *, with_replacement=True, **changes):
  above = np.asarray(above)
  fields = {
    "tied": np.zeros_like(above),
    "pool_size": np.broadcast_to(np.asarray(pool), above.shape),
    "user_id": np.arange(len(above)),
    **changes,
  }
  return SampledRanks(
    above=above,
    num_draws=num_draws,
    with_replacement=with_replacement,
    **fields,
  )


def exact(items_above, metrics=METRICS):
  """The metrics of full ranks."""
  rank = items_above + 1.0
  values = {
    "hit_rate": lambda k: rank <= k,
    "ndcg": lambda k: (rank <= k) / np.log2(rank + 1),
    "mrr": lambda k: 1 / rank,
  }
  return {key: values[name](k).mean() for key, name, k in metrics}


# --- The metrics of one target ---------------------------------------------


def test_metrics_are_those_of_counted_ranks():
  protocol = Protocol(
    metrics=("hit_rate", "recall", "precision", "ndcg", "map", "mrr", "mrr@3"),
    cutoffs=(1, 10),
  )

  @jax.jit
  def all_metrics(greater):
    none = jnp.zeros_like(greater)
    ranks = Ranks(greater, none, none, none, none)
    where = jnp.ones(greater.shape, bool)
    return {
      key: getattr(ranking, f"{name}_metric")(ranks, where, k=k)
      for key, name, k in protocol.values()
    }

  expected = all_metrics(jnp.arange(30)[:, None])
  for key, name, k in protocol.values():
    found = metric_of_rank(name, k, np.arange(30) + 1)
    np.testing.assert_allclose(found, expected[key], rtol=1e-6)


def test_an_unknown_metric_is_refused():
  with pytest.raises(ConfigError, match="'mrr'"):
    metric_of_rank("mr", None, np.ones(1))


# --- Formulas ----------------------------------------------------------------


def by_formula(above, pool, num_draws, metrics, gamma):
  """All estimators with one row a rank, as the papers write them."""
  items = np.arange(pool + 1)
  a = scipy.stats.binom.pmf(
    np.arange(num_draws + 1)[None, :], num_draws, items[:, None] / pool
  )
  b = np.stack([metric_of_rank(name, k, items + 1) for _, name, k in metrics])
  b, one = b.T, np.ones(pool + 1)
  mle = one / (pool + 1)
  counts = np.bincount(above, minlength=num_draws + 1)
  for _ in range(100):
    joint = mle[:, None] * a
    mle = joint / joint.sum(0) @ counts / len(above)

  def bias_variance(prior):
    d = np.diag(prior)
    matrix = (1 - gamma) * a.T @ d @ a + gamma * np.diag(a.T @ d @ one)
    return (np.linalg.inv(matrix) @ a.T @ d @ b)[above].mean(0)

  d, num = np.diag(mle), len(above)
  matrix = a.T @ d @ a - a.T @ a / num + np.diag(a.T @ one) / num
  rank = 1 + above * pool / num_draws
  at_rank = [metric_of_rank(name, k, rank).mean() for _, name, k in metrics]
  return {
    "rank": np.array(at_rank),
    "bv": bias_variance(one / (pool + 1)),
    "mle": mle @ b,
    "bv_mle": bias_variance(mle),
    "mn_mle": (np.linalg.inv(matrix) @ a.T @ d @ b)[above].mean(0),
  }


@pytest.mark.parametrize("gamma", [0.01, 0.3])
def test_estimators_are_their_formulas(gamma):
  rng = np.random.default_rng(3)
  pool, num_draws = 60, 8
  above = rng.binomial(num_draws, rng.integers(0, 40, 200) / pool)
  found = corrected_metrics(
    seen(above, pool, num_draws), METRICS, gamma=gamma, num_resamples=2
  )
  expected = by_formula(above, pool, num_draws, METRICS, gamma)
  assert tuple(found) == ESTIMATORS == tuple(expected)
  for name, values in expected.items():
    actual = [found[name][key].value for key, _, _ in METRICS]
    np.testing.assert_allclose(actual, values, rtol=1e-6, atol=1e-9)


def test_groups_of_ranks_change_little():
  # 1,501 ranks one by one against the few hundred groups that are used.
  rng = np.random.default_rng(4)
  pool, num_draws = 1500, 40
  items = np.minimum(rng.geometric(1 / 200, 2000), pool)
  above = rng.binomial(num_draws, items / pool)
  metrics = (*METRICS, ("ndcg@100", "ndcg", 100))
  found = corrected_metrics(
    seen(above, pool, num_draws), metrics, num_resamples=2
  )
  expected = by_formula(above, pool, num_draws, metrics, 0.01)
  for name, values in expected.items():
    actual = [found[name][key].value for key, _, _ in metrics]
    np.testing.assert_allclose(actual, values, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("varied", [False, True])
def test_without_sampling_all_estimators_are_exact(varied):
  # Every item of the pool is drawn, once.
  rng = np.random.default_rng(5)
  items = rng.integers(0, 40, 300)
  ranks = seen(items, 39, 39, with_replacement=False)
  if varied:  # Larger pools do not change what all draws of one tell.
    items = np.concatenate([items, items])
    drawn = rng.hypergeometric(items[300:], 45 - items[300:], 39)
    ranks = seen(
      np.concatenate([items[:300], drawn]),
      np.repeat([39, 45], 300),
      39,
      with_replacement=False,
    )
  found = corrected_metrics(ranks, METRICS, num_resamples=2)
  truth = exact(items)
  for name in ESTIMATORS:
    for key, _, _ in METRICS:
      # 39 of 45 leave a little to guess, and the rank is not linear.
      wrong = 1e-6 if not varied else 0.08 if name == "rank" else 0.02
      assert found[name][key].value == pytest.approx(truth[key], abs=wrong)


# --- Planted ranks -----------------------------------------------------------


def planted(kind, pool):
  """The distribution of items above a target."""
  items = np.arange(pool + 1)
  near = np.exp(-items / 40.0)
  found = {
    "uniform": np.ones(pool + 1),
    "power": 1 / (items + 3.0),
    "mixture": 0.7 * near / near.sum() + 0.3 / (pool + 1),
  }[kind]
  return found / found.sum()


def errors(kind, *, pool, num_draws, num_queries, with_replacement, repeats):
  """Errors of the raw metrics and of all estimators, [repeat, metric]."""
  rng = np.random.default_rng(6)
  out: dict[str, list] = {name: [] for name in ("raw", *ESTIMATORS)}
  for _ in range(repeats):
    items = rng.choice(pool + 1, num_queries, p=planted(kind, pool))
    if with_replacement:
      above = rng.binomial(num_draws, items / pool)
    else:
      above = rng.hypergeometric(items, pool - items, num_draws)
    truth = exact(items)
    found = corrected_metrics(
      seen(above, pool, num_draws, with_replacement=with_replacement),
      METRICS,
      num_resamples=2,
    )
    values = {name: {k: v.value for k, v in found[name].items()}
              for name in ESTIMATORS} | {"raw": exact(above)}  # fmt: skip
    for name, of in values.items():
      out[name].append([of[key] - truth[key] for key, _, _ in METRICS])
  return {name: np.array(rows) for name, rows in out.items()}


@pytest.mark.parametrize("kind", ["uniform", "power", "mixture"])
@pytest.mark.parametrize("with_replacement", [True, False])
def test_where_draws_see_the_top_bias_is_small(kind, with_replacement):
  # Five items a draw, half of the cut-off.
  found = errors(
    kind,
    pool=500,
    num_draws=100,
    num_queries=2000,
    with_replacement=with_replacement,
    repeats=8,
  )
  raw = np.abs(found["raw"].mean(0))
  assert (raw > 0.03).all()
  for name in ("bv", "mle", "bv_mle", "mn_mle"):
    error = 3 * found[name].std(0, ddof=1) / np.sqrt(8)
    bias = np.abs(found[name].mean(0))
    assert (bias < 0.012 + error).all(), (name, bias, error)
    assert (bias < 0.2 * raw).all(), (name, bias, raw)
    # The spread of the estimates stays far below what they correct.
    assert (found[name].std(0) < 0.2 * raw).all()
  assert (np.abs(found["rank"].mean(0)) < 0.7 * raw).all()


@pytest.mark.parametrize("kind", ["uniform", "power", "mixture"])
def test_where_draws_miss_the_top_the_raw_metric_is_still_worse(kind):
  # Fifty items a draw: the first ten ranks look alike.
  found = errors(
    kind,
    pool=5000,
    num_draws=100,
    num_queries=2000,
    with_replacement=True,
    repeats=4,
  )
  raw = np.abs(found["raw"]).mean(0)
  for name in ESTIMATORS[1:]:
    assert (np.abs(found[name]).mean(0) < 0.5 * raw).all(), name
  assert (np.abs(found["mle"]).mean(0) < 0.35 * raw).all()


def test_pools_of_users_count():
  # Half of the users have seen four items out of five.
  rng = np.random.default_rng(7)
  pool = np.repeat([200, 1000], 2000)
  items = np.minimum(rng.geometric(1 / 30, 4000), 199)
  above = rng.binomial(100, items / pool)
  judge = lambda pools: (
    corrected_metrics(seen(above, pools, 100), METRICS, num_resamples=2)["mle"][
      "hit_rate@10"
    ].value
  )
  truth = exact(items)["hit_rate@10"]
  right, wrong = judge(pool), judge(1000)
  assert abs(right - truth) < 0.03 < abs(wrong - truth)


# --- Ties and intervals ------------------------------------------------------


def test_a_tie_is_the_mean_over_its_orders():
  rng = np.random.default_rng(8)
  above = rng.integers(0, 4, 50)
  tied = np.zeros(50, int)
  tied[0] = 2
  judge = lambda ranks: corrected_metrics(ranks, METRICS, num_resamples=2)
  with_tie = judge(seen(above, 60, 8, tied=tied))
  orders = []
  for more in range(3):
    moved = above.copy()
    moved[0] += more
    orders.append(judge(seen(moved, 60, 8)))
  for key, _, _ in METRICS:  # These two do not learn of the others.
    for name in ("rank", "bv"):
      mean = np.mean([order[name][key].value for order in orders])
      assert with_tie[name][key].value == pytest.approx(mean)


def test_intervals_are_as_wide_as_the_spread():
  rng = np.random.default_rng(9)
  values, widths = [], []
  for seed in range(20):
    items = rng.choice(501, 500, p=planted("mixture", 500))
    ranks = seen(rng.binomial(50, items / 500), 500, 50)
    found = corrected_metrics(ranks, METRICS, num_resamples=40, seed=seed)
    found = {name: found[name]["ndcg@10"] for name in ("rank", "bv", "mle")}
    values.append([each.value for each in found.values()])
    widths.append([np.diff(each.interval)[0] for each in found.values()])
    for each in found.values():
      assert each.interval[0] <= each.value <= each.interval[1]
  spread = 2 * 1.96 * np.std(values, axis=0, ddof=1)
  ratio = np.mean(widths, axis=0) / spread
  assert (ratio > 0.6).all() and (ratio < 1.5).all(), ratio


def test_queries_of_one_user_are_drawn_together():
  rng = np.random.default_rng(10)
  above = np.repeat(rng.integers(0, 8, 60), 10)
  width = lambda user_id: np.diff(
    corrected_metrics(seen(above, 60, 8, user_id=user_id), METRICS)["bv"][
      "ndcg@10"
    ].interval
  )[0]
  assert width(np.repeat(np.arange(60), 10)) > 2 * width(np.arange(600))


def test_bad_options_are_refused():
  ranks = seen([0, 1], 60, 8)
  with pytest.raises(ConfigError, match="gamma"):
    corrected_metrics(ranks, METRICS, gamma=0.0)
  with pytest.raises(ConfigError, match="num_resamples"):
    corrected_metrics(ranks, METRICS, num_resamples=0)
  with pytest.raises(DataError, match="rank the whole catalogue"):
    corrected_metrics(seen([0, 1], 10**6, 50_000), METRICS)
