import jax.numpy as jnp
import numpy as np

from recjax.losses.pairwise import bpr_loss


def test_bpr_is_the_mean_log_sigmoid_of_differences():
  rng = np.random.default_rng(0)
  positive = rng.normal(size=(2, 3)).astype(np.float32)
  negative = rng.normal(size=(2, 3, 4)).astype(np.float32)
  where = np.array([[True, True, False], [True, False, True]])
  difference = positive[..., None].astype(np.float64) - negative
  expected = -np.mean(np.log(1 / (1 + np.exp(-difference))), axis=-1)
  np.testing.assert_allclose(
    bpr_loss(*map(jnp.asarray, (positive, negative, where))),
    np.where(where, expected, 0.0),
    rtol=1e-5,
  )


def test_bpr_of_equal_scores_is_log_two():
  loss = bpr_loss(jnp.ones(2), jnp.ones((2, 3)), jnp.ones(2, bool))
  np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-6)
