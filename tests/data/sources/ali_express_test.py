"""Small files in the format of MTReclib."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.example_blocks import BlockSource
from recjax.data.prepare import ExampleSource
from recjax.data.sources.ali_express import AliExpress
from recjax.errors import ConfigError, DataError

NAMES = [
  "search_id",
  *(f"categorical_{n}" for n in range(1, 17)),
  *(f"numerical_{n}" for n in range(1, 64)),
  "click",
  "conversion",
]


def line(row, click=0, conversion=0):
  ids = [str(row % (n + 2)) for n in range(16)]
  numbers = [str(row / 8 + n) for n in range(63)]
  return [f"s{row // 3}", *ids, *numbers, str(int(click)), str(int(conversion))]


def write(folder, train, test, names=NAMES, country="NL"):
  place = folder / f"AliExpress_{country}"
  place.mkdir(exist_ok=True)
  for part, lines in (("train", train), ("test", test)):
    text = "\n".join(",".join(values) for values in [names, *lines])
    (place / f"{part}.csv").write_text(text + "\n")


@pytest.fixture
def folder(tmp_path):
  train = [line(row, row % 4 == 0, row % 8 == 0) for row in range(60)]
  write(tmp_path, train, [line(100, 1, 1), line(101, 1, 0), line(102)])
  return tmp_path


def test_columns_and_labels(folder):
  source = AliExpress(validation_fraction=0)
  assert isinstance(source, BlockSource) and isinstance(source, ExampleSource)
  split = source.read(folder)
  assert (len(split.train), len(split.validation), len(split.test)) == (
    60,
    0,
    3,
  )
  assert split.train.table.column_names == NAMES
  assert split.train.label == "click"
  assert source.label_columns == ("click", "conversion")
  assert source.mask_columns == ("search_id",) and not source.weight_column
  rows = np.arange(60)
  np.testing.assert_array_equal(split.train.labels, rows % 4 == 0)
  conversions = split.train.column("conversion")
  assert conversions.dtype == np.float32
  np.testing.assert_array_equal(conversions, rows % 8 == 0)
  np.testing.assert_array_equal(split.train.column("categorical_6"), rows % 7)
  np.testing.assert_array_equal(split.train.column("numerical_3"), rows / 8 + 2)
  assert split.train.table.schema.field("numerical_63").type == pa.float32()
  assert split.test.column("search_id").tolist() == ["s33", "s33", "s34"]
  assert split.test.column("conversion").tolist() == [1, 0, 0]


def test_validation_rows_and_other_countries(folder):
  split = AliExpress(validation_fraction=0.5).read(folder)
  assert len(split.train) + len(split.validation) == 60
  assert 10 < len(split.validation) < 50 and len(split.test) == 3
  source = AliExpress("ES")
  assert (source.folder, source.name) == ("AliExpress_ES", "ali_express_es")
  with pytest.raises(DataError, match="no file 'AliExpress_ES/train.csv'"):
    source.files(folder)
  assert len(AliExpress("ES", folder="AliExpress_NL").files(folder)) == 2


def test_blocks_go_on(folder):
  source = AliExpress(block_bytes=2000)
  blocks = list(source.blocks(folder))
  assert len(blocks) > 3
  rest = list(source.blocks(folder, blocks[1].position))
  assert [b.position for b in rest] == [b.position for b in blocks[2:]]
  assert rest[0].parts["train"].equals(blocks[2].parts["train"])
  whole = AliExpress().read(folder)
  assert source.read(folder).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (line(1, 0, 1), "a conversion without a click"),
    (line(1, 2, 1), "'click' holds 2; labels must be 0 or 1"),
    (line(1)[:-1], "expected 82 values .* got 81"),
    (["s", "x", *line(1)[2:]], "'x' in column 'categorical_1' is no int32"),
  ],
)
def test_a_bad_line_is_named(tmp_path, values, message):
  write(tmp_path, [line(0), line(1), values], [line(2)])
  with pytest.raises(DataError, match=f"train.csv, line 4: .*{message}"):
    AliExpress().read(tmp_path)


def test_another_header_and_bad_settings(tmp_path):
  write(tmp_path, [line(0)], [line(1)], names=[*NAMES[:-1], "buy"])
  message = "column 82 of the header must be 'conversion'; got 'buy'"
  with pytest.raises(DataError, match=message):
    AliExpress().read(tmp_path)
  with pytest.raises(ConfigError, match="AliExpress.country must be one of"):
    AliExpress("DE")
  with pytest.raises(ConfigError, match="share of validation"):
    AliExpress(validation_fraction=1.0)
