"""The tower of positions, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.position_tower import PositionLogit

POSITION = jnp.array([1, 3, 2, 3])
BIASES = jnp.array([[0.5], [-1.0], [2.0], [0.0]])


@pytest.mark.parametrize("hidden", [(), (6,)])
@pytest.mark.parametrize("has_biases", [False, True])
def test_logits_by_hand(hidden, has_biases):
  biases = BIASES if has_biases else None
  tower = PositionLogit(3, 4, hidden)
  params = tower.init(jax.random.key(0), POSITION, biases)["params"]
  params = jax.tree.map(
    lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params
  )
  found = tower.apply({"params": params}, POSITION, biases)
  leaves = jax.tree.map(np.asarray, params)
  x = leaves["position"]["embedding"][np.asarray(POSITION) - 1]
  if has_biases:
    x = np.concatenate([x, np.asarray(BIASES)], axis=1)
  if hidden:
    layer = leaves["layers"]["layer_0"]
    x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
  expected = x @ leaves["output"]["kernel"] + leaves["output"]["bias"]
  np.testing.assert_allclose(found, expected[:, 0], rtol=1e-5, atol=1e-5)


def test_a_dropped_place_says_nothing():
  tower = PositionLogit(3, dropout_rate=0.25)
  position = jnp.ones(4000, jnp.int32)
  params = tower.init(jax.random.key(0), position)
  params["params"]["output"]["bias"] = jnp.array([1.0])
  rngs = {"dropout": jax.random.key(1)}
  whole = tower.apply(params, position)
  found = tower.apply(params, position, deterministic=False, rngs=rngs)
  is_dropped = np.asarray(found == 0)
  assert abs(is_dropped.mean() - 0.25) < 4 * np.sqrt(0.1875 / 4000)
  np.testing.assert_array_equal(found[~is_dropped], whole[~is_dropped])


@pytest.mark.parametrize(
  "options,message",
  [
    ({"num_positions": 0}, "num_positions must lie"),
    ({"num_positions": 3, "dim": 0}, "dim must lie"),
    ({"num_positions": 3, "hidden": (0,)}, "hidden"),
    ({"num_positions": 3, "dropout_rate": 1.0}, "dropout_rate must lie"),
  ],
)
def test_bad_settings_are_told(options, message):
  with pytest.raises(ConfigError, match=message):
    PositionLogit(**options)
