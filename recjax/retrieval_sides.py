"""From tables of users, items and events to what the towers read."""

import dataclasses

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int, Shaped

from recjax.data.interactions import Interactions
from recjax.embeddings.groups import CategoricalField
from recjax.errors import ConfigError
from recjax.features.encoders import owner
from recjax.features.fitted import FittedFeatures, fit_features
from recjax.features.specs import MultiHot, Sequence, Spec, Vector
from recjax.features.text import Text, with_tokens
from recjax.tasks.ranking import NumericField
from recjax.tasks.sides import CONTEXT, Side

Feature = Spec | Text


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedSide:
  """A side with the columns of its features.

  Attributes:
    side: what the tower sees.
    columns: "side/name" -> one row an id from 0, which is zeros; of the
      context one row an event.
  """

  side: Side
  columns: dict[str, Shaped[np.ndarray, "row ..."]]


def encode_side(
  prefix: str,
  num_ids: int,
  table: pa.Table | None,
  features: tuple[Feature, ...],
  *,
  id_name: str,
  in_training: Bool[np.ndarray, " id"],
) -> EncodedSide:
  """Users or items, with their id if `id_name` says so.

  Args:
    prefix: "user" or "item".
    num_ids: ids run from 1 to it.
    table: row i describes the id i + 1; None where nothing is known.
    features: read from the table.
    id_name: of the id as a feature; "" leaves it out.
    in_training: of each id from 1, whether it has a training event: only on
      these are vocabularies and statistics fitted.

  Raises:
    ConfigError: features are asked for and there is no table, or there is
      nothing at all.
    DataError: a column is missing or of another kind.
  """
  side, columns = Side(), {}
  if features:
    if table is None:
      raise ConfigError(
        f"{prefix}_features are asked for, but the source knows nothing of its"
        f" {prefix}s; leave {prefix}_features away, or take a source with a"
        f" table of {prefix}s."
      )
    specs, known = with_tokens(features, table)
    trained = np.flatnonzero(in_training)
    fitted = fit_features(specs, known.take(pa.array(trained)))
    columns = _with_padding_row(fitted.encode(known))
    texts = {feature.name for feature in features if isinstance(feature, Text)}
    side = make_side(fitted, texts)
  if id_name:
    field = CategoricalField(id_name, num_ids + 1)
    side = dataclasses.replace(side, fields=(field, *side.fields))
    columns = {id_name: np.arange(num_ids + 1, dtype=np.int32), **columns}
  return EncodedSide(
    side, {f"{prefix}/{name}": column for name, column in columns.items()}
  )


def encode_context(
  interactions: Interactions,
  features: tuple[Feature, ...],
  train_rows: Int[np.ndarray, " train"],
) -> EncodedSide:
  """What is known of each event besides user and item, such as its time.

  Args:
    interactions: all events.
    features: of their columns.
    train_rows: on which vocabularies and statistics are fitted.

  Raises:
    DataError: a column is missing or of another kind.
  """
  if not features:
    return EncodedSide(Side(), {})
  specs, table = with_tokens(features, interactions.table)
  fitted = fit_features(specs, table.take(pa.array(train_rows)))
  texts = {feature.name for feature in features if isinstance(feature, Text)}
  columns = fitted.encode(table)
  return EncodedSide(
    make_side(fitted, texts),
    {f"{CONTEXT}/{name}": column for name, column in columns.items()},
  )


def make_side(fitted: FittedFeatures, texts: set[str]) -> Side:
  """Fitted features as a tower sees them; lists are averaged, but for texts."""
  fields = []
  for name in fitted.categorical:
    spec = fitted.spec(name)
    is_list = isinstance(spec, MultiHot | Sequence)
    shared = owner(spec)
    fields.append(
      CategoricalField(
        name,
        fitted.num_ids(name),
        combiner="mean" if is_list and name not in texts else "none",
        weights=fitted.list_weights.get(name, ""),
        shares=shared if shared != name else "",
      )
    )
  is_vector = lambda name: isinstance(fitted.spec(name), Vector)
  vectors = tuple(
    NumericField(name, *fitted.shape(name))
    for name in fitted.dense
    if is_vector(name)
  )
  numbers = tuple(name for name in fitted.dense if not is_vector(name))
  tokens = tuple(name for name in fitted.categorical if name in texts)
  return Side(tuple(fields), tokens, numbers, vectors)


def _with_padding_row(
  columns: dict[str, Shaped[np.ndarray, "row ..."]],
) -> dict[str, Shaped[np.ndarray, "id ..."]]:
  return {
    name: np.concatenate([np.zeros_like(column[:1]), column])
    for name, column in columns.items()
  }
