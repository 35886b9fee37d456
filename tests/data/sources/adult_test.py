import numpy as np
import pytest

from recjax.data.sources.adult import COLUMNS, NUMBERS, Adult
from recjax.errors import ConfigError, DataError

LINE = (
  "39, State-gov, 77516, Bachelors, 13, Never-married, ?, Not-in-family,"
  " White, Male, 2174, 0, 40, United-States, <=50K"
)


def write(folder, train=(LINE,), test=(LINE,)):
  (folder / "adult").mkdir(exist_ok=True)
  (folder / "adult" / "adult.data").write_text("\n".join(train))
  (folder / "adult" / "adult.test").write_text("\n".join(test))


def test_the_real_files(data_dir):
  split = Adult(validation_fraction=0).read(data_dir)
  assert len(split.train) == 32_561 and len(split.test) == 16_281
  assert len(split.validation) == 0
  # Counts of `grep -c ">50K"`.
  assert split.train.labels.sum() == 7_841
  assert split.test.labels.sum() == 3_846
  # `cut -d, -f2 adult.data | grep -c "?"`.
  assert split.train.table.column("workclass").null_count == 1_836
  ages = split.train.column("age")
  assert (ages.min(), ages.max()) == (17, 90)
  row = split.train.table.slice(0, 1).to_pylist()[0]
  assert row["marital_status"] == "Never-married"
  assert row["capital_gain"] == 2174 and row["label"] == 0


def test_marriage_as_another_task(data_dir):
  source = Adult(tasks="income_marital")
  assert source.label_columns == ("label", "never_married")
  split, plain = source.read(data_dir), Adult().read(data_dir)
  for part in ("train", "validation", "test"):
    made, table = getattr(split, part), getattr(plain, part).table
    assert "marital_status" not in made.table.column_names
    status = table.column("marital_status").to_pylist()
    expected = [text == "Never-married" for text in status]
    np.testing.assert_array_equal(made.numbers("never_married"), expected)
    np.testing.assert_array_equal(made.labels, getattr(plain, part).labels)
  # `grep -c Never-married adult.test`.
  assert split.test.numbers("never_married").sum() == 5_434
  with pytest.raises(ConfigError, match="Did you mean 'income_marital'"):
    Adult(tasks="income_maritl")


def test_validation_comes_out_of_the_training_file(data_dir):
  split = Adult(validation_fraction=0.2, seed=1).read(data_dir)
  assert len(split.train) + len(split.validation) == 32_561
  assert abs(len(split.validation) - 6512) < 5 * 72
  assert len(split.test) == 16_281
  other = Adult(validation_fraction=0.2, seed=2).read(data_dir)
  assert other.validation.fingerprint != split.validation.fingerprint


def test_both_kinds_of_test_file(tmp_path):
  rows = [LINE + ".", LINE.replace("<=", ">") + "."]
  for test in (rows, ["|1x3 Cross validator", *rows, ""]):
    write(tmp_path, test=test)
    split = Adult().read(tmp_path)
    assert split.test.labels.tolist() == [0, 1]
    assert split.test.column("occupation").tolist() == [None, None]
    assert split.test.column("sex").tolist() == ["Male", "Male"]
  assert set(NUMBERS) < set(COLUMNS)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (
      LINE.replace("<=50K", "50K"),
      "the label must be '<=50K' or '>50K'; got '50K'",
    ),
    (LINE.replace("39", "old"), "'old' in column 'age' is no int32 integer"),
    (LINE.replace(", White", ""), "expected 15 values .age ... label., got 14"),
  ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
  write(tmp_path, train=[LINE, LINE, line])
  with pytest.raises(DataError, match=f"adult.data, line 3: {message}"):
    Adult().read(tmp_path)


def test_a_missing_file_and_a_bad_share(tmp_path):
  write(tmp_path)
  (tmp_path / "adult" / "adult.test").unlink()
  with pytest.raises(DataError, match="no file 'adult/adult.test'"):
    Adult().files(tmp_path)
  with pytest.raises(ConfigError, match="share of validation"):
    Adult(validation_fraction=1.5)


def test_numbers_are_integers(tmp_path):
  write(tmp_path)
  train = Adult(validation_fraction=0.0).read(tmp_path).train
  assert train.column("fnlwgt").dtype == np.int32
