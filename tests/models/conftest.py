import importlib.util
import pathlib

import pytest


@pytest.fixture(scope="session")
def oracle():
  """Inputs, random weights and perceptrons of ranking models, in NumPy."""
  path = pathlib.Path(__file__).with_name("oracle.py")
  spec = importlib.util.spec_from_file_location("models_oracle", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
