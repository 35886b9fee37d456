import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.fields import (
  FieldVectors,
  LinearTerms,
  flatten_fields,
  model_inputs,
  refuse_dense,
)

_rng = np.random.default_rng(0)
ROWS = jnp.asarray(_rng.normal(size=(4, 3, 2)), jnp.float32)
WEIGHTS = jnp.asarray(_rng.normal(size=(4, 5, 1)), jnp.float32)
DENSE = jnp.asarray(_rng.normal(size=(4, 2)), jnp.float32)


def test_inputs_are_those_asked_for_in_float32():
  rows, dense = model_inputs(
    {"a": ROWS.astype(jnp.bfloat16), "other": WEIGHTS},
    DENSE.astype(jnp.bfloat16),
    {"a": 2},
  )
  assert set(rows) == {"a"}
  assert rows["a"].dtype == dense.dtype == jnp.float32
  np.testing.assert_array_equal(rows["a"], ROWS.astype(jnp.bfloat16))
  assert model_inputs({"a": ROWS}, None, {"a": 2})[1] is None
  assert model_inputs({"a": ROWS}, DENSE[:, :0], {"a": 2})[1] is None


@pytest.mark.parametrize(
  "rows,groups,message",
  [
    ({"embeding": ROWS}, {"embedding": 2}, "Did you mean 'embeding'"),
    ({}, {"linear": 1}, "group 'linear' of width 1; got the groups none"),
    ({"a": ROWS}, {"a": 3}, "'a' must have width 3.*rows of width 2"),
  ],
)
def test_a_wrong_group_is_named(rows, groups, message):
  with pytest.raises(ConfigError, match=message):
    model_inputs(rows, None, groups)


def test_a_wrong_number_of_fields_is_named():
  with pytest.raises(ConfigError, match="'a' must have 2 fields; got 3"):
    model_inputs({"a": ROWS}, None, {"a": 2}, num_fields=2)


def test_dense_columns_are_refused():
  refuse_dense("GMF", None)
  with pytest.raises(ConfigError, match="GMF knows users.*columns; got 2"):
    refuse_dense("GMF", DENSE)


def test_flat_rows_are_field_after_field_then_dense():
  flat = flatten_fields(ROWS, DENSE)
  for n in range(4):
    expected = [*ROWS[n, 0], *ROWS[n, 1], *ROWS[n, 2], *DENSE[n]]
    np.testing.assert_array_equal(flat[n], expected)
  np.testing.assert_array_equal(flatten_fields(ROWS), flat[:, :6])


def test_linear_terms():
  params = {"bias": jnp.asarray(0.5), "dense": jnp.asarray([2.0, -1.0])}
  found = LinearTerms().apply({"params": params}, WEIGHTS, DENSE)
  for n in range(4):
    expected = 0.5 + sum(WEIGHTS[n, i, 0] for i in range(5))
    expected += 2 * DENSE[n, 0] - DENSE[n, 1]
    np.testing.assert_allclose(found[n], expected, rtol=1e-5)
  initial = LinearTerms().init(jax.random.key(0), WEIGHTS, DENSE)["params"]
  assert initial["bias"].shape == () and initial["dense"].shape == (2,)
  np.testing.assert_array_equal(initial["dense"], 0.0)
  assert set(LinearTerms().init(jax.random.key(0), WEIGHTS)["params"]) == {
    "bias"
  }


def test_dense_columns_become_vectors():
  v = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
  found = FieldVectors().apply({"params": {"dense": v}}, ROWS, DENSE)
  assert found.shape == (4, 5, 2)
  np.testing.assert_array_equal(found[:, :3], ROWS)
  for j in range(2):
    np.testing.assert_allclose(
      found[:, 3 + j], DENSE[:, j : j + 1] * v[j][None]
    )
  np.testing.assert_array_equal(FieldVectors().apply({}, ROWS), ROWS)


def test_initial_vectors_of_dense_columns():
  rows, dense = jnp.zeros((1, 1, 49)), jnp.zeros((1, 100))
  params = FieldVectors().init(jax.random.key(0), rows, dense)["params"]
  assert params["dense"].shape == (100, 49)
  assert abs(np.var(params["dense"]) / (2 / 50) - 1) < 0.1
