import gzip

import pyarrow as pa
import pytest

from recjax.data.sources.criteo import CATEGORIES, COLUMNS, INTEGERS, Criteo
from recjax.errors import ConfigError, DataError

LINE = "\t".join(
  ["0", *"123456789", "", "11", "12", "-3", *["68fd1e64"] * 25, ""]
)
SAMPLE = "ctr-format-samples/criteo"


def write(folder, lines, name="train.txt"):
  (folder / "criteo").mkdir(exist_ok=True)
  path = folder / "criteo" / name
  data = ("\n".join(lines) + "\n").encode()
  path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
  return path


def test_a_line_has_forty_values():
  assert len(COLUMNS) == 40 == 1 + len(INTEGERS) + len(CATEGORIES)
  assert LINE.count("\t") == 39


def test_types_and_missing_values(tmp_path):
  write(tmp_path, [LINE, LINE.replace("0", "1", 1)] * 20)
  source = Criteo(validation_fraction=0, test_fraction=0)
  train = source.read(tmp_path).train
  assert train.table.column_names == list(COLUMNS)
  row = train.table.slice(0, 1).to_pylist()[0]
  assert row["I9"] == 9 and row["I10"] is None and row["I13"] == -3
  assert row["C1"] == "68fd1e64" and row["C26"] is None
  assert train.table.schema.field("I1").type == pa.int32()
  assert train.labels.tolist() == [0, 1] * 20


def test_the_sample(data_dir):
  parts = [f"{SAMPLE}/{part}.csv" for part in ("train", "dev", "test")]
  split = Criteo(*parts).read(data_dir)
  assert [len(p) for p in (split.train, split.validation, split.test)] == [
    7200,
    409,
    391,
  ]
  lines = (data_dir / parts[0]).read_text().splitlines()
  for row in (0, 77, 7199):
    values = split.train.table.slice(row, 1).to_pylist()[0].values()
    texts = ["" if v is None else str(v) for v in values]
    assert [texts[0][0], *texts[1:]] == lines[row].split("\t")


def test_a_folder_a_glob_and_gzip_give_the_same_rows(data_dir, tmp_path):
  lines = (data_dir / SAMPLE / "train.csv").read_text().splitlines()[:900]
  for number in range(3):
    part = lines[300 * number : 300 * (number + 1)]
    write(tmp_path, part, f"day_{number}.gz")
  whole = write(tmp_path, lines, "whole.txt")
  options = {"validation_fraction": 0.2, "test_fraction": 0.1, "seed": 5}
  expected = Criteo(str(whole), **options).read(tmp_path)
  whole.unlink()
  for pattern in ("criteo", "criteo/day_*.gz"):
    source = Criteo(pattern, block_bytes=5000, **options)
    assert len(source.files(tmp_path)) == 3
    found = source.read(tmp_path)
    for part in ("train", "validation", "test"):
      same = getattr(expected, part)
      assert getattr(found, part).fingerprint == same.fingerprint


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("2" + LINE[1:], "column 'label' holds 2; labels must be 0 or 1"),
    ("\t" + LINE[2:], "column 'label' holds None; labels must be 0 or 1"),
    (LINE[2:], "expected 40 values .label ... C26., got 39"),
    (LINE + "\tx", "expected 40 values .* got 41"),
    (LINE.replace("12", "1x"), "'1x' in column 'I12' is no int32 integer"),
  ],
)
@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
def test_a_bad_line_is_named(tmp_path, line, message, name):
  lines = [LINE] * 50
  lines[36] = line
  write(tmp_path, lines, name)
  source = Criteo(f"criteo/{name}", block_bytes=1000)
  with pytest.raises(DataError, match=f"{name}, line 37: {message}"):
    source.read(tmp_path)


def test_a_cut_file_and_a_missing_one(tmp_path):
  path = write(tmp_path, [LINE] * 5000, "train.txt.gz")
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(
    DataError, match="train.txt.gz can not be read to its end"
  ):
    Criteo("criteo/train.txt.gz").read(tmp_path)
  with pytest.raises(DataError, match="no file 'criteo/train.txt' .*'criteo'"):
    Criteo().files(tmp_path)


def test_bad_settings():
  with pytest.raises(ConfigError, match="Criteo.block_bytes must lie"):
    Criteo(block_bytes=0)
  with pytest.raises(ConfigError, match="validation='x' names files"):
    Criteo(validation="x", validation_fraction=0.1)


def test_memory_does_not_grow_with_the_file(tmp_path):
  write(tmp_path, [LINE] * 60_000)
  start = pa.total_allocated_bytes()
  most = 0
  for block in Criteo(block_bytes=1 << 18).blocks(tmp_path):
    most = max(most, pa.total_allocated_bytes() - start)
    del block
  # 60,000 rows of 280 bytes are 17 MB.
  assert most < 4e6
