import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from recjax.errors import RunError
from recjax.train import checkpoint
from recjax.train.checkpoint import Checkpoints
from recjax.train.mesh import MeshConfig, make_mesh


def state_of(step):
  """8 x 2 numbers that are different at every step, and a step."""
  table = 100.0 * step + np.arange(16, dtype=np.float32).reshape(8, 2)
  return {"step": jnp.int32(step), "table": jnp.asarray(table)}


def template(spec=PartitionSpec(), config=None):  # noqa: B008
  mesh = make_mesh(config or MeshConfig())
  layout = {
    "step": NamedSharding(mesh, PartitionSpec()),
    "table": NamedSharding(mesh, spec),
  }
  return jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding
    ),
    state_of(0),
    layout,
  )


@pytest.fixture
def folder(tmp_path):
  return tmp_path / "checkpoints"


@pytest.fixture
def saved(folder):
  """Checkpoints of the steps 10, 20 and 30, of which two are kept."""
  checkpoints = Checkpoints(folder, keep=2)
  for step in (10, 20, 30):
    checkpoints.save(step, state_of(step), {"step": step, "best": -np.inf})
  yield checkpoints
  checkpoints.close()


def restore(folder):
  checkpoints = Checkpoints(folder, keep=2)
  restored = checkpoints.restore(template())
  checkpoints.close()
  return restored


def assert_is_of(restored, step):
  state, loop = restored
  assert loop["step"] == step
  assert state["step"] == step
  np.testing.assert_array_equal(state["table"], state_of(step)["table"])


def steps_in(folder):
  return sorted(int(p.name) for p in folder.iterdir() if p.is_dir())


def a_data_file(folder, step):
  """The largest file of a checkpoint: the numbers themselves."""
  files = (p for p in (folder / str(step)).rglob("*") if p.is_file())
  return max(files, key=lambda path: path.stat().st_size)


def test_nothing_to_restore(folder):
  assert restore(folder) is None


def test_the_newest_is_restored_and_old_ones_are_removed(folder, saved):
  assert_is_of(saved.restore(template()), 30)
  assert_is_of(restore(folder), 30)
  assert restore(folder)[1]["best"] == -np.inf
  assert steps_in(folder) == [20, 30]
  digests = sorted(path.name for path in folder.glob("digest-*"))
  assert digests == ["digest-20.json", "digest-30.json"]


@pytest.mark.parametrize(
  "config,spec",
  [
    (MeshConfig(model=8), PartitionSpec("model", None)),
    (MeshConfig(data=2, model=2), PartitionSpec("model", "data")),
  ],
)
def test_it_is_laid_out_as_the_template_says(saved, config, spec):
  state, _ = saved.restore(template(spec, config))
  assert state["table"].sharding.spec == spec
  assert state["table"].sharding.mesh.devices.size == config.data * config.model
  np.testing.assert_array_equal(state["table"], state_of(30)["table"])


def truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


BREAKAGES = {
  "truncated": (truncate, "is corrupt"),
  "flipped": (flip_a_bit, "is corrupt"),
  "missing": (lambda path: path.unlink(), "is missing"),
  "added": (
    lambda path: path.with_name("stray").write_text("?"),
    "stray was added",
  ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_file_is_named_and_the_one_before_taken(
  folder, saved, caplog, name
):
  damage, message = BREAKAGES[name]
  path = a_data_file(folder, 30)
  damage(path)
  with caplog.at_level(logging.WARNING):
    assert_is_of(restore(folder), 20)
  assert "The checkpoint of step 30" in caplog.text
  assert message in caplog.text
  if name != "added":
    assert str(path.relative_to(folder)) in caplog.text
  # What is left of it is kept, but never looked at again.
  assert (folder.parent / "checkpoints-broken" / "30").is_dir()
  assert steps_in(folder) == [20]


def test_training_goes_on_over_the_place_of_a_broken_one(folder, saved):
  flip_a_bit(a_data_file(folder, 30))
  checkpoints = Checkpoints(folder, keep=2)
  assert_is_of(checkpoints.restore(template()), 20)
  checkpoints.save(30, state_of(31), {"step": 31})
  assert_is_of(checkpoints.restore(template()), 31)
  checkpoints.close()


def test_all_broken(folder, saved):
  for step in (20, 30):
    truncate(a_data_file(folder, step))
  with pytest.raises(RunError, match="every checkpoint in .* is broken") as e:
    restore(folder)
  assert "step 20: 20/" in str(e.value) and "step 30: 30/" in str(e.value)
  assert "empty --workdir" in str(e.value)


def test_an_unreadable_digest_is_a_broken_checkpoint(folder, saved, caplog):
  (folder / "digest-30.json").write_text("{")
  assert_is_of(restore(folder), 20)
  assert "digest-30.json is unreadable" in caplog.text


def test_a_step_is_replaced(folder, saved):
  saved.save(30, state_of(33), {"step": 33})
  assert_is_of(saved.restore(template()), 33)
  assert_is_of(restore(folder), 33)
  assert steps_in(folder) == [20, 30]


class Interrupt(BaseException):
  """What no `except Exception` catches, as KeyboardInterrupt."""


def interrupt(*args, **kwargs):
  raise Interrupt


@pytest.mark.parametrize("step", [30, 40])
def test_an_interrupt_before_the_digest_leaves_the_earlier_one(
  folder, saved, monkeypatch, step
):
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.files, "write_json_atomically", interrupt)
    with pytest.raises(Interrupt):
      saved.save(step, state_of(step), {"step": step})
  assert_is_of(restore(folder), {30: 20, 40: 30}[step])


def test_an_interrupt_of_the_very_first_one_starts_anew(folder, monkeypatch):
  checkpoints = Checkpoints(folder, keep=2)
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.files, "write_json_atomically", interrupt)
    with pytest.raises(Interrupt):
      checkpoints.save(10, state_of(10), {"step": 10})
  checkpoints.close()
  assert restore(folder) is None
  checkpoints = Checkpoints(folder, keep=2)
  checkpoints.save(10, state_of(10), {"step": 10})
  assert_is_of(checkpoints.restore(template()), 10)
  checkpoints.close()


def test_an_interrupt_while_orbax_writes_leaves_the_earlier_one(
  folder, saved, monkeypatch
):
  # As a kill leaves it: a folder with some of the files under Orbax's name.
  half = folder / "40.orbax-checkpoint-tmp"
  shutil.copytree(folder / "30" / "state", half / "state")
  a_data_file(folder, half.name).unlink()
  assert_is_of(restore(folder), 30)
  checkpoints = Checkpoints(folder, keep=2)
  checkpoints.save(40, state_of(40), {"step": 40})
  assert_is_of(checkpoints.restore(template()), 40)
  checkpoints.close()
  assert not half.exists()
