"""The features of users, items and requests, as the towers read them.

Features of users and items lie in constants, one row an id, and are read by
the ids of a batch: a batch itself holds no more than ids and the features of
its requests. In the examples of a step they are named "user/age",
"context/hour", "item/genres"; those of the items of a history "history/...".
"""

import dataclasses
from collections.abc import Iterable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.groups import (
  CategoricalField,
  TableSettings,
  make_collections,
)
from recjax.errors import ConfigError, check_choice
from recjax.layers.tower_inputs import TowerInputs
from recjax.tasks.ranking import NumericField

USER_SIDE, CONTEXT, ITEM_SIDE, HISTORY = "user", "context", "item", "history"


@dataclasses.dataclass(frozen=True)
class Side:
  """Features of one side.

  Attributes:
    fields: of ids; lists have a combiner, or are `tokens`.
    tokens: those whose tokens stay apart, for the tower to encode.
    numbers: names of features of one number each.
    vectors: known beforehand, with their widths.
  """

  fields: tuple[CategoricalField, ...] = ()
  tokens: tuple[str, ...] = ()
  numbers: tuple[str, ...] = ()
  vectors: tuple[NumericField, ...] = ()

  @property
  def names(self) -> tuple[str, ...]:
    """All features, with the weights of weighted lists."""
    ids = [field.name for field in self.fields]
    weights = [field.weights for field in self.fields if field.weights]
    vectors = [field.name for field in self.vectors]
    return (*ids, *weights, *self.numbers, *vectors)

  def field(self, name: str) -> CategoricalField:
    """The field of a name."""
    names = [field.name for field in self.fields]
    check_choice("a feature of ids", name, names)
    return self.fields[names.index(name)]


def features_of(
  names: Iterable[str],
  side: str,
  constants: Mapping[str, Shaped[Array, "..."]],
  ids: Int[Array, "*shape"],
  *,
  prefix: str = "",
) -> dict[str, Shaped[Array, "..."]]:
  """The features of users or items, under the names they have in examples.

  Args:
    names: of the features.
    side: "user" or "item".
    constants: "side/name" -> column with one row an id.
    ids: of any shape.
    prefix: of the names in examples; that of the side by default.
  """
  prefix = prefix or side
  return {
    f"{prefix}/{name}": constants[f"{side}/{name}"][ids] for name in names
  }


def tower_inputs(
  sides: Mapping[str, Side],
  embeddings: Mapping[str, Float[Array, "..."]],
  examples: Mapping[str, Shaped[Array, "..."]],
  *,
  history: tuple[str, ...] = (),
  where: Array | None = None,
) -> TowerInputs:
  """What a tower reads of looked-up embeddings and of examples.

  Rows of the batch may hold several items, [batch, cand, ...]; to a tower each
  is a row.

  Args:
    sides: prefix -> features: "user" or "item", and maybe "context".
    embeddings: by the names of `examples`.
    examples: the features of a step.
    history: features of the items of the history that are read.
    where: rows that count in the statistics of batch norm.

  Returns:
    The inputs.
  """
  known = {
    prefix: _known(prefix, side, embeddings, examples)
    for prefix, side in sides.items()
  }
  context = known.pop(CONTEXT, None)
  if context is not None and not sides[CONTEXT].names:
    context = None
  (own,) = known.values()
  items, items_where = None, None
  if history:
    items = [embeddings[f"{HISTORY}/{name}"] for name in history]
    items = jnp.concatenate(items, axis=-1)
    items_where = examples[f"{HISTORY}/where"]
    if items.ndim == 2:
      # Sums, of which all items of the history make a mean: a list's own mean
      # would leave out those without this feature.
      count = jnp.sum(items_where, axis=1, dtype=jnp.float32, keepdims=True)
      items /= jnp.maximum(count, 1.0)
  return dataclasses.replace(
    own, context=context, history=items, history_where=items_where, where=where
  )


def _known(
  prefix: str,
  side: Side,
  embeddings: Mapping[str, Float[Array, "..."]],
  examples: Mapping[str, Shaped[Array, "..."]],
) -> TowerInputs:
  """What is known of one side."""
  fields, numbers, tokens, modalities = {}, [], {}, {}
  for field in side.fields:
    name = f"{prefix}/{field.name}"
    ids, rows = examples[name], embeddings[name]
    if field.name in side.tokens:
      rows = rows.reshape(-1, *rows.shape[-2:])
      tokens[field.name] = rows, ids.reshape(-1, ids.shape[-1]) > 0
    else:
      fields[name] = rows.reshape(-1, rows.shape[-1])
  for name in side.numbers:
    column = examples[f"{prefix}/{name}"].reshape(-1, 1)
    numbers.append(column.astype(jnp.float32))
  for field in side.vectors:
    vector = examples[f"{prefix}/{field.name}"]
    modalities[field.name] = vector.reshape(-1, field.dim)
  return TowerInputs(
    fields=fields,
    context=None,
    numbers=jnp.concatenate(numbers, axis=-1) if numbers else None,
    tokens=tokens,
    modalities=modalities,
    history=None,
    history_where=None,
  )


def make_side_collections(
  sides: Mapping[str, Side],
  history: tuple[str, ...],
  *,
  embedding_dim: int,
  feature_dims: Mapping[str, int],
  settings: Mapping[str, TableSettings],
  sum_history: bool = False,
) -> tuple[EmbeddingCollection, EmbeddingCollection, dict[str, str]]:
  """The dense and the sparse tables of both towers.

  Args:
    sides: prefix -> features.
    history: features of items whose tables the history reads, too.
    embedding_dim: width of the tables.
    feature_dims: name of a feature -> another width.
    settings: of the tables of a side; "" is for all that are not named.
    sum_history: the embeddings of the items of a history are summed.

  Returns:
    Dense and sparse collection, and the name in examples -> that of the
    embedding.

  Raises:
    ConfigError: a setting is of a feature or a side that is not there.
  """
  _check_settings(sides, feature_dims, settings)
  groups, fields, chosen, outputs = {}, [], {}, {}

  def add(prefix: str, field: CategoricalField, owner: str) -> None:
    dim = feature_dims.get(field.name, embedding_dim)
    group = owner if dim == embedding_dim else f"{owner}_{dim}"
    groups[group] = dim
    chosen[group] = settings.get(owner, settings.get(""))
    name = f"{prefix}/{field.name}"
    shares = f"{owner}/{field.shares or field.name}"
    weights = f"{prefix}/{field.weights}" if field.weights else ""
    fields.append(
      dataclasses.replace(
        field,
        name=name,
        weights=weights,
        groups=(group,),
        shares="" if shares == name else shares,
      )
    )
    outputs[name] = f"{group}/{name}"

  for prefix, side in sides.items():
    for field in side.fields:
      add(prefix, field, prefix)
  for name in history:
    field = sides[ITEM_SIDE].field(name)
    if field.combiner != "none" or name in sides[ITEM_SIDE].tokens:
      raise ConfigError(
        f"the history reads features of one id each; {name!r} has several."
      )
    combiner = "sum" if sum_history else "none"
    add(HISTORY, dataclasses.replace(field, combiner=combiner), ITEM_SIDE)
  return (*make_collections(groups, tuple(fields), chosen), outputs)


def _check_settings(
  sides: Mapping[str, Side],
  feature_dims: Mapping[str, int],
  settings: Mapping[str, TableSettings],
) -> None:
  """Raises ConfigError for settings of what is not there."""
  names = [field.name for side in sides.values() for field in side.fields]
  for name in feature_dims:
    check_choice("a feature of feature_dims", name, names)
  for name in settings:
    if name:
      check_choice("the side of table settings", name, sides)
  for prefix, side in sides.items():
    if side.fields and prefix not in settings and "" not in settings:
      raise ConfigError(
        f"there are no table settings for the side {prefix!r}; give them, or"
        " settings under '' for all sides."
      )
