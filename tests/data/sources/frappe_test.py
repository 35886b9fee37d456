import gzip

import numpy as np
import pytest

from recjax.data.prepare import prepare_examples
from recjax.data.sources.frappe import FIELDS, Frappe
from recjax.errors import DataError
from recjax.features.fitted import fit_features
from recjax.features.specs import Categorical

LINE = "1 12:1 1088:1 5041:1 5050:1 5054:1 5056:1 5058:1 5061:1 5069:1 5149:1"


def write(folder, lines, ending=".gz"):
  (folder / "frappe").mkdir(exist_ok=True)
  data = ("\n".join(lines) + "\n").encode()
  for part in ("train", "validation", "test"):
    path = folder / "frappe" / f"frappe.{part}.libfm{ending}"
    path.write_bytes(gzip.compress(data) if ending else data)


def test_the_real_files(data_dir, tmp_path):
  split = prepare_examples(Frappe(), data_dir, tmp_path)
  parts = (split.train, split.validation, split.test)
  assert [len(part) for part in parts] == [202_005, 57_722, 28_860]
  for part in parts:
    assert part.table.column_names == ["label", *FIELDS]
    assert set(np.unique(part.labels)) == {0.0, 1.0}
  # Two negatives for each positive, less those in the other parts.
  assert abs(np.mean([part.labels.mean() for part in parts]) - 1 / 3) < 0.005
  indices = [
    np.unique(np.concatenate([part.column(field) for part in parts]))
    for field in FIELDS
  ]
  assert sum(len(index) for index in indices) == 5_382
  # The ranges of the fields follow each other and fill 0..5381.
  assert np.array_equal(np.concatenate(indices), np.arange(5_382))


def test_vocabularies_of_the_training_rows(data_dir):
  split = Frappe().read(data_dir)
  specs = [Categorical(field) for field in FIELDS]
  features = fit_features(specs, split.train.table)
  for field in FIELDS:
    distinct = len(np.unique(split.train.column(field)))
    assert features.num_ids(field) == distinct + 2
  ids = features.encode(split.test.table)["item"]
  unseen = ~np.isin(split.test.column("item"), split.train.column("item"))
  np.testing.assert_array_equal(ids == 1, unseen)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_plain_and_packed_files(tmp_path, ending):
  write(
    tmp_path, [LINE, "-1" + LINE[1:], "0" + LINE[1:], "+1" + LINE[1:]], ending
  )
  split = Frappe().read(tmp_path)
  assert split.train.labels.tolist() == [1, 0, 0, 1]
  row = split.test.table.slice(0, 1).to_pylist()[0]
  assert list(row.values())[1:] == [
    12, 1088, 5041, 5050, 5054, 5056, 5058, 5061, 5069, 5149,
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("2" + LINE[1:], "'2' in column 'label' is not 1, 0 or -1"),
    (
      LINE.replace("5041:1", "5041:3"),
      "'5041:3' in column 'daytime' is not an",
    ),
    (
      LINE.replace("5041:1", "5041"),
      "'5041' in column 'daytime' is not an ind",
    ),
    (LINE + " 7:1", "expected 11 values .label ... city., got 12"),
  ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
  write(tmp_path, [LINE, LINE, line])
  with pytest.raises(DataError, match=f"train.libfm.gz, line 3: {message}"):
    Frappe().read(tmp_path)


def test_a_missing_file(tmp_path):
  with pytest.raises(DataError, match="no file 'frappe/frappe.train.libfm.gz'"):
    Frappe().files(tmp_path)
