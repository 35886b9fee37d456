"""Finding files, modules and parameters, and naming the nearest one."""

import collections
import collections.abc
import pathlib

import optax
import pytest

from recjax import errors
from recjax.config import names


def test_the_packaged_folder_is_that_of_the_checkout():
  (root,) = names.gin_roots()
  assert root == pathlib.Path(__file__).parents[2] / "gin"


def test_files_are_looked_for_in_order(tmp_path):
  for folder in ("a/runs", "b/runs"):
    (tmp_path / folder).mkdir(parents=True)
  (tmp_path / "b/runs/x.gin").write_text("")
  folders = (tmp_path / "a", tmp_path / "b")
  b = names.find_gin_file("runs/x.gin", folders)
  assert b == (tmp_path / "b/runs/x.gin").resolve()
  (tmp_path / "a/runs/x.gin").write_text("")
  a = names.find_gin_file("runs/x.gin", folders)
  assert a == (tmp_path / "a/runs/x.gin").resolve()
  assert names.find_gin_file(str(b), folders) == b
  with pytest.raises(errors.ConfigError) as info:
    names.find_gin_file("runs/y.gin", folders, place="z.gin:3")
  message = str(info.value)
  assert message.startswith("z.gin:3: no gin file 'runs/y.gin'; looked in ")
  assert str(folders[0]) in message and str(folders[1]) in message
  assert "Did you mean 'runs/x.gin'?" in message


def test_modules():
  names.import_module("collections.abc", "here")
  with pytest.raises(errors.ConfigError, match="here: no module 'colections'"):
    names.import_module("colections.abc", "here")
  with pytest.raises(errors.ConfigError, match="Did you mean 'collections.abc"):
    names.import_module("collections.abd", "here")
  with pytest.raises(errors.ConfigError, match="write names.find_gin_file"):
    names.import_module("recjax.config.names.find_gin_file", "here")


def test_one_class_has_one_name():
  name = names.public_name(collections.OrderedDict, "c.OD")
  assert name == "collections.OrderedDict"
  # Private where it is defined: as it was spelled.
  assert names.public_name(optax.adam, "optax.adam") == "optax.adam"

  class Local:
    pass

  assert names.public_name(Local, "m.Local") == "m.Local"


def test_parameters():
  def rank(*, num_items, top_k=10):
    return num_items, top_k

  names.check_parameter(rank, "rank", "top_k", "here")
  names.check_parameter(dict, "dict", "anything", "here")
  names.check_parameter(lambda **options: 0, "f", "anything", "here")
  with pytest.raises(errors.ConfigError) as info:
    names.check_parameter(rank, "m.rank", "topk", "here")
  assert str(info.value) == (
    "here: m.rank has no parameter 'topk'. Did you mean 'top_k'? "
    "It has: num_items, top_k."
  )
  with pytest.raises(errors.ConfigError, match="no class or function"):
    names.check_parameter(3, "m.X", "a", "here")
