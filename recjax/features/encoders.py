"""One feature of any kind: its fit, its encoder, and how it is saved."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from recjax.features import encodings, lists, numeric, specs, vocabulary
from recjax.features.crosses import CrossEncoder, CrossFit
from recjax.features.raw_columns import (
  Place,
  as_numbers,
  as_values,
  take_column,
)
from recjax.features.specs import Spec


def owner(spec: Spec) -> str:
  """The feature whose encoder a feature uses."""
  if isinstance(spec, specs.ValueSpec):
    if isinstance(spec.encoding, encodings.SharedWith):
      return spec.encoding.feature
  return spec.name


def is_fitted(spec: Spec) -> bool:
  """Whether a feature learns anything of its own."""
  learns_nothing = isinstance(spec, specs.Vector | specs.ListWeights)
  return owner(spec) == spec.name and not learns_nothing


def make_fit(spec: Spec) -> Any:
  """What sees the training rows of a feature, block by block."""
  if isinstance(spec, specs.Cross):
    return CrossFit(spec)
  if isinstance(spec, specs.Numeric | specs.Bucketized):
    return numeric.NumericFit(spec)
  assert isinstance(spec, specs.ValueSpec)
  return vocabulary.make_fit(spec.encoding, Place(spec.name, spec.column))


def add_block(spec: Spec, fit: Any, block: pa.Table, first_row: int) -> None:
  """Shows a block to a fit; a Cross of features has to wait for their ids."""
  if isinstance(spec, specs.Cross):
    if not spec.features:
      fit.add(block, first_row, {})
    return
  assert not isinstance(spec, specs.Vector | specs.ListWeights)
  place = Place(spec.name, spec.column, first_row)
  array = take_column(block, place)
  if isinstance(spec, specs.Numeric | specs.Bucketized):
    fit.add(as_numbers(array, place), first_row)
  elif isinstance(spec, specs.Categorical):
    fit.add(_single_values(spec, array, place))
  else:
    fit.add(lists.list_values(spec, array, place)[0])


def encode_block(
  spec: Spec, encoder: Any, block: pa.Table, first_row: int
) -> Shaped[np.ndarray, "row ..."]:
  """The array of a feature other than a Cross or ListWeights."""
  assert not isinstance(spec, specs.Cross | specs.ListWeights)
  place = Place(spec.name, spec.column, first_row)
  array = take_column(block, place)
  if isinstance(spec, specs.Vector):
    return lists.encode_vectors(spec, array, place)
  if isinstance(spec, specs.Numeric | specs.Bucketized):
    return encoder.encode(as_numbers(array, place), place)
  if isinstance(spec, specs.Categorical):
    values = _single_values(spec, array, place)
    return encoder.encode(values, place)
  return lists.encode_lists(spec, encoder, array, place)


def _single_values(
  spec: specs.Categorical, array: pa.Array, place: Place
) -> pa.Array:
  if not spec.discretize:
    return as_values(array, place)
  whole = numeric.log_square(as_numbers(array, place))
  missing = np.isnan(whole)
  return pa.array(np.where(missing, 0, whole).astype(np.int64), mask=missing)


# -- As JSON ------------------------------------------------------------------


def spec_to_json(spec: Any) -> dict[str, Any]:
  """A spec or an encoding as JSON values."""
  fields = {
    field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)
  }
  if "encoding" in fields:
    fields["encoding"] = spec_to_json(fields["encoding"])
  return {"class": type(spec).__name__, **fields}


def spec_from_json(value: dict[str, Any]) -> Any:
  """What `spec_to_json` was given."""
  kinds = {kind.__name__: kind for kind in (*specs.KINDS, *encodings.ENCODINGS)}
  fields = dict(value)
  kind = kinds[fields.pop("class")]
  if "encoding" in fields:
    fields["encoding"] = spec_from_json(fields["encoding"])
  return kind(**fields)


def encoder_from_state(
  spec: Spec, facts: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Any:
  """An encoder from what its `state` gave."""
  if facts["class"] == "cross":
    assert isinstance(spec, specs.Cross)
    return CrossEncoder(spec, facts["collision_rate"])
  if facts["class"] == "buckets":
    return numeric.BucketEncoder(arrays["boundaries"])
  if facts["class"] == "numeric":
    settings = {key: facts[key] for key in facts if key != "class"}
    return numeric.NumericEncoder(**settings, quantiles=arrays["quantiles"])
  return vocabulary.encoder_from_state(facts, arrays)
