import json

import pytest

from recjax.errors import DataError
from recjax.retrieval import index_files

FACTS = {name: "x" for name in index_files.FACTS if name != "files"}


def write(inside):
  (inside / "a.bin").write_bytes(b"12345")
  (inside / "b.bin").write_bytes(b"")


@pytest.fixture
def folder(tmp_path):
  index_files.save_folder(tmp_path / "index", write, FACTS)
  return tmp_path / "index"


def test_a_whole_folder_is_read(folder):
  manifest = index_files.check_folder(folder)
  assert {name: manifest[name] for name in FACTS} == FACTS
  assert manifest["files"]["a.bin"] == {
    "bytes": 5,
    # sha256sum of the five bytes.
    "sha256": (
      "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    ),
  }


def test_a_failed_write_leaves_the_old_one(folder):
  def write(inside):
    (inside / "a.bin").write_bytes(b"new")
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    index_files.save_folder(folder, write, FACTS)
  assert (folder / "a.bin").read_bytes() == b"12345"
  index_files.check_folder(folder)
  assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_broken_files_are_named(folder):
  (folder / "a.bin").write_bytes(b"12346")
  with pytest.raises(DataError, match="a.bin does not have the checksum"):
    index_files.check_folder(folder)
  (folder / "a.bin").write_bytes(b"1234")
  with pytest.raises(DataError, match="a.bin has 4 bytes .* says 5"):
    index_files.check_folder(folder)
  (folder / "a.bin").unlink()
  with pytest.raises(DataError, match="a.bin is missing"):
    index_files.check_folder(folder)


def test_an_added_file_is_named(folder):
  # ScaNN would unpickle it.
  (folder / "scann_docids.pkl").write_bytes(b"")
  with pytest.raises(DataError, match="scann_docids.pkl is no part"):
    index_files.check_folder(folder)


def test_a_broken_manifest_is_named(folder):
  path = folder / index_files.MANIFEST
  manifest = json.loads(path.read_text())
  for text, message in (
    ("{", "manifest.json is corrupt"),
    ("[]", r"has format \[\]"),
    (json.dumps({**manifest, "format": 99}), "has format 99.* reads format 1"),
    (json.dumps({"format": 1, "files": {}}), "lacks .*'kind'"),
  ):
    path.write_text(text)
    with pytest.raises(DataError, match=message):
      index_files.check_folder(folder)
  path.unlink()
  with pytest.raises(DataError, match="holds no saved index"):
    index_files.check_folder(folder)
  with pytest.raises(DataError, match="holds no saved index"):
    index_files.check_folder(folder / "nowhere")


@pytest.mark.parametrize(
  "names", [{"thesis.txt": "mine"}, {"manifest.json": '{"tables": {}}'}]
)
def test_a_folder_with_something_else_is_not_replaced(tmp_path, names):
  for name, text in names.items():
    (tmp_path / name).write_text(text)
  with pytest.raises(DataError, match="something else than an index"):
    index_files.save_folder(tmp_path, write, FACTS)
  assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_a_broken_index_is_replaced(folder):
  (folder / "manifest.json").write_text("{")
  index_files.save_folder(folder, write, FACTS)
  index_files.check_folder(folder)
