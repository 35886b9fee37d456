"""Archives are fetched, checked and unpacked whole or not at all."""

import hashlib
import io
import zipfile

import pytest

from recjax.data.sources.download import fetch_zip
from recjax.errors import DataError


def _archive(tmp_path, members=("ml/u.data", "ml/README", "other/x")):
  content = io.BytesIO()
  with zipfile.ZipFile(content, "w") as archive:
    for member in members:
      archive.writestr(member, f"content of {member}")
  path = tmp_path / "ml.zip"
  path.write_bytes(content.getvalue())
  return path.as_uri(), hashlib.sha256(content.getvalue()).hexdigest()


def _names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_the_files_of_the_folder_are_unpacked(tmp_path):
  url, digest = _archive(tmp_path)
  fetch_zip(url, digest, "ml", tmp_path / "data" / "mine")
  assert _names(tmp_path / "data") == ["mine"]
  assert _names(tmp_path / "data" / "mine") == ["README", "u.data"]
  text = (tmp_path / "data" / "mine" / "u.data").read_text()
  assert text == "content of ml/u.data"


def test_another_archive_is_refused(tmp_path):
  url, _ = _archive(tmp_path)
  with pytest.raises(DataError, match=f"{url} has the SHA-256 .* of abc:"):
    fetch_zip(url, "abc", "ml", tmp_path / "data" / "mine")
  assert _names(tmp_path / "data") == []


def test_an_archive_without_the_folder(tmp_path):
  url, digest = _archive(tmp_path)
  with pytest.raises(DataError, match="holds no folder 'nothing'"):
    fetch_zip(url, digest, "nothing", tmp_path / "data" / "mine")


def test_a_path_that_leads_out_of_the_folder_stays_inside(tmp_path):
  url, digest = _archive(tmp_path, ("../../ml/escape",))
  fetch_zip(url, digest, "ml", tmp_path / "data" / "mine")
  assert _names(tmp_path / "data" / "mine") == ["escape"]


def test_no_network_says_what_to_do_by_hand(tmp_path):
  url = (tmp_path / "no.zip").as_uri()
  with pytest.raises(DataError, match=f"could not fetch {url}.*mine"):
    fetch_zip(url, "abc", "ml", tmp_path / "data" / "mine")
