"""Columns whose rows hold several values: multi-hot, sequences, vectors."""

import dataclasses

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int32, Int64, Shaped

from recjax.errors import DataError
from recjax.features.raw_columns import (
  Place,
  as_lists,
  as_numbers,
  as_values,
  take_column,
)
from recjax.features.specs import ListWeights, MultiHot, Sequence, Vector
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
  return _padded(spec, ids, ids != 0, lengths)


def encode_weights(
  spec: ListWeights,
  of: MultiHot | Sequence,
  encoder: IdEncoder,
  block: pa.Table,
  first_row: int,
) -> Float32[np.ndarray, "row len"]:
  """Weights at the places of the ids that `encode_lists` gives.

  Raises:
    DataError: a row has another number of weights than of values, or a weight
      is missing or not finite.
  """
  place = Place(of.name, of.column, first_row)
  flat, lengths, place = list_values(of, take_column(block, place), place)
  present = encoder.encode(flat, place) != 0
  place = Place(spec.name, spec.column, first_row)
  column = take_column(block, place)
  numbers, found = as_lists(column, spec.separator, place)
  wrong = np.flatnonzero(found != lengths)
  if len(wrong):
    row = int(wrong[0])
    raise DataError(
      f"feature {spec.name!r}: row {first_row + row} of column"
      f" {spec.column!r} has {found[row]} weights for {lengths[row]} values of"
      f" {of.name!r}."
    )
  rows = np.repeat(np.arange(len(lengths)), lengths)
  place = dataclasses.replace(place, row_of_value=rows)
  weights = as_numbers(numbers, place)
  missing = np.flatnonzero(np.isnan(weights))
  if len(missing):
    place.fail(int(missing[0]), None, "where a weight is needed.")
  return _padded(of, weights.astype(np.float32), present, lengths)


def _padded(
  spec: MultiHot | Sequence,
  values: Shaped[np.ndarray, " value"],
  present: Bool[np.ndarray, " value"],
  lengths: Int64[np.ndarray, " row"],
) -> Shaped[np.ndarray, "row len"]:
  """The present ones of flat values, left-aligned, cut and padded with 0."""
  row_of_value = np.repeat(np.arange(len(lengths)), lengths)[present]
  values = values[present]
  lengths = np.bincount(row_of_value, minlength=len(lengths))
  position = np.arange(len(values)) - np.repeat(
    np.cumsum(lengths) - lengths, lengths
  )
  if isinstance(spec, Sequence):
    position -= np.maximum(lengths - spec.max_len, 0)[row_of_value]
  kept = (position >= 0) & (position < spec.max_len)
  out = np.zeros((len(lengths), spec.max_len), values.dtype)
  out[row_of_value[kept], position[kept]] = values[kept]
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
