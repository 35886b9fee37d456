"""What a tower of a two-tower model reads."""

from collections.abc import Mapping

from flax import struct
from jaxtyping import Array, Bool, Float


@struct.dataclass
class TowerInputs:
  """What a tower reads; a dict or None where there is nothing of a kind.

  Attributes:
    fields: embedding of each feature of ids.
    context: what is known of the moment of a request, which also opens gates;
      it has no history. None where nothing is.
    numbers: features of one number each, side by side; or None.
    tokens: embeddings of the tokens of each text, and which are there.
    modalities: vectors known beforehand, such as of images.
    history: embeddings of the items before, oldest first, or their mean for a
      tower that reads no more of them (`Tower.reads_mean`); or None.
    history_where: which of the items are there.
    where: rows that count in the statistics of batch norm; None is all.
  """

  fields: Mapping[str, Float[Array, "batch _dim"]]
  context: "TowerInputs | None"
  numbers: Float[Array, "batch num_dense"] | None
  tokens: Mapping[
    str, tuple[Float[Array, "batch _len _dim"], Bool[Array, "batch _len"]]
  ]
  modalities: Mapping[str, Float[Array, "batch _dim"]]
  history: Float[Array, "batch *len dim"] | None
  history_where: Bool[Array, "batch len"] | None
  where: Bool[Array, " batch"] | None = None
