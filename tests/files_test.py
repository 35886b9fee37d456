"""A write happens whole or leaves the old file."""

import hashlib
import json
import os

import pytest

from recjax import files


def _names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_write_makes_folders_and_replaces(tmp_path):
  path = tmp_path / "a" / "b.txt"
  files.write_text_atomically(path, "one")
  files.write_text_atomically(path, "zwei ü")
  assert path.read_text(encoding="utf-8") == "zwei ü"
  assert _names(path.parent) == ["b.txt"]
  assert path.stat().st_mode & 0o777 == 0o644


def test_json(tmp_path):
  files.write_json_atomically(tmp_path / "x.json", {"a": [1, "ü"]})
  text = (tmp_path / "x.json").read_text(encoding="utf-8")
  assert json.loads(text) == {"a": [1, "ü"]} and "ü" in text


@pytest.mark.parametrize("error", [OSError(28, "disk full"), KeyboardInterrupt])
def test_a_broken_write_leaves_the_old_file(tmp_path, error):
  path = tmp_path / "x.txt"
  path.write_text("old")

  def write(file):
    file.write(b"half of the n")
    raise error

  with pytest.raises((OSError, KeyboardInterrupt)):
    files.write_atomically(path, write)
  assert path.read_text() == "old"
  assert _names(tmp_path) == ["x.txt"]


def test_a_file_that_can_not_be_made_durable_leaves_the_old_one(
  tmp_path, monkeypatch
):
  path = tmp_path / "x.txt"
  path.write_text("old")

  def full(handle):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space"):
    files.write_text_atomically(path, "new")
  assert path.read_text() == "old" and _names(tmp_path) == ["x.txt"]


def test_replace_directory(tmp_path):
  path = tmp_path / "data"
  for text in ("one", "two"):
    with files.replace_directory(path) as folder:
      (folder / text).write_text(text)
  assert _names(path) == ["two"]
  assert _names(tmp_path) == ["data"]


def test_a_broken_replacement_leaves_the_old_folder(tmp_path):
  path = tmp_path / "data"
  path.mkdir()
  (path / "old").write_text("old")
  with pytest.raises(KeyboardInterrupt):
    with files.replace_directory(path) as folder:
      (folder / "new").write_text("half")
      raise KeyboardInterrupt
  assert _names(path) == ["old"]
  assert _names(tmp_path) == ["data"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
  path = tmp_path / "data"
  path.mkdir()
  (path / "old").write_text("old")
  rename = os.replace

  def fails(source, target):
    if ".writing-" in str(source):
      raise OSError("no rename")
    rename(source, target)

  monkeypatch.setattr(os, "replace", fails)
  with pytest.raises(OSError, match="no rename"):
    with files.replace_directory(path) as folder:
      (folder / "new").write_text("new")
  assert _names(path) == ["old"]
  assert _names(tmp_path) == ["data"]


def test_sha256(tmp_path):
  content = bytes(range(256)) * 5000
  (tmp_path / "x").write_bytes(content)
  assert (
    files.sha256_of_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()
  )
