r"""Small files in the published format, with \x01, \x02 and \x03."""

import gzip

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.example_blocks import BlockSource
from recjax.data.prepare import ExampleSource
from recjax.data.sources.ali_ccp import SAMPLE_FIELDS, USER_FIELDS, AliCcp
from recjax.errors import ConfigError, DataError


def features(*triples):
  return "\x01".join(f"{f}\x02{i}\x03{v}" for f, i, v in triples)


def sample(number, click, conversion, key, *triples):
  text = features(*triples)
  return f"{number},{click},{conversion},{key},{len(triples)},{text}"


def common(key, *triples):
  return f"{key},{len(triples)},{features(*triples)}"


USERS = [
  common(
    "bac",
    ("101", 31319, "1.0"),
    ("109_14", 7, "2.5"),
    ("121", 5, "1.0"),
    ("109_14", 8, "0.69315"),
  ),
  common("f00", ("101", 4, "1.0"), ("122", 9, "1.0")),
]
SAMPLES = [
  sample(1, 0, 0, "f00", ("205", 11, "1.0"), ("210", 1, "1.0")),
  sample(
    2,
    1,
    0,
    "bac",
    ("210", 1, "1.0"),
    ("205", 12, "1.0"),
    ("210", 2, "1.0"),
    ("301", 99, "1.0"),
  ),
  sample(3, 1, 1, "bac", ("205", 9352525, "1.0")),
]


def write(folder, train=SAMPLES, users=USERS, test=SAMPLES[1:], others=None):
  place = folder / "ali-ccp"
  place.mkdir(exist_ok=True)
  others = users if others is None else others
  for name, lines in (
    ("sample_skeleton_train", train),
    ("common_features_train", users),
    ("sample_skeleton_test", test),
    ("common_features_test", others),
  ):
    (place / f"{name}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
  write(tmp_path)
  return tmp_path


def test_samples_are_joined_with_their_common_features(folder):
  source = AliCcp(
    fields=("101", "121", "122", "109_14", "205", "210", "301"),
    values=("109_14",),
    validation_fraction=0,
  )
  split = source.read(folder)
  assert (len(split.train), len(split.validation), len(split.test)) == (3, 0, 2)
  bac = {
    "101": 31319,
    "121": 5,
    "122": None,
    "109_14": [7, 8],
    "109_14_value": [2.5, np.float32(0.69315)],
  }
  f00 = {
    "101": 4,
    "121": None,
    "122": 9,
    "109_14": [],
    "109_14_value": [],
  }
  labels = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
  own = [
    {"205": 11, "210": [1], "301": None},
    {"205": 12, "210": [1, 2], "301": 99},
    {"205": 9352525, "210": [], "301": None},
  ]
  expected = [
    {"click": click, "conversion": conversion, **user, **item}
    for (click, conversion), user, item in zip(labels, (f00, bac, bac), own)
  ]
  assert split.train.table.to_pylist() == expected
  assert split.test.table.to_pylist() == expected[1:]
  assert split.train.label == "click"
  schema = split.train.table.schema
  assert schema.field("conversion").type == pa.float32()
  assert schema.field("205").type == pa.int32()
  assert source.label_columns == ("click", "conversion")
  assert source.mask_columns == () and not source.weight_column
  assert isinstance(source, BlockSource) and isinstance(source, ExampleSource)


def test_all_fields_and_the_default_ones(folder):
  names = AliCcp().read(folder).train.table.column_names
  heavy = ["109_14", "110_14", "127_14", "150_14"]
  light = [field for field in USER_FIELDS if field not in heavy]
  assert names == ["click", "conversion", *light, *SAMPLE_FIELDS]
  everything = AliCcp(fields=(*USER_FIELDS, *SAMPLE_FIELDS)).read(folder)
  assert len(everything.train.table.column_names) == 2 + 13 + 10
  for fields in (("205",), ("101",)):
    source = AliCcp(fields=fields, validation_fraction=0)
    table = source.read(folder).train.table
    assert table.num_rows == 3 and table.column_names[2:] == list(fields)


def test_packed_files(folder):
  plain = AliCcp().read(folder)
  for path in AliCcp().files(folder):
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
  assert len(AliCcp().files(folder)) == 4
  assert AliCcp().read(folder).fingerprint == plain.fingerprint


def test_blocks_go_on_and_join_each_part_with_its_own(tmp_path):
  train = [
    sample(n, n % 2, 0, f"u{n % 7}", ("205", n, "1.0")) for n in range(90)
  ]
  test = [sample(n, 0, 0, f"u{n % 7}", ("205", n, "1.0")) for n in range(30)]
  users = [common(f"u{n}", ("101", n, "1.0")) for n in range(7)]
  others = [common(f"u{n}", ("101", 100 + n, "1.0")) for n in range(7)]
  write(tmp_path, train, users, test, others)
  source = AliCcp(block_bytes=300, validation_fraction=0.3)
  blocks = list(source.blocks(tmp_path))
  assert len(blocks) > 5
  for place in (0, 3, len(blocks) - 2):
    rest = list(source.blocks(tmp_path, blocks[place].position))
    assert [b.position for b in rest] == [
      b.position for b in blocks[place + 1 :]
    ]
    for part, table in rest[0].parts.items():
      assert table.equals(blocks[place + 1].parts[part])
  split = source.read(tmp_path)
  whole = AliCcp(validation_fraction=0.3).read(tmp_path)
  assert whole.fingerprint == split.fingerprint
  assert len(split.train) + len(split.validation) == 90
  for part, more in ((split.train, 0), (split.test, 100)):
    np.testing.assert_array_equal(
      part.column("101"), part.column("205") % 7 + more
    )
    np.testing.assert_array_equal(
      part.labels, 0 if more else part.column("205") % 2
    )


def test_a_conversion_without_a_click(tmp_path):
  orphan = sample(8, 0, 1, "f00", ("205", 3, "1.0"))
  write(tmp_path, [*SAMPLES, orphan, *SAMPLES])
  message = "skeleton_train.csv, line 4: a conversion without a click"
  with pytest.raises(DataError, match=message):
    AliCcp().read(tmp_path)
  source = AliCcp(orphan_conversions="drop", validation_fraction=0)
  train = source.read(tmp_path).train
  assert train.labels.tolist() == [0, 1, 1, 0, 1, 1]
  assert train.column("conversion").tolist() == [0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (sample(1, 0, 0, "nobody"), "common features 'nobody' are not in common_f"),
    (sample(1, 2, 0, "bac"), "'click' holds 2; labels must be 0 or 1"),
    ("1,0,0,bac,1,205\x0211", "'11' is no feature, which is FIELD"),
    ("1,0,0,bac,1,205", "'205' is no feature"),
    (sample(1, 0, 0, "bac", ("205", "x", "1")), "'x' in field '205' is no int"),
    (sample(1, 0, 0, "bac", ("999", 1, "1")), "a feature of the field '999'"),
    (
      sample(1, 0, 0, "bac", ("205", 1, "1"), ("205", 2, "1")),
      "the field '205' comes twice",
    ),
    ("1,0,0,bac", "expected 6 values .* got 4"),
  ],
)
def test_a_bad_sample_is_named(tmp_path, line, message):
  write(tmp_path, [*SAMPLES, line])
  with pytest.raises(DataError, match=f"train.csv, line 4: .*{message}"):
    AliCcp().read(tmp_path)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (USERS[0], "common_features_train.csv: 'bac' has more than one line"),
    (common("c", ("205", 1, "1")), "line 3: a feature of the field '205'"),
    (common("c", ("109_14", 1, "x")), "line 3: 'x' in field '109_14' is no fl"),
  ],
)
def test_bad_common_features_are_named(tmp_path, line, message):
  write(tmp_path, users=[*USERS, line], others=USERS)
  with pytest.raises(DataError, match=message):
    AliCcp(fields=("101", "109_14"), values=("109_14",)).read(tmp_path)


def test_a_missing_file(folder):
  (folder / "ali-ccp" / "common_features_test.csv").unlink()
  message = "common_features_test.csv, to which sample_skeleton_test.csv refers"
  with pytest.raises(DataError, match=message):
    AliCcp().files(folder)
  with pytest.raises(DataError, match="no file 'other/sample_skeleton_train"):
    AliCcp("other").files(folder)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"fields": ("999",)}, "AliCcp.fields must be one of"),
    ({"fields": ()}, "at least one field, and each once"),
    ({"fields": ("101", "101")}, "at least one field, and each once"),
    ({"values": ("109_14",)}, "of the wanted lists, must be one of '210'"),
    ({"orphan_conversions": "keep"}, "orphan_conversions must be one of"),
    ({"validation_fraction": 1}, "share of validation"),
  ],
)
def test_bad_settings(options, message):
  with pytest.raises(ConfigError, match=message):
    AliCcp(**options)
