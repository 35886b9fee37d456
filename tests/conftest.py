"""Settings and fixtures of all tests."""

import os
import pathlib

os.environ.setdefault("MPLBACKEND", "Agg")
# The suite compiles a thousand tiny programs and runs each a few times.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def quick_compiler():
  """Compiling is most of the time of a short run."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
  """The folder of real data sets; without it the test is skipped."""
  folder = os.environ.get("RECJAX_DATA_DIR", "")
  if not folder:
    pytest.skip("RECJAX_DATA_DIR is not set: no real data on this machine")
  return pathlib.Path(folder)
