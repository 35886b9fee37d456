import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.layers.heads.cross_stitch import CrossStitch
from tests.layers.heads import oracle


def test_layers_are_mixed_after_each():
  head = CrossStitch((6, 3), ())
  params = oracle.drawn(head, 2)

  def expected(x, task):
    states = [x, x]
    for number in range(2):
      layer, stitch = params[f"layer_{number}"], params[f"stitch_{number}"]
      out = [oracle.expert(layer, states[t], t) for t in range(2)]
      states = [stitch[t, 0] * out[0] + stitch[t, 1] * out[1] for t in range(2)]
    return oracle.tower(params["towers"], states[task], task)

  oracle.assert_equal(oracle.applied(head, params, 2), expected)


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_units_start_with_what_is_their_own(num_tasks):
  head = CrossStitch(own=0.8)
  x = jnp.asarray(oracle.X)
  params = head.init(jax.random.key(0), x, num_tasks=num_tasks)["params"]
  stitch = np.asarray(params["stitch_0"])
  np.testing.assert_allclose(stitch.sum(axis=1), 1.0, rtol=1e-6)
  own = 0.8 if num_tasks > 1 else 1.0
  np.testing.assert_allclose(np.diag(stitch), own, rtol=1e-6)
