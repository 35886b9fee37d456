import json

import pyarrow as pa
import pytest

from recjax.data import arrow_store
from recjax.errors import DataError

TABLES = {"rows": pa.table({"a": [1, 2, 3]}), "more": pa.table({"b": ["x"]})}
FACTS = {"format": 3, "name": "toy"}
READ = dict(what="toys", version=3, facts=("name",), needs="rows")


@pytest.fixture
def folder(tmp_path):
  arrow_store.save_tables(tmp_path / "toy", TABLES, FACTS)
  return tmp_path / "toy"


def test_saved_and_loaded(folder):
  manifest, tables = arrow_store.load_tables(folder, **READ)
  assert manifest["name"] == "toy" and set(manifest["files"]) == {
    "rows.arrow",
    "more.arrow",
  }
  assert tables["rows"].equals(TABLES["rows"])
  assert tables["more"].equals(TABLES["more"])


def _damage(folder, content):
  (folder / "rows.arrow").write_bytes(content)


def _change(folder, **entries):
  path = folder / "manifest.json"
  manifest = json.loads(path.read_text()) | entries
  path.write_text(
    json.dumps({k: v for k, v in manifest.items() if v is not None})
  )


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda f: (f / "more.arrow").unlink(), r"more\.arrow is missing"),
    (lambda f: _damage(f, b"short"), r"rows\.arrow has 5 bytes where"),
    (
      lambda f: _damage(f, bytes((f / "rows.arrow").stat().st_size)),
      r"rows\.arrow does not have the checksum",
    ),
    (lambda f: (f / "manifest.json").unlink(), "holds no saved toys"),
    (lambda f: (f / "manifest.json").write_text("{"), "json is corrupt"),
    (lambda f: (f / "manifest.json").write_text("[]"), "lacks some of"),
    (lambda f: _change(f, name=None), r"lacks some of \['files', 'name'\]"),
    (lambda f: _change(f, format=4), "has format 4; .* reads format 3"),
    (lambda f: _change(f, files={}), r"lists no rows\.arrow"),
  ],
)
def test_damage_is_named(folder, damage, message):
  damage(folder)
  with pytest.raises(DataError, match=message):
    arrow_store.load_tables(folder, **READ)


def test_a_file_that_is_no_arrow_file(folder):
  _damage(folder, b"x" * 100)
  facts = {"rows.arrow": arrow_store.describe_file(folder / "rows.arrow")}
  _change(folder, files=facts)
  with pytest.raises(DataError, match="is no Arrow file"):
    arrow_store.load_tables(folder, **READ)


def test_a_look_at_the_size_alone(folder):
  path = folder / "rows.arrow"
  expected = arrow_store.describe_file(path)
  path.write_bytes(bytes(expected["bytes"]))
  arrow_store.check_file(path, expected, content=False)
  with pytest.raises(DataError, match="checksum"):
    arrow_store.check_file(path, expected)


def test_a_failed_save_leaves_the_old_tables(folder, monkeypatch):
  def full(path, value):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("recjax.files.write_json_atomically", full)
  with pytest.raises(OSError, match="No space"):
    arrow_store.save_tables(folder, {"rows": TABLES["more"]}, FACTS)
  _, tables = arrow_store.load_tables(folder, **READ)
  assert tables["rows"].equals(TABLES["rows"])
  assert [path.name for path in folder.parent.iterdir()] == ["toy"]
