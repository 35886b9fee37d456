"""Both towers together: products, cosines, temperatures, widths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.tower_inputs import TowerInputs
from recjax.models.tower import Tower
from recjax.models.two_tower import TwoTower


def inputs(rows: int, dim: int = 3, seed: int = 0) -> TowerInputs:
  x = jax.random.normal(jax.random.key(seed), (rows, dim))
  return TowerInputs({"id": x}, None, None, {}, {}, None, None)


PLAIN = Tower(3, project=False)


def test_without_layers_the_vectors_are_the_embeddings():
  users, items = inputs(2), inputs(5, seed=1)
  out = TwoTower(PLAIN, PLAIN, temperature=0.5).apply({}, users, items)
  np.testing.assert_array_equal(out["user"], users.fields["id"])
  np.testing.assert_array_equal(out["item"], items.fields["id"])
  assert out["inverse_temperature"] == 2.0


def test_normalized_vectors_have_length_one_and_zeros_stay():
  users = inputs(2)
  users = users.replace(fields={"id": users.fields["id"].at[0].set(0.0)})
  model = TwoTower(PLAIN, PLAIN, normalize=True)

  def total(x):
    out = model.apply({}, users.replace(fields={"id": x}), inputs(1))
    return out["user"].sum(), out["user"]

  gradient, vectors = jax.grad(total, has_aux=True)(users.fields["id"])
  np.testing.assert_allclose(
    np.linalg.norm(vectors, axis=1), [0.0, 1.0], atol=1e-6
  )
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("log_t", "expected"), [(0.0, 1.0), (9.0, 0.01)])
def test_a_learned_temperature_stays_in_its_range(log_t, expected):
  model = TwoTower(PLAIN, PLAIN, learned_temperature=True)
  params = {"log_temperature": jnp.float32(log_t)}
  out = model.apply({"params": params}, inputs(1), inputs(1))
  np.testing.assert_allclose(out["inverse_temperature"], expected, rtol=1e-5)


def test_one_tower_for_both_sides_is_two():
  tower = Tower(3)
  variables = TwoTower(tower, tower).init(
    jax.random.key(0), inputs(2), inputs(2)
  )
  assert set(variables["params"]) == {"user", "item"}


def test_bad_settings_are_told():
  with pytest.raises(ConfigError, match="temperature"):
    TwoTower(temperature=0.0)
  with pytest.raises(ConfigError, match="got 3 and 4"):
    TwoTower(Tower(3), Tower(4))
  with pytest.raises(ConfigError, match="users is 3 and that of items 4"):
    TwoTower(PLAIN, PLAIN).apply({}, inputs(1), inputs(1, dim=4))
