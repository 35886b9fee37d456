"""Units of an A/B test from tables: summed rows, order, and mistakes."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from recjax.data.ab_units import read_units
from recjax.errors import ConfigError, DataError

ROWS = {
  "user": ["b", "a", "b", "c", "a"],
  "variant": ["new", "old", "new", "old", "old"],
  "clicks": [1, 0, 2, 5, 1],
  "shown": [3, 4, 5, 6, 7],
  "week_before": [0.5, 0.25, 0.5, 1.0, 0.25],
  "time": [30, 20, 10, 40, 50],
}


@pytest.fixture(params=[".csv", ".parquet"])
def write(request, tmp_path):
  def write(**changes):
    rows = {k: v for k, v in {**ROWS, **changes}.items() if v is not None}
    path = tmp_path / f"units{request.param}"
    save = csv.write_csv if request.param == ".csv" else parquet.write_table
    save(pa.table(rows), path)
    return path

  return write


def read(path, metrics=("clicks/shown", "clicks"), **more):
  options = {"arm": "variant", "control": "old", **more}
  return read_units(path, list(metrics), **options)


def test_rows_of_a_unit_are_summed(write):
  units = read(write(), unit="user", before=["week_before"], order="time")
  assert units.arms == ("old", "new") and units.counts.tolist() == [2, 1]
  # In the order of their first rows: b, a, c.
  assert units.arm.tolist() == [1, 0, 0]
  clicks, shown = units.metrics["clicks/shown"]
  assert clicks.tolist() == [3, 1, 5] and shown.tolist() == [8, 11, 6]
  assert units.metrics["clicks"][1] is None
  assert units.before.tolist() == [[0.5], [0.25], [1.0]]
  assert np.argsort(units.order).tolist() == [0, 1, 2]


def test_a_row_is_a_unit_without_a_column_of_units(write):
  units = read(write())
  assert units.counts.tolist() == [3, 2]
  assert units.metrics["clicks"][0].tolist() == ROWS["clicks"]
  assert units.before.shape == (5, 0) and units.order is None


def test_without_a_column_of_arms_there_is_one(write):
  units = read(write(), arm="", control="")
  assert units.arms == ("",) and units.counts.tolist() == [5]


def test_arms_may_be_numbers_and_truth_values(write):
  units = read(write(variant=[1, 0, 1, 0, 0]), control="0")
  assert units.arms == ("0", "1") and units.arm.tolist() == [1, 0, 1, 0, 0]
  units = read(write(variant=["old", "NA", "NA", "old", "old"]))
  assert units.arms == ("old", "NA")
  units = read(write(clicks=[True, False, True, True, False]))
  assert units.metrics["clicks"][0].tolist() == [1, 0, 1, 1, 0]


def test_ids_are_texts_as_they_are_written(tmp_path):
  path = tmp_path / "units.csv"
  rows = ["007,old,1", "7,new,2", "18446744073709551615,old,3"]
  rows += ["18446744073709551614,new,4", "007,old,5"]
  path.write_text("\n".join(["user,variant,clicks", *rows]) + "\n")
  units = read(path, ["clicks"], unit="user")
  assert units.metrics["clicks"][0].tolist() == [6, 2, 3, 4]


def test_a_column_with_a_bar_in_its_name(write):
  units = read(write(**{"clicks/shown": [5, 4, 3, 2, 1]}), ["clicks/shown"])
  assert units.metrics["clicks/shown"][0].tolist() == [5, 4, 3, 2, 1]
  assert units.metrics["clicks/shown"][1] is None


def test_orders_are_numbers_or_times(write):
  days = pa.array([3, 2, 1, 5, 4], pa.date32())
  units = read(write(time=days), order="time")
  assert np.argsort(units.order).tolist() == [2, 1, 0, 4, 3]


def test_large_integers_are_rounded_and_dictionaries_read(tmp_path):
  path = tmp_path / "units.pq"
  rows = {name: pa.array(column) for name, column in ROWS.items()}
  rows["clicks"] = pa.array([2**60 + 1] * 5)
  for name in ("user", "variant", "time"):
    coded = rows[name].dictionary_encode()
    more = pa.concat_arrays([coded.dictionary, coded.dictionary[:1]])
    rows[name] = pa.DictionaryArray.from_arrays(coded.indices, more)
  parquet.write_table(pa.table(rows), path)
  units = read(path, ["clicks"], unit="user", order="time")
  assert units.counts.tolist() == [2, 1]
  assert units.metrics["clicks"][0].tolist() == [2.0**61, 2.0**61, 2.0**60]


@pytest.mark.parametrize(
  ("changes", "options", "message"),
  [
    ({}, {"metrics": ["click"]}, "no column 'click'.*mean 'clicks'"),
    ({}, {"arm": "variants"}, "no column 'variants'.*mean 'variant'"),
    ({"clicks": [1, None, 2, 5, 1]}, {}, "row 1 has no 'clicks'"),
    ({"clicks": [1.0, float("inf"), 2, 5, 1]}, {}, "row 1 has inf as 'clicks'"),
    ({"clicks": ["1", "0", "-", "2", "x"]}, {},
     "'clicks' must hold numbers; row 2 has '-'"),
    ({"variant": [None, "old", "new", "old", "old"]}, {}, "row 0 has no 'vari"),
    ({"user": ["b", "nan", "b", "c", "a"]}, {"unit": "user"},
     "row 1 has 'nan' as 'user', which names no unit"),
    ({"time": ["2/2/24", "10/2/24", "x", "y", "z"]}, {"order": "time"},
     "'time' must hold numbers or times.*row 0 has '2/2/24'"),
    ({"variant": ["old"] * 5}, {}, "from two to 50 arms; got 1, such as 'old'"),
    ({"variant": ["new", "old", "old", "old", "old"]}, {"unit": "user"},
     "'user' is in two arms, in rows 0 and 2; so are 1 of 3 units"),
    ({"week_before": [0.5, 0.25, 0.5, 1.0, 0.3]},
     {"unit": "user", "before": ["week_before"]},
     "'user' has two values of 'week_before'.*, in rows 1 and 4"),
  ],
)  # fmt: skip
def test_mistakes_in_the_table_are_told(write, changes, options, message):
  path = write(**changes)
  with pytest.raises(DataError, match=message) as found:
    read(path, **options)
  assert str(path) in str(found.value)


def test_mistakes_in_what_is_asked_are_told(write, tmp_path):
  path = write()
  with pytest.raises(ConfigError, match="'old', 'new'|'new', 'old'"):
    read(path, control="control")
  for metric in ("a/b/c", "/shown", ""):
    with pytest.raises(ConfigError, match="ratio of two"):
      read(path, [metric])
  with pytest.raises(DataError, match="there is no table"):
    read(tmp_path / "nowhere.csv")
  path.write_bytes(path.read_bytes()[:20])
  with pytest.raises(DataError, match="units"):
    read(path)
  path.with_suffix(".csv").write_bytes(
    "variant,clicks,shöwn\n".encode("latin-1")
  )
  with pytest.raises(DataError, match="can not be read"):
    read(path.with_suffix(".csv"))
  path.with_suffix(".csv").write_text("variant,clicks,clicks\nold,1,2\n")
  with pytest.raises(DataError, match="several columns 'clicks'"):
    read(path.with_suffix(".csv"), ["clicks"])
  path.with_suffix(".csv").write_text("variant,clicks,shown\n")
  with pytest.raises(DataError, match="has no rows"):
    read(path.with_suffix(".csv"))
