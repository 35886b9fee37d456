import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.ragged import Ragged
from recjax.errors import ConfigError
from recjax.tasks.history_windows import HistoryWindow

# User 1 touched 5, 6, 7, 8; user 2 touched 9.
ITEMS = Ragged(np.array([5, 6, 7, 8, 9]), np.array([0, 0, 4, 5]))
USERS = jnp.array([1, 1, 1, 1, 2])


def cut(window: HistoryWindow):
  constants = {k: jnp.asarray(x) for k, x in window.constants(ITEMS).items()}
  ids, where = window.windows(
    USERS, jnp.asarray(window.places(ITEMS)), constants
  )
  np.testing.assert_array_equal(np.asarray(ids) > 0, where)
  return np.asarray(ids)


def test_before_is_what_came_before_oldest_first():
  np.testing.assert_array_equal(
    cut(HistoryWindow(max_len=2)),
    [[0, 0], [5, 0], [5, 6], [6, 7], [0, 0]],
  )


@pytest.mark.parametrize("seed", range(5))
def test_others_are_all_but_the_target(seed):
  ids = cut(HistoryWindow(max_len=3, order="others", seed=seed))
  for row, target in enumerate((5, 6, 7, 8)):
    assert sorted(ids[row]) == sorted({5, 6, 7, 8} - {target})
  np.testing.assert_array_equal(ids[4], 0)


def test_an_item_that_was_touched_twice_is_no_history_of_itself():
  items = Ragged(np.array([5, 5, 7, 5]), np.array([0, 0, 3, 4]))
  window = HistoryWindow(max_len=3, order="others")
  constants = {k: jnp.asarray(x) for k, x in window.constants(items).items()}
  ids, _ = window.windows(
    jnp.array([1, 1, 1, 2]), jnp.asarray(window.places(items)), constants
  )
  np.testing.assert_array_equal(
    ids, [[7, 0, 0], [7, 0, 0], [5, 0, 0], [0, 0, 0]]
  )
  np.testing.assert_array_equal(
    np.sort(window.served(items)), [[0, 0, 0], [0, 5, 7], [0, 0, 5]]
  )


def test_of_too_many_others_some_are_taken():
  ids = cut(HistoryWindow(max_len=2, order="others"))
  for row, target in enumerate((5, 6, 7, 8)):
    assert len(set(ids[row])) == 2
    assert set(ids[row]) < {5, 6, 7, 8} - {target}
  # Each is in the histories of others equally often.
  assert set(np.bincount(ids[:4].ravel())[5:]) == {2}


def test_bad_settings_are_told():
  with pytest.raises(ConfigError, match="max_len"):
    HistoryWindow(max_len=0)
  with pytest.raises(ConfigError, match="'before', 'others'|before"):
    HistoryWindow(order="after")
  with pytest.raises(ConfigError, match="tuple of features"):
    HistoryWindow(features=())
