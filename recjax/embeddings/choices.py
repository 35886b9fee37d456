"""Prices the strategies of each array, and chooses among them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.embeddings.collection import EmbeddingCollection
from recjax.embeddings.column_optimizers import across_columns
from recjax.embeddings.costs import Cost, Workload, array_cost
from recjax.embeddings.layouts import ArrayLayout
from recjax.embeddings.plans import ArrayPlan, bytes_text
from recjax.embeddings.strategies import (
  STRATEGIES,
  Partition,
  lookup_columns,
  make_partition,
)
from recjax.embeddings.table_exchange import table_owners
from recjax.errors import ConfigError, check_range


@dataclasses.dataclass(frozen=True)
class PlanConfig:
  """What a plan reckons with.

  Attributes:
    memory_bytes: of a device; 0 is not known, and everything fits.
    other_bytes: of a device, taken by what is no table: the parameters of the
      model and their moments, the batch, activations.
    dense_copies: arrays of the size of a dense table beside it: its gradient
      and the moments of optax, two with Adam.
    latency_bytes: what the interconnect moves while a collective gets going:
      256 KiB are 2.6 microseconds at 100 GB/s.
    memory_price: exchanged bytes that a byte of memory is worth, even where
      there is enough. With these defaults an array of less than 256 MiB is
      replicated to spare four collectives.
  """

  memory_bytes: int = 0
  other_bytes: int = 0
  dense_copies: int = 3
  latency_bytes: int = 256 * 1024
  memory_price: float = 1 / 256

  def __post_init__(self):
    for field in dataclasses.fields(self):
      check_range(
        f"PlanConfig.{field.name}",
        getattr(self, field.name),
        0,
        integer=field.type is int,
      )

  def price(self, cost: Cost) -> float:
    """What a plan makes small, in bytes; see `recjax.embeddings.planner`."""
    return (
      cost.exchanged_bytes
      + self.latency_bytes * cost.collectives
      + self.memory_price * cost.memory_bytes
    )


@dataclasses.dataclass(frozen=True)
class _Option:
  """A strategy of an array, with its cost and price."""

  strategy: str
  partition: Partition
  cost: Cost
  price: float


def workloads(
  collection: EmbeddingCollection,
  batch: Mapping[str, Any],
  num_devices: int,
) -> dict[str, Workload]:
  """What a batch asks of each array.

  Args:
    collection: tables and features.
    batch: of all devices; if its ids are arrays, capacities and imbalance are
      measured on them, and if they are shapes an even spread is assumed.
    num_devices: that share the batch.

  Raises:
    ConfigError: the batch lacks a feature, or the devices do not divide it.
  """
  columns = lookup_columns(collection, batch)
  features = [lookup.feature for lookup in collection.lookups]
  sizes = {name: batch[name].shape[0] for name in features}
  for name, size in sizes.items():
    if size % num_devices:
      raise ConfigError(
        f"the batch must be a multiple of the {num_devices} devices of the"
        f" mesh; {name!r} has {size} examples."
      )
  rows: dict[str, Any] = {}
  if all(isinstance(batch[f], np.ndarray | jax.Array) for f in features):
    rows = collection.routes({f: jnp.asarray(batch[f]) for f in features})
  return {
    name: Workload(
      max(sizes.values()),
      num_devices,
      columns[name],
      np.asarray(rows[name]) if name in rows else None,
    )
    for name in collection.arrays
  }


def choose(
  collection: EmbeddingCollection,
  work: Mapping[str, Workload],
  mesh_shape: Mapping[str, int],
  strategies: Mapping[str, str],
  config: PlanConfig,
) -> tuple[ArrayPlan, ...]:
  """A strategy for each array; see `recjax.embeddings.planner`.

  Args:
    collection: tables and features.
    work: of `workloads`.
    mesh_shape: devices along "data" and "model".
    strategies: of arrays for which no other is to be tried.
    config: memory and prices.

  Returns:
    The plans of the arrays; they may not fit together.

  Raises:
    ConfigError: a strategy that a table asks for is not possible.
  """
  options = {
    name: _options(
      layout, strategies.get(name, "auto"), work[name], mesh_shape, config
    )
    for name, layout in collection.arrays.items()
  }
  chosen = {name: found[0] for name, found in options.items()}
  memory = lambda: sum(o.cost.memory_bytes for o in chosen.values())
  while config.memory_bytes and memory() > config.memory_bytes - (
    config.other_bytes
  ):
    moves = [
      (_extra_price(option, chosen[name]), name, option.strategy, option)
      for name, found in options.items()
      for option in found
      if option.cost.memory_bytes < chosen[name].cost.memory_bytes
    ]
    if not moves:
      break
    _, name, _, option = min(moves, key=lambda move: move[:3])
    chosen[name] = option
  return tuple(
    ArrayPlan(
      name,
      option.strategy,
      option.partition,
      work[name].lookups,
      option.cost,
      _reason(
        collection.arrays[name],
        option,
        options[name],
        is_asked=strategies.get(name, "auto") != "auto",
      ),
    )
    for name, option in chosen.items()
  )


def _extra_price(new: _Option, old: _Option) -> float:
  """Price for each byte of memory saved."""
  saved = old.cost.memory_bytes - new.cost.memory_bytes
  return (new.price - old.price) / saved


def _options(
  layout: ArrayLayout,
  asked: str,
  work: Workload,
  mesh_shape: Mapping[str, int],
  config: PlanConfig,
) -> list[_Option]:
  """The strategies of an array, the cheapest first."""
  found: dict[Partition, _Option] = {}
  for strategy in STRATEGIES if asked == "auto" else (asked,):
    if asked == "auto" and strategy == "table_wise" and len(layout.tables) == 1:
      continue  # All devices would have a part of it, and be asked for all.
    try:
      partition = make_partition(layout, strategy, mesh_shape)
      if layout.spec.optimizer is not None and partition.columns:
        across_columns(
          layout.spec.optimizer, layout.spec.max_norm, partition.columns
        )
    except ConfigError:
      if asked == "auto":
        continue
      raise
    cost = array_cost(layout, partition, work, dense_copies=config.dense_copies)
    option = _Option(strategy, partition, cost, config.price(cost))
    # On some meshes two names mean the same.
    found.setdefault(partition, option)
  return sorted(found.values(), key=lambda o: (o.price, o.cost.memory_bytes))


def _reason(
  layout: ArrayLayout,
  option: _Option,
  options: Sequence[_Option],
  *,
  is_asked: bool,
) -> str:
  """Why the option was chosen, in a sentence."""
  notes = []
  others = [other for other in options if other is not option]
  if is_asked:
    notes.append(f"{option.strategy}, as asked for")
  elif not others:
    notes.append(f"{option.strategy}: no other differs on this mesh")
  elif option is options[0]:
    notes.append(
      f"{option.strategy} has the least price, {_price_text(option)}; next"
      f" comes {others[0].strategy}, {_price_text(others[0])}"
    )
  else:
    notes.append(
      f"{option.strategy}, {_price_text(option)}, so that all fits; the least"
      f" price has {options[0].strategy}, {_price_text(options[0])}"
    )
  part = option.partition
  if part.by_table:
    owners = table_owners(layout, part)
    across = sum(len(own) > 1 for own in owners)
    notes.append(
      f"tables that lie on more than one device: {across} of {len(owners)}"
    )
  elif STRATEGIES[option.strategy] != STRATEGIES["data_parallel"] and not (
    part.rows or part.columns
  ):
    notes.append("the axes that it cuts have one device, so nothing is cut")
  return "; ".join(notes) + "."


def _price_text(option: _Option) -> str:
  cost = option.cost
  return (
    f"{bytes_text(round(option.price))} ({bytes_text(cost.exchanged_bytes)} in"
    f" {cost.collectives} collectives, {bytes_text(cost.memory_bytes)} of"
    " memory)"
  )
