"""Next-item prediction: packed sequences in, a sum of losses out.

The loss is a *sum* over targets together with their number, and not a mean:
micro-batches then add up to exactly the gradient of the whole batch.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from recjax.data.sequences import PackedRows, pack
from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.lookups import Lookup
from recjax.embeddings.row_optimizers import RowOptimizer
from recjax.embeddings.tables import TableSpec, init_table, lookup
from recjax.errors import ConfigError, check_choice, check_range
from recjax.losses.pairwise import bpr_loss
from recjax.losses.pointwise import binary_cross_entropy_loss, gbce_loss
from recjax.losses.softmax import full_softmax_loss, sampled_softmax_loss
from recjax.tasks.objectives import (
  BPR,
  GBCE,
  BinaryCrossEntropy,
  FullSoftmax,
  Objective,
  SampledSoftmax,
)
from recjax.tasks.task import NO_TABLES
from recjax.types import ITEM, Batch, Params

TARGET, NEGATIVE = "target_id", "negative_id"


@dataclasses.dataclass(frozen=True)
class NextItem:
  """A sequence model trained to score the item that comes next.

  Attributes:
    model: a module that turns item rows into hidden states, such as
      `models.sasrec.SASRec`.
    objective: the loss and its negatives.
    num_items: ids run from 1 to it.
    positions: "from_end" or "from_start", see `data.sequences.pack`.
    micro_rows: packed rows whose gradient is formed at a time. Small ones
      stay in the cache of a CPU; the losses do not depend on it, but the
      random draws do.
    data_shards: devices along the mesh axis "data".
    table_optimizer: row-wise, of the item table, whose cost then follows the
      batch and not the catalogue; None is a dense table, trained by optax.
    table_sharding: of such a table, see `TableSpec`.
  """

  model: Any
  objective: Objective
  num_items: int
  positions: str = "from_end"
  micro_rows: int = 16
  data_shards: int = 1
  table_optimizer: RowOptimizer | None = None
  table_sharding: str = "auto"

  def __post_init__(self):
    check_choice(
      "NextItem.positions", self.positions, ("from_end", "from_start")
    )
    check_range("NextItem.micro_rows", self.micro_rows, 1, integer=True)
    check_range("NextItem.num_items", self.num_items, 2, integer=True)
    if self.micro_rows % self.data_shards:
      raise ConfigError(
        f"micro_rows must be a multiple of the {self.data_shards} devices of"
        f" the mesh axis 'data'; got {self.micro_rows}."
      )
    if self.table_sharding != "auto" and self.table_optimizer is None:
      raise ConfigError(
        "table_sharding is for a table with a row-wise table_optimizer; got"
        f" {self.table_sharding!r} and no table_optimizer. A dense table lies"
        " row-wise over the mesh axis 'model'."
      )
    if self.table_optimizer and isinstance(self.objective, FullSoftmax):
      raise ConfigError(
        "FullSoftmax reads and moves every item at every step; with a"
        " table_optimizer take an objective with negatives, such as"
        " SampledSoftmax."
      )

  @property
  def table(self) -> TableSpec:
    """The item table."""
    model = self.model
    return TableSpec(
      "item",
      self.num_items + 1,
      model.dim,
      model.initializer,
      model.init_stddev,
      optimizer=self.table_optimizer,
      sharding=self.table_sharding,
    )

  @functools.cached_property
  def sparse(self) -> EmbeddingCollection:
    """The item table, if it has a row-wise optimizer."""
    if self.table_optimizer is None:
      return NO_TABLES
    lookups = (Lookup(feature, "item") for feature in (ITEM, TARGET, NEGATIVE))
    return EmbeddingCollection((self.table,), tuple(lookups))

  def init(self, key: Key[Array, ""]) -> tuple[Params, dict[str, Any]]:
    """Draws {"model": ...}, and "tables": {"item": ...} if that is dense."""
    model_key, table_key = jax.random.split(key)
    ids = jnp.zeros((1, self.model.max_len), jnp.int32)
    rows = {ITEM: jnp.zeros((*ids.shape, self.model.dim))}
    variables = self.model.init(model_key, rows, ids, ids)
    params: Params = {"model": variables["params"]}
    if self.table_optimizer is None:
      params["tables"] = {"item": init_table(self.table, table_key)}
    return params, {}

  def constants(
    self, counts: Num[np.ndarray, " vocab"]
  ) -> dict[str, Int[np.ndarray, " vocab"]]:
    """Arrays that every step reads: the popularity, if negatives use it."""
    negatives = getattr(self.objective, "negatives", None)
    if negatives is None or negatives.distribution == "uniform":
      return {}
    return {"tickets": negatives.cumulative_tickets(counts)}

  def micro_batches(self, batch: Batch) -> tuple[PackedRows, Int[Array, ""]]:
    """Packs a batch into micro-batches of `micro_rows` rows.

    Args:
      batch: "window" [batch, len + 1], "length", "row" and "offset" [batch],
        and "num_rows" [].

    Returns:
      Arrays [micro, micro_rows, len], and how many leading micro-batches
      hold anything at all.
    """
    num_micro = -(-batch["window"].shape[0] // self.micro_rows)
    rows = pack(
      batch["window"],
      batch["length"],
      batch["row"],
      batch["offset"],
      num_rows=num_micro * self.micro_rows,
      positions=self.positions,
    )
    split = lambda x: x.reshape(num_micro, self.micro_rows, x.shape[-1])
    live = (batch["num_rows"] + self.micro_rows - 1) // self.micro_rows
    return jax.tree.map(split, rows), live

  def examples(
    self, part: PackedRows, constants: Any, key: Key[Array, ""]
  ) -> Batch:
    """Packed rows as named arrays, with negatives where the loss needs any.

    Args:
      part: packed rows.
      constants: of `constants`.
      key: of the micro-batch; the loss gets the same one.

    Returns:
      The fields of `PackedRows`, and "negative_id".
    """
    examples = part._asdict()
    if not isinstance(self.objective, FullSoftmax):
      negative_key, _ = jax.random.split(key)
      examples[NEGATIVE] = self.objective.negatives.draw_for_rows(
        negative_key,
        part.item_id,
        part.target_id,
        part.segment_id,
        num_items=self.num_items,
        tickets=constants.get("tickets"),
      )
    return examples

  def loss(
    self,
    params: Params,
    embeddings: dict[str, Float[Array, "..."]],
    variables: dict[str, Any],
    examples: Batch,
    constants: Any,
    key: Key[Array, ""],
    *,
    deterministic: bool = False,
  ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], dict[str, Any]]]:
    """The sum of the losses of a micro-batch, and how many targets it has.

    Args:
      params: of `init`.
      embeddings: of `sparse`, if the table is.
      variables: none.
      examples: of `examples`.
      constants: of `constants`.
      key: for dropout.
      deterministic: no dropout.

    Returns:
      Sum of the loss over the targets, and (number of targets, variables).
    """
    _, dropout_key = jax.random.split(key)
    where = examples["segment_id"] > 0
    is_full = isinstance(self.objective, FullSoftmax)
    if self.table_optimizer is None:
      features = (ITEM,) if is_full else (ITEM, TARGET, NEGATIVE)
      ids = {feature: examples[feature] for feature in features}
      embeddings = lookup(params["tables"]["item"], ids)
    hidden = self.model.apply(
      {"params": params["model"]},
      {ITEM: embeddings[ITEM]},
      examples["position"],
      examples["segment_id"],
      deterministic=deterministic,
      rngs={"dropout": dropout_key},
    )["hidden"]
    if isinstance(self.objective, FullSoftmax):
      table = params["tables"]["item"]
      total = self._full_softmax(
        self.objective, hidden, table, examples[TARGET], where
      )
    else:
      losses = self._sampled_loss(
        hidden, embeddings, examples, where, constants
      )
      total = jnp.sum(losses)
    return total, (jnp.sum(where).astype(jnp.float32), variables)

  def _full_softmax(
    self, objective: FullSoftmax, hidden, table, target_id, where
  ):
    group = lambda x: x.reshape(self.data_shards, -1, *x.shape[2:])
    hidden, target_id, where = map(group, (hidden, target_id, where))
    # Over several devices one chunk: its gradient is summed only once.
    chunk = min(objective.chunk, hidden.shape[1])
    chunk = hidden.shape[1] if self.data_shards > 1 else chunk
    return full_softmax_loss(
      hidden, table, target_id, where, num_items=self.num_items, chunk=chunk
    )

  def _sampled_loss(self, hidden, embeddings, examples, where, constants):
    objective = self.objective
    positive = jnp.einsum("rld,rld->rl", hidden, embeddings[TARGET])
    subscripts = "rld,rlkd->rlk"
    if embeddings[NEGATIVE].shape[1] != hidden.shape[1]:
      subscripts = "rld,rmkd->rlk"  # One set for the whole row.
    negative = jnp.einsum(subscripts, hidden, embeddings[NEGATIVE])
    match objective:
      case BinaryCrossEntropy():
        return binary_cross_entropy_loss(positive, negative, where)
      case BPR():
        return bpr_loss(positive, negative, where)
      case GBCE():
        return gbce_loss(
          positive,
          negative,
          where,
          num_items=self.num_items,
          calibration=objective.calibration,
        )
      case SampledSoftmax():
        return sampled_softmax_loss(
          positive,
          negative,
          examples[NEGATIVE] == examples[TARGET][..., None],
          self._log_expected_count(
            objective, examples[NEGATIVE], negative, constants
          ),
          where,
        )
    raise AssertionError(objective)

  def _log_expected_count(
    self, objective: SampledSoftmax, negative_id, negative, constants
  ):
    if not objective.log_q:
      return None
    sampling = objective.negatives
    log_q = sampling.log_probability(
      negative_id,
      num_items=self.num_items,
      tickets=constants.get("tickets"),
    )
    log_count = log_q + np.log(sampling.num).astype(np.float32)
    return jnp.broadcast_to(log_count, negative.shape)

  def encode(self, params: Params, batch: Batch) -> Float[Array, "batch dim"]:
    """The state after the last item of each history: the query of a user.

    Args:
      params: of `init`.
      batch: as for `micro_batches`; the last item of a window is its last
        input, and targets are not read.

    Returns:
      One query a sequence; its dot product with an item's row is the score.
      That of an empty history is zero: all items score alike.
    """
    micro, live = self.micro_batches(batch)
    shape = (*micro.item_id.shape, self.model.dim)

    def body(index, out):
      rows = jax.tree.map(lambda x: x[index], micro)
      hidden = self.model.apply(
        {"params": params["model"]},
        lookup(params["tables"]["item"], {ITEM: rows.item_id}),
        rows.position,
        rows.segment_id,
      )["hidden"]
      return out.at[index].set(hidden)

    states = jax.lax.fori_loop(0, live, body, jnp.zeros(shape))
    states = states.reshape(-1, *shape[2:])
    last = jnp.maximum(batch["offset"] + batch["length"] - 1, 0)
    # The plan puts an empty history where another one ends.
    has_items = (batch["length"] > 0)[:, None]
    return jnp.where(has_items, states[batch["row"], last], 0.0)
