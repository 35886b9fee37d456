import csv
import datetime

import numpy as np
import pytest

from recjax.data.sources.avazu import COLUMNS, LAYOUT, Avazu
from recjax.errors import DataError

SAMPLE = "ctr-format-samples/avazu"
HEADER = ",".join(LAYOUT.types)
LINE = "10000169349117863715,0,14102100,1005,0," + ",".join(["1fbe01fe"] * 9)
LINE += ",1,0,15704,320,50,1722,0,35,-1,79"


def write(folder, lines, header=HEADER):
  (folder / "avazu").mkdir(exist_ok=True)
  path = folder / "avazu" / "train.csv"
  path.write_text("\n".join([header, *lines]) + "\n")
  return path


def test_the_sample(data_dir):
  parts = [f"{SAMPLE}/{part}.csv" for part in ("train", "dev", "test")]
  split = Avazu(*parts).read(data_dir)
  # Lines; of the three files the first alone has a header.
  assert [len(p) for p in (split.train, split.validation, split.test)] == [
    8087,
    480,
    432,
  ]
  assert split.train.table.column_names == list(COLUMNS)
  with open(data_dir / parts[0]) as file:
    rows = list(csv.DictReader(file))
  for number in (0, 4000, 8086):
    found = split.train.table.slice(number, 1).to_pylist()[0]
    for name in LAYOUT.columns:
      assert str(found[name]).removesuffix(".0") == rows[number][name]


def test_times_against_datetime(tmp_path):
  start = datetime.datetime(2013, 12, 28)
  moments = [start + datetime.timedelta(hours=7 * n) for n in range(400)]
  lines = [
    LINE.replace("14102100", moment.strftime("%y%m%d%H")) for moment in moments
  ]
  write(tmp_path, lines)
  source = Avazu("avazu/train.csv", validation_fraction=0, test_fraction=0)
  train = source.read(tmp_path).train
  assert train.column("hour_of_day").tolist() == [m.hour for m in moments]
  assert train.column("weekday").tolist() == [m.weekday() for m in moments]


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (LINE.replace(",0,", ",3,", 1), "column 'click' holds 3; labels must"),
    (
      LINE.replace("14102100", "14102124"),
      "'hour' holds 14102124, which is",
    ),
    (LINE.replace("14102100", "14132100"), "'hour' holds 14132100, which"),
    (
      LINE.replace("14102100", ""),
      "'hour' holds None, which is no",
    ),
    (LINE + ",5", "expected 24 values .id ... C21., got 25"),
    (LINE.replace("1005", "x"), "'x' in column 'C1' is no int32 integer"),
  ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
  write(tmp_path, [LINE] * 8 + [line, LINE])
  with pytest.raises(DataError, match=f"train.csv, line 10: .*{message}"):
    Avazu("avazu").read(tmp_path)


def test_another_header(tmp_path):
  write(tmp_path, [LINE], HEADER.replace("click,", ""))
  message = "line 1: column 2 of the header must be 'click'; got 'hour'"
  with pytest.raises(DataError, match=message):
    Avazu("avazu").read(tmp_path)
  # A part of a file that was cut by lines has none.
  write(tmp_path, [LINE] * 5, header=LINE)
  source = Avazu("avazu", validation_fraction=0, test_fraction=0)
  assert len(source.read(tmp_path).train) == 6


def test_rows_are_dealt_out_over_blocks(tmp_path):
  write(tmp_path, [LINE] * 3000)
  for block_bytes in (1000, 10**6):
    split = Avazu("avazu", block_bytes=block_bytes, seed=2).read(tmp_path)
    sizes = [len(p) for p in (split.train, split.validation, split.test)]
    assert sum(sizes) == 3000
    assert np.all(np.abs(np.array(sizes[1:]) - 300) < 5 * 17)
