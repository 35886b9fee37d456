"""Columns whose rows hold several values: multi-hot, sequences, vectors."""

import dataclasses

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32, Int64

from recjax.errors import DataError
from recjax.features.raw_columns import (
  Place,
  as_lists,
  as_numbers,
  as_values,
)
from recjax.features.specs import MultiHot, Sequence, Vector
from recjax.features.vocabulary import IdEncoder


def list_values(
  spec: MultiHot | Sequence, array: pa.Array, place: Place
) -> tuple[pa.Array, Int64[np.ndarray, " row"], Place]:
  """Flat values, the length of each row, and the place of the values."""
  flat, lengths = as_lists(array, spec.separator, place)
  row_of_value = np.repeat(np.arange(len(lengths)), lengths)
  place = dataclasses.replace(place, row_of_value=row_of_value)
  return as_values(flat, place), lengths, place


def encode_lists(
  spec: MultiHot | Sequence, encoder: IdEncoder, array: pa.Array, place: Place
) -> Int32[np.ndarray, "row len"]:
  """Ids left-aligned and padded with 0; missing values are left out.

  Of more than `max_len` values a MultiHot keeps the first and a Sequence the
  last.
  """
  flat, lengths, place = list_values(spec, array, place)
  ids = encoder.encode(flat, place)
  row_of_value = np.repeat(np.arange(len(lengths)), lengths)[ids != 0]
  ids = ids[ids != 0]
  lengths = np.bincount(row_of_value, minlength=len(lengths))
  position = np.arange(len(ids)) - np.repeat(
    np.cumsum(lengths) - lengths, lengths
  )
  if isinstance(spec, Sequence):
    position -= np.maximum(lengths - spec.max_len, 0)[row_of_value]
  kept = (position >= 0) & (position < spec.max_len)
  out = np.zeros((len(lengths), spec.max_len), np.int32)
  out[row_of_value[kept], position[kept]] = ids[kept]
  return out


def encode_vectors(
  spec: Vector, array: pa.Array, place: Place
) -> Float32[np.ndarray, "row dim"]:
  """Rows of `dim` numbers; a missing one is all zeros.

  Raises:
    DataError: a row has another number of values, or one is missing or not
      finite.
  """
  missing = np.asarray(array.is_null())
  flat, lengths = as_lists(array.filter(pa.array(~missing)), "", place)
  present = np.flatnonzero(~missing)
  wrong = np.flatnonzero(lengths != spec.dim)
  if len(wrong):
    row = int(wrong[0])
    raise DataError(
      f"feature {place.feature!r}: row {place.first_row + present[row]} of"
      f" column {place.column!r} has {lengths[row]} values where dim is"
      f" {spec.dim}."
    )
  place = dataclasses.replace(place, row_of_value=np.repeat(present, spec.dim))
  values = as_numbers(flat, place)
  missing_numbers = np.flatnonzero(np.isnan(values))
  if len(missing_numbers):
    place.fail(int(missing_numbers[0]), None, "inside of a vector.")
  out = np.zeros((len(array), spec.dim), np.float32)
  out[present] = values.reshape(-1, spec.dim)
  return out
