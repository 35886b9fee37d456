"""GPUs as their listing names them, dealt out."""

import importlib.metadata
import types

import pytest

from recjax.errors import ConfigError
from recjax.sweeps.launchers.gpus import deal_out, visible_gpus


@pytest.fixture
def machine(monkeypatch, tmp_path):
  """Three GPUs, and a JAX that takes them."""
  listing = tmp_path / "nvidia-smi"
  listing.write_text(
    "#!/bin/sh\n"
    '[ "$*" = "--query-gpu=uuid --format=csv,noheader" ] || exit 2\n'
    "printf 'GPU-a\\nGPU-b\\nGPU-c\\n'\n"
  )
  listing.chmod(0o755)
  monkeypatch.setenv("PATH", str(tmp_path))
  plugins = [types.SimpleNamespace(name="xla_cuda12")]
  monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
  return types.SimpleNamespace(listing=listing, plugins=plugins)


def test_all_gpus_are_listed_by_their_uuid(machine):
  assert visible_gpus({}) == ["GPU-a", "GPU-b", "GPU-c"]
  machine.listing.write_text("#!/bin/sh\necho no driver\nexit 9\n")
  assert visible_gpus({}) == []
  machine.listing.unlink()
  assert visible_gpus({}) == []


@pytest.mark.parametrize(
  ("env", "found"),
  [
    ({"CUDA_VISIBLE_DEVICES": "2, 0"}, ["2", "0"]),
    ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ["1"]),
    ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ({"JAX_PLATFORMS": "cpu"}, []),
    ({"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "0"}, []),
    ({"JAX_PLATFORMS": "cuda,cpu", "CUDA_VISIBLE_DEVICES": "0"}, ["0"]),
    ({"JAX_PLATFORMS": ""}, ["GPU-a", "GPU-b", "GPU-c"]),
  ],
)
def test_the_environment_has_the_last_word(machine, env, found):
  del machine
  assert visible_gpus(env) == found


def test_a_jax_without_cuda_takes_none(machine):
  machine.plugins[:] = [types.SimpleNamespace(name="libtpu")]
  assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []


def test_processes_have_equal_shares():
  assert deal_out([], 3) == [[], [], []]
  assert deal_out(["a", "b"], 2) == [["a"], ["b"]]
  assert deal_out(["a", "b"], 1) == [["a", "b"]]
  assert deal_out(["a", "b", "c", "d", "e"], 2) == [["a", "b"], ["c", "d"]]


def test_more_processes_than_gpus_are_refused():
  message = r"3 trials at once need a GPU each; there are 2 \(a, b\): --num_wor"
  with pytest.raises(ConfigError, match=f"{message}kers=2, or JAX_PLATFORMS"):
    deal_out(["a", "b"], 3)
  with pytest.raises(ConfigError, match=r"there is 1 \(a\)"):
    deal_out(["a"], 2)
