import pyarrow as pa
import pytest

from recjax.errors import DataError
from recjax.features.encodings import Vocabulary
from recjax.features.inference import infer_specs
from recjax.features.specs import Categorical, Numeric


def test_each_column_is_what_its_type_says():
  schema = pa.schema(
    {
      "label": pa.float32(),
      "user": pa.int32(),
      "age": pa.float64(),
      "city": pa.string(),
      "app": pa.dictionary(pa.int32(), pa.string()),
    }
  )
  found = infer_specs(schema, leave_out=("label",), min_count=3)
  encoding = Vocabulary(min_count=3)
  assert found == (
    Categorical("user", encoding=encoding),
    Numeric("age", transform="z_score"),
    Categorical("city", encoding=encoding),
    Categorical("app", encoding=encoding),
  )


def test_other_types_are_named():
  schema = pa.schema({"tags": pa.list_(pa.string())})
  with pytest.raises(DataError, match="column 'tags' has the type list"):
    infer_specs(schema, leave_out=())
