import jax
import jax.numpy as jnp
import numpy as np

from recjax.tasks.frequencies import LOG_NEVER
from recjax.tasks.list_negatives import HARD_LISTS, HardLists

NUM_ITEMS = 20


def test_the_lists_of_users():
  lists = np.array([[7, 0], [8, 9]], np.int32)
  users = jnp.array([0, 1, 0], jnp.int32)
  batch = {"item_id": jnp.ones(3), "user_id": users}
  source = HardLists(50)
  arrays = {HARD_LISTS: lists}
  item_id, where = source.draw(
    jax.random.key(0), batch, arrays, num_items=NUM_ITEMS
  )
  assert np.all(where)
  assert [set(row) for row in np.asarray(item_id)] == [{7}, {8, 9}, {7}]
  log_probability = lambda ids: source.log_probability(
    ids, batch, arrays, num_items=NUM_ITEMS
  )
  own = jnp.array([[7, 8], [8, 3], [1, 7]], jnp.int32)
  log_q = log_probability(own)
  half, never = np.log(0.5), LOG_NEVER
  np.testing.assert_allclose(
    log_q, [[0.0, never], [half, never], [never, 0.0]], atol=1e-5
  )
  # The same for ids that are asked of all rows, 0 and equal ones among them.
  shared = jnp.array([[9, 7, 0, 9, 3, 8]], jnp.int32)
  repeated = jnp.broadcast_to(shared, (3, 6))
  np.testing.assert_array_equal(
    log_probability(shared),
    log_probability(repeated),
  )
