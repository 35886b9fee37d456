import jax
import jax.numpy as jnp

from recjax.layers.tower_inputs import TowerInputs


def test_inputs_go_through_jit_with_what_is_missing():
  inputs = TowerInputs(
    {"a": jnp.ones((2, 3))}, None, None, {}, {"b": jnp.ones((2, 1))}, None, None
  )
  double = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree))
  out = double(inputs)
  assert isinstance(out, TowerInputs)
  assert out.fields["a"].sum() == 12 and out.modalities["b"].sum() == 4
  assert out.numbers is None and out.history is None
