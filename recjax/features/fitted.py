"""Features fitted on training rows: from raw columns to arrays of a batch."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from recjax import files, progress
from recjax.errors import DataError, nearest
from recjax.features import specs
from recjax.features.crosses import CrossFit
from recjax.features.encoders import (
  add_block,
  encode_block,
  encoder_from_state,
  is_fitted,
  make_fit,
  owner,
  spec_from_json,
  spec_to_json,
)
from recjax.features.lists import encode_weights
from recjax.features.specs import Spec
from recjax.features.vocabulary import VocabularyEncoder

_FORMAT = 1
# Rows that are encoded at a time; it bounds what is held on the way.
_BLOCK_ROWS = 1 << 18
Arrays = dict[str, Shaped[np.ndarray, "row ..."]]


@dataclasses.dataclass(frozen=True, eq=False)
class FittedFeatures:
  """What turns raw columns into arrays; make one with `fit_features`.

  Attributes:
    specs: the features, in order.
    encoders: their encoders by name; a Vector has none.
    num_rows: training rows that were seen.
  """

  specs: tuple[Spec, ...]
  encoders: Mapping[str, Any]
  num_rows: int

  # -- What there is ----------------------------------------------------------

  @property
  def names(self) -> tuple[str, ...]:
    """All features, in order."""
    return tuple(spec.name for spec in self.specs)

  @property
  def categorical(self) -> tuple[str, ...]:
    """Features of ids, in order: those that read embedding tables."""
    return tuple(s.name for s in self.specs if isinstance(s, specs.IdSpec))

  @property
  def dense(self) -> tuple[str, ...]:
    """Features of floats, in order, without the weights of lists."""
    kinds = (specs.Numeric, specs.Vector)
    return tuple(s.name for s in self.specs if isinstance(s, kinds))

  @property
  def list_weights(self) -> dict[str, str]:
    """Name of each feature of values that are weighted -> of its weights."""
    kind = specs.ListWeights
    return {s.of: s.name for s in self.specs if isinstance(s, kind)}

  @property
  def columns(self) -> tuple[str, ...]:
    """The raw columns that `encode` reads, each once."""
    read = [column for s in self.specs for column in specs.columns_of(s)]
    return tuple(dict.fromkeys(read))

  def spec(self, name: str) -> Spec:
    """The spec of a feature.

    Raises:
      DataError: there is no such feature.
    """
    for spec in self.specs:
      if spec.name == name:
        return spec
    raise DataError(
      f"there is no feature {name!r}; there are {', '.join(self.names)}."
      f"{nearest(name, self.names)}"
    )

  def num_ids(self, name: str) -> int:
    """Rows that a table of the feature needs: one more than its largest id."""
    return self._id_encoder(name).num_ids

  def collision_rate(self, name: str) -> float:
    """The share of distinct training values that share their id by hashing.

    A value counts if its bucket holds at least one other distinct value of
    the training rows. 0 where nothing is hashed; NaN for a Cross of features
    that was fitted on blocks that could be read only once.
    """
    return self._id_encoder(name).collision_rate

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a feature in a batch, after the axis of the batch."""
    spec = self.spec(name)
    if isinstance(spec, specs.ListWeights):
      spec = self.spec(spec.of)
    if isinstance(spec, specs.ListSpec):
      return (spec.max_len,)
    return (spec.dim,) if isinstance(spec, specs.Vector) else ()

  def raw_values(self, name: str) -> list[Any]:
    """The raw value of each id of a vocabulary; None for the first two.

    Raises:
      DataError: the feature has no vocabulary.
    """
    encoder = self._id_encoder(name)
    if not isinstance(encoder, VocabularyEncoder):
      raise DataError(f"feature {name!r} has no vocabulary.")
    return [None, None, *encoder.values.to_pylist()]

  def _id_encoder(self, name: str) -> Any:
    spec = self.spec(name)
    if not isinstance(spec, specs.IdSpec):
      raise DataError(
        f"feature {name!r} is a {type(spec).__name__} and has no ids; features"
        f" of ids are {', '.join(self.categorical) or 'none'}."
      )
    return self.encoders[owner(spec)]

  # -- Encoding ---------------------------------------------------------------

  def encode(self, table: pa.Table) -> Arrays:
    """The arrays of all features, in order.

    Args:
      table: raw rows with all of `columns`; others are not looked at.

    Returns:
      Name -> int32 ids [row] or [row, max_len], or float32 [row] or
      [row, dim].

    Raises:
      DataError: a column is missing or of another type, or a value can not be
        encoded; feature, row (from 0), column and value are named.
    """
    out = {
      name: np.zeros(
        (table.num_rows, *self.shape(name)),
        np.int32 if name in self.categorical else np.float32,
      )
      for name in self.names
    }
    for start in range(0, table.num_rows, _BLOCK_ROWS):
      block = table.slice(start, _BLOCK_ROWS)
      for name, values in self._encode_block(block, start).items():
        out[name][start : start + len(values)] = values
    if not table.num_rows:
      self._encode_block(table, 0)  # Are all columns there?
    return out

  def _encode_block(self, block: pa.Table, first_row: int) -> Arrays:
    done: Arrays = {}
    late = (specs.Cross, specs.ListWeights)
    for spec in self.specs:
      if not isinstance(spec, late):
        encoder = self.encoders.get(owner(spec))
        done[spec.name] = encode_block(spec, encoder, block, first_row)
    for spec in self.specs:
      if isinstance(spec, specs.Cross):
        encoder = self.encoders[spec.name]
        done[spec.name] = encoder.encode(block, first_row, done)
      elif isinstance(spec, specs.ListWeights):
        of = self.spec(spec.of)
        assert isinstance(of, specs.ListSpec)
        encoder = self.encoders[owner(of)]
        done[spec.name] = encode_weights(spec, of, encoder, block, first_row)
    return done

  # -- Keeping it -------------------------------------------------------------

  @property
  def fingerprint(self) -> str:
    """Hex SHA-256 of the specs and of all that was learnt."""
    facts, arrays = self._state()
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for key in sorted(arrays):
      values = np.ascontiguousarray(arrays[key])
      digest.update(f"\0{key} {values.dtype.str} {values.shape}".encode())
      digest.update(values.view(np.uint8).data)
    return digest.hexdigest()

  def save(self, path: files.PathLike) -> None:
    """Writes one .npz file, whole or not at all."""
    facts, arrays = self._state()
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    arrays["facts"] = text
    files.write_atomically(
      path,
      lambda file: np.savez(file, **arrays),  # pyright: ignore
    )

  def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts: dict[str, Any] = {
      "format": _FORMAT,
      "num_rows": self.num_rows,
      "specs": [spec_to_json(spec) for spec in self.specs],
      "encoders": {},
    }
    arrays = {}
    for name, encoder in self.encoders.items():
      number = self.names.index(name)
      facts["encoders"][name], own = encoder.state()
      arrays |= {f"{number}.{key}": value for key, value in own.items()}
    return facts, arrays

  @classmethod
  def load(cls, path: files.PathLike) -> "FittedFeatures":
    """Reads what `save` wrote.

    Raises:
      DataError: the file is missing, broken or of another version.
    """
    path = pathlib.Path(path)
    try:
      with np.load(path, allow_pickle=False) as content:
        arrays = {key: content[key] for key in content.files}
      facts = json.loads(arrays.pop("facts").tobytes())
      known = facts["format"] == _FORMAT
    except FileNotFoundError:
      raise DataError(f"there are no fitted features at {path}.") from None
    except Exception as error:
      raise DataError(
        f"{path} holds no fitted features, or broken ones: {error}."
      ) from error
    if not known:
      raise DataError(
        f"{path} has format {facts['format']}; this version of recjax reads"
        f" format {_FORMAT}. Fit the features again."
      )
    all_specs = tuple(spec_from_json(value) for value in facts["specs"])
    by_name = {spec.name: (i, spec) for i, spec in enumerate(all_specs)}
    encoders = {}
    for name, own_facts in facts["encoders"].items():
      number, spec = by_name[name]
      prefix = f"{number}."
      own = {
        key.removeprefix(prefix): value
        for key, value in arrays.items()
        if key.startswith(prefix)
      }
      encoders[name] = encoder_from_state(spec, own_facts, own)
    return cls(all_specs, encoders, facts["num_rows"])


def fit_features(
  features: Sequence[Spec], columns: pa.Table | Iterable[pa.Table]
) -> FittedFeatures:
  """Learns vocabularies, statistics and quantiles from training rows.

  Memory grows with the number of distinct values of the columns that have a
  vocabulary, and not with the number of rows. Vocabularies, counts, means and
  ranges are exact; quantiles are of a sample of 262,144 rows (`numeric`), and
  collision rates of hashed columns are estimated beyond two million distinct
  values (`value_counts`).

  Args:
    features: what each feature is.
    columns: the training rows alone, as a table, or block by block.

  Raises:
    ConfigError: the features contradict each other.
    DataError: there is no row, a column is missing or of a wrong type, or a
      value can not be used.
  """
  features = specs.check_specs(features)
  fits = {s.name: make_fit(s) for s in features if is_fitted(s)}
  blocks = [columns] if isinstance(columns, pa.Table) else columns
  once = isinstance(blocks, Iterator)
  num_rows = 0
  with progress.progress_bar("fitting features", unit="rows") as bar:
    for block in _cut(blocks):
      for spec in features:
        if spec.name in fits:
          add_block(spec, fits[spec.name], block, num_rows)
      num_rows += block.num_rows
      bar.advance(block.num_rows)
  if not num_rows:
    raise DataError("features can not be fitted: there is no training row.")
  encoders = {name: fit.finish() for name, fit in fits.items()}
  fitted = FittedFeatures(features, encoders, num_rows)
  late = [s for s in features if isinstance(s, specs.Cross) and s.features]
  return (
    _count_late_crosses(fitted, late, blocks) if late and not once else fitted
  )


def _count_late_crosses(
  fitted: FittedFeatures, late: list, blocks: Iterable[pa.Table]
) -> FittedFeatures:
  """Crosses of features: ids are known only after the first pass."""
  needed = {name for spec in late for name in spec.features}
  fits = {spec.name: CrossFit(spec) for spec in late}
  row = 0
  for block in _cut(blocks):
    ids = {}
    for name in needed:
      spec = fitted.spec(name)
      encoder = fitted.encoders[owner(spec)]
      ids[name] = encode_block(spec, encoder, block, row)
    for fit in fits.values():
      fit.add(block, row, ids)
    row += block.num_rows
  counted = {name: fit.finish() for name, fit in fits.items()}
  return dataclasses.replace(fitted, encoders={**fitted.encoders, **counted})


def _cut(blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
  for block in blocks:
    for start in range(0, block.num_rows, _BLOCK_ROWS):
      yield block.slice(start, _BLOCK_ROWS)
