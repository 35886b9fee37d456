import numpy as np
import pytest

from recjax.errors import ConfigError, RunError
from recjax.train.refreshed import RefreshedConstants, Refresher


def test_the_last_one_at_or_before_a_step_is_read(tmp_path):
  store = RefreshedConstants(tmp_path / "made")
  assert store.load(100) == {}
  for step in (10, 20, 30):
    store.save(step, {"mined": np.full((2, 3), step)})
  assert store.load(9) == {}
  assert store.load(10)["mined"][0, 0] == 10
  assert store.load(29)["mined"][0, 0] == 20
  assert store.load(1000)["mined"][0, 0] == 30


def test_old_ones_are_taken_away_and_the_last_few_stay(tmp_path):
  store = RefreshedConstants(tmp_path)
  for step in range(10):
    store.save(step, {"x": np.array([step])})
  assert len(list(tmp_path.iterdir())) == 4
  assert store.load(6)["x"][0] == 6
  assert store.load(5) == {}


def test_a_truncated_file_is_named(tmp_path):
  store = RefreshedConstants(tmp_path)
  store.save(7, {"x": np.arange(1000)})
  (path,) = tmp_path.iterdir()
  path.write_bytes(path.read_bytes()[:500])
  with pytest.raises(RunError, match="000000000007.npz is broken"):
    store.load(7)


def test_a_refresher_needs_a_period():
  with pytest.raises(ConfigError, match="every_epochs"):
    Refresher(0, lambda weights: {})
