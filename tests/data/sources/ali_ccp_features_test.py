r"""Random features, joined by \x01 and taken apart again."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.sources import text_blocks
from recjax.data.sources.ali_ccp_features import (
  LIST_FIELDS,
  Lines,
  field_columns,
)
from recjax.errors import DataError

LAYOUT = text_blocks.TextLayout(delimiter=",", types={"features": pa.string()})
KNOWN = ("101", "121", "109_14", "150_14")


def columns(tmp_path, texts, wanted=KNOWN, values=("150_14",)):
  path = tmp_path / "features.csv"
  path.write_text("".join(f"{text or ''}\n" for text in texts))
  table = pa.table(
    {"features": pa.chunked_array([pa.array(texts, pa.string())])}
  )
  lines = Lines(path, LAYOUT, 0)
  return field_columns(table, wanted, KNOWN, values, lines)


def test_random_rows(tmp_path):
  random = np.random.default_rng(0)
  expected, texts = [], []
  for _ in range(200):
    row: dict[str, Any] = {"150_14_value": []}
    parts = []
    for field in KNOWN:
      is_list = field in LIST_FIELDS
      ids = random.integers(
        1, 2**31 - 1, random.integers(0, 4 if is_list else 2)
      )
      row[field] = ids.tolist() if is_list else (ids.tolist() or [None])[0]
      for number in ids:
        value = float(random.integers(1, 9)) / 4
        parts.append(f"{field}\x02{number}\x03{value}")
        if field == "150_14":
          row["150_14_value"].append(value)
    texts.append("\x01".join(parts) or None)
    expected.append(row)
  assert None in texts
  found = columns(tmp_path, texts)
  assert found.to_pylist() == [
    {name: row[name] for name in found.column_names} for row in expected
  ]
  assert found.column_names == [*KNOWN, "150_14_value"]
  few = columns(tmp_path, texts, ("121",))
  assert few.column("121").equals(found.column("121"))
  assert few.column_names == ["121"]


def test_rows_without_any_feature(tmp_path):
  found = columns(tmp_path, [None, None])
  none = {"101": None, "121": None}
  empty = {"109_14": [], "150_14": [], "150_14_value": []}
  assert found.to_pylist() == 2 * [{**none, **empty}]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("101", "'101' is no feature, which is FIELD"),
    ("101\x0212", "'12' is no feature"),
    ("7\x0212\x031", "a feature of the field '7'; known here are 101, 121"),
    ("101\x0212\x031\x01101\x023\x031", "the field '101' comes twice"),
    ("101\x023000000000\x031", "'3000000000' in field '101' is no int32"),
    ("150_14\x023\x03much", "'much' in field '150_14' is no float"),
  ],
)
def test_a_bad_feature_is_named(tmp_path, text, message):
  good = "101\x025\x031.0"
  with pytest.raises(DataError, match=f"features.csv, line 3: {message}"):
    columns(tmp_path, [good, good, text, good])
