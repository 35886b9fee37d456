"""TFDS builders for sets that the catalogue lacks, without TensorFlow.

A set that recjax can read becomes a versioned TFDS set, which then can be
checked, copied and read by name as `recjax_interactions/NAME`:

  builder = RecjaxInteractions.from_interactions(interactions, "folder")
  builder.download_and_prepare()
  TfdsSource("recjax_interactions/NAME", "user_id", "item_id", ...)

Importing this module needs `pip install 'recjax[tfds]'`.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow_datasets as tfds

from recjax.data.interactions import Interactions

_CHUNK = 100_000


# TFDS shall find these sets by their files: without its data a builder can not
# be made from its name, so it stays out of the registry.
class RecjaxInteractions(
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """Interactions as a TFDS set, one record a row, in the order of the rows.

  Features: `user_id` and `item_id` (the raw ids where they are known), and
  `timestamp`, `rating` and the context columns as there are. The fingerprint
  of the interactions stands in the metadata of the set.
  """

  def __init__(self, *, interactions: Interactions, **kwargs: Any):
    self._interactions = interactions
    super().__init__(**kwargs)

  @classmethod
  def from_interactions(
    cls,
    interactions: Interactions,
    tfds_dir: str,
    *,
    version: str = "1.0.0",
    release_notes: str = "",
  ) -> "RecjaxInteractions":
    """A builder that writes `interactions` as ArrayRecord under `tfds_dir`.

    Args:
      interactions: the data; its name, less special characters, becomes the
        name of the configuration.
      tfds_dir: the folder in which TFDS keeps its sets.
      version: "major.minor.patch".
      release_notes: what is new in this version.
    """
    name = re.sub("[^A-Za-z0-9_.-]+", "-", interactions.name)
    config = tfds.core.BuilderConfig(
      name=name,
      version=version,
      release_notes={version: release_notes},
      description=f"{interactions.name}, as recjax reads it.",
    )
    return cls(
      interactions=interactions,
      config=config,
      data_dir=str(tfds_dir),
      file_format="array_record",
    )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="User-item interactions, sorted by user and time.",
      features=tfds.features.FeaturesDict(
        {key: _feature(kind) for key, kind in self._kinds().items()}
      ),
      # The order of a user's rows is part of the data.
      disable_shuffling=True,
      metadata=tfds.core.MetadataDict(
        {
          "fingerprint": self._interactions.fingerprint,
          "num_users": self._interactions.num_users,
          "num_items": self._interactions.num_items,
        }
      ),
    )

  def _kinds(self) -> dict[str, pa.DataType]:
    schema = self._interactions.table.schema
    kinds = dict(zip(schema.names, schema.types))
    if self._interactions.users is not None:
      kinds["user_id"] = pa.string()
    if self._interactions.items is not None:
      kinds["item_id"] = pa.string()
    return kinds

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
    del dl_manager
    return {"train": self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    data = self._interactions
    raw = {
      key: table.column("raw_id").to_pylist()
      for key, table in (("user_id", data.users), ("item_id", data.items))
      if table is not None
    }
    names = data.table.column_names
    for start in range(0, len(data), _CHUNK):
      columns = data.table.slice(start, _CHUNK).to_pydict()
      for key, raw_ids in raw.items():
        columns[key] = [raw_ids[index - 1] for index in columns[key]]
      rows = zip(*(columns[name] for name in names))
      for row, values in enumerate(rows, start):
        yield row, dict(zip(names, values))


def _feature(kind: pa.DataType) -> Any:
  if pa.types.is_integer(kind):
    return np.int64
  if pa.types.is_floating(kind):
    return np.float32
  return tfds.features.Text()
