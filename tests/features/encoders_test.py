import json

import pyarrow as pa
import pytest

from recjax.features import encoders
from recjax.features import specs as s
from recjax.features.encodings import GivenIds, Hashed, SharedWith, Vocabulary

SPECS = [
  s.Categorical("a", "x", Vocabulary(min_count=2)),
  s.Categorical("b", encoding=Hashed(5, 1), discretize="log_square"),
  s.MultiHot("m", max_len=3, encoding=GivenIds(9), separator="|"),
  s.Sequence("h", encoding=SharedWith("a")),
  s.Bucketized("q", boundaries=(1, 2.5)),
  s.Cross("c", ("x", "y"), ("a",), num_buckets=7),
  s.Numeric("n", transform="log", fill="mean"),
  s.Vector("v", dim=4),
  s.ListWeights("w", "m"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_specs_survive_json(spec):
  text = json.dumps(encoders.spec_to_json(spec))
  assert encoders.spec_from_json(json.loads(text)) == spec


def test_owners():
  assert [encoders.owner(spec) for spec in SPECS] == list("abmaqcnvw")
  fitted = [spec.name for spec in SPECS if encoders.is_fitted(spec)]
  assert fitted == list("abmqcn")


def test_every_fit_gives_an_encoder_that_is_saved():
  block = pa.table(
    {
      "x": ["p", "q", "p"],
      "y": [1, 2, 3],
      "b": [1.0, 50.0, None],
      "m": ["1|2", "8", None],
      "q": [0.5, 2.0, 9.0],
      "n": [1, 2, 3],
    }
  )
  for spec in SPECS:
    if not encoders.is_fitted(spec):
      continue
    fit = encoders.make_fit(spec)
    encoders.add_block(spec, fit, block, 0)
    encoder = fit.finish()
    facts, arrays = encoder.state()
    facts = json.loads(json.dumps(facts))
    again = encoders.encoder_from_state(spec, facts, arrays)
    assert type(again) is type(encoder)
    if isinstance(spec, s.Cross):
      continue
    expected = encoders.encode_block(spec, encoder, block, 0)
    found = encoders.encode_block(spec, again, block, 0)
    assert found.tolist() == expected.tolist()


def test_discretized_numbers_get_a_vocabulary():
  spec = s.Categorical("b", discretize="log_square")
  block = pa.table({"b": [100, 101, 1, None, 3]})
  fit = encoders.make_fit(spec)
  encoders.add_block(spec, fit, block, 0)
  # ln(100)^2 and ln(101)^2 are 21.2 and 21.3; ln(3)^2 is 1.2.
  found = encoders.encode_block(spec, fit.finish(), block, 0)
  assert found.tolist() == [3, 3, 2, 0, 2]
