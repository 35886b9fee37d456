"""DeLong's test against structural components of all pairs, and the null."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from recjax.errors import DataError
from recjax.evaluation.delong import delong_test
from recjax.metrics.auc import delong_auc


def data(seed: int, num: int = 120, gain: float = 0.6):
  """Two correlated scores with ties, labels, weights."""
  rng = np.random.default_rng(seed)
  truth = rng.normal(size=num)
  label = (rng.random(num) < 1 / (1 + np.exp(-truth))).astype(np.float32)
  a = np.round(truth + rng.normal(size=num), 1)
  b = np.round(gain * truth + rng.normal(size=num), 1)
  return a, b, label, rng.uniform(0.5, 3.0, num)


def components(score, label):
  """Psi of all pairs, and its means: DeLong's V10 and V01."""
  up, down = score[label == 1], score[label == 0]
  psi = (up[:, None] > down) + 0.5 * (up[:, None] == down)
  return psi.mean(axis=1), psi.mean(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_all_pairs(seed):
  a, b, label, _ = data(seed)
  ups, downs = zip(components(a, label), components(b, label))
  covariance = np.cov(np.stack(ups)) / (label == 1).sum()
  covariance += np.cov(np.stack(downs)) / (label == 0).sum()
  contrast = np.array([1.0, -1.0])
  variance = contrast @ covariance @ contrast
  found = delong_test(a, b, label)
  aucs = [roc_auc_score(label, score) for score in (a, b)]
  assert [found.auc_a, found.auc_b] == pytest.approx(aucs)
  assert found.difference == pytest.approx(aucs[0] - aucs[1])
  assert found.variance == pytest.approx(variance, rel=1e-9)
  z = (aucs[0] - aucs[1]) / np.sqrt(variance)
  assert found.z == pytest.approx(z)
  assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(z)))
  ends = scipy.stats.norm.interval(0.95, found.difference, np.sqrt(variance))
  assert found.interval == pytest.approx(ends)
  assert found.num_rows == len(label)


def test_one_side_known_gives_the_variance_of_an_auc():
  """Against a constant, whose AUC is one half without any spread."""
  a, _, label, weight = data(3)
  found = delong_test(a, np.zeros(len(a)), label, weight)
  expected = delong_auc(a, label, weight)
  assert found.auc_a == pytest.approx(float(expected.auc))
  assert found.auc_b == pytest.approx(0.5)
  assert found.variance == pytest.approx(float(expected.variance))


def test_seeds_are_averaged_in_their_aucs():
  a, b, label, _ = data(4)
  other = data(5)[0]
  found = delong_test(np.stack([a, other]), b, label)
  alone = [delong_test(x, b, label).difference for x in (a, other)]
  assert found.difference == pytest.approx(np.mean(alone))
  # The mean of scores is another model, and has another AUC.
  mixed = delong_test((a + other) / 2, b, label).difference
  assert abs(found.difference - mixed) > 1e-3
  shares = lambda x: np.stack(
    [np.concatenate(components(x, label)) for x in x]
  ).mean(0)
  off = shares([a, other]) - shares([b])
  num = int((label == 1).sum())
  variance = off[:num].var(ddof=1) / num
  variance += off[num:].var(ddof=1) / (len(label) - num)
  assert found.variance == pytest.approx(variance)


def test_p_values_are_uniform_where_nothing_differs():
  def p_value(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=300)
    label = rng.random(300) < 1 / (1 + np.exp(-truth))
    a, b = truth + rng.normal(size=(2, 300))
    return delong_test(a, b, label).p_value

  p = [p_value(seed) for seed in range(600)]
  assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3
  assert 0.03 < np.mean(np.array(p) < 0.05) < 0.08


def test_a_real_difference_is_found():
  a, b, label, _ = data(0, num=4000, gain=0.3)
  found = delong_test(a, b, label)
  assert found.p_value < 1e-6 and found.interval[0] > 0


def test_rows_that_do_not_count():
  a, b, label, weight = data(6)
  missing = np.arange(len(label)) % 3 == 0
  found = delong_test(
    a, b, np.where(missing, np.nan, label), np.where(missing, 0.0, weight)
  )
  kept = ~missing
  expected = delong_test(a[kept], b[kept], label[kept], weight[kept])
  assert found == expected and found.num_rows == kept.sum()


def test_what_can_not_be_told():
  a, b, label, _ = data(7)
  same = delong_test(a, a, label)
  assert (same.difference, same.z, same.p_value) == (0.0, 0.0, 1.0)
  for labels in (np.ones(len(a)), np.arange(len(a)) == 0):
    assert np.isnan(delong_test(a, b, labels).variance)
    assert np.isnan(delong_test(a, b, labels).p_value)
  with pytest.raises(DataError, match="got 120 and 119 for 120 labels"):
    delong_test(a, b[1:], label)
  with pytest.raises(DataError, match="labels of 0 and 1"):
    delong_test(a, b, label * 2)
  with pytest.raises(DataError, match="diverged"):
    delong_test(np.where(a > 0, np.nan, a), b, label)
