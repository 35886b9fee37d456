"""The two roads of batches into the step: from the device, or through Grain."""

import functools
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from recjax.data.batches import Batches, grain_iterator
from recjax.errors import RunError
from recjax.train.state import TrainState
from recjax.train.step import Step, make_many_steps, make_steps_of


@runtime_checkable
class Feed(Protocol):
  """Takes steps on a stream of batches."""

  def run(
    self, state: TrainState, first_step: int, num_steps: int
  ) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Takes steps of one epoch; metrics have a leading axis [num_steps]."""
    ...

  def set_constants(self, constants: Any) -> None:
    """Takes other constants, of the same shapes, for the steps to come."""
    ...

  def position(self) -> dict[str, Any]:
    """Where the stream stands, as JSON values."""
    ...

  def seek(self, step: int, position: dict[str, Any]) -> None:
    """Goes to where `position` was taken, which was before `step`."""
    ...


class DeviceFeed:
  """Data held in device memory; many steps in one dispatch."""

  def __init__(
    self,
    step: Step,
    batches: Batches,
    *,
    shardings: Any,
    mesh: Mesh,
    constants: Any,
    base_key: Key[Array, ""],
    steps_per_dispatch: int,
  ):
    self._batches = batches
    self._max_steps = steps_per_dispatch
    replicated = NamedSharding(mesh, PartitionSpec())
    self._put = functools.partial(jax.device_put, device=replicated)
    self._constants, self._base_key = self._put((constants, base_key))
    self._data = self._put(batches.device_data)
    self._many_steps = jax.jit(
      make_many_steps(step, batches, steps_per_dispatch),
      in_shardings=(shardings, *[replicated] * 6),
      out_shardings=(shardings, replicated),
      donate_argnums=0,
    )

  def run(
    self, state: TrainState, first_step: int, num_steps: int
  ) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Takes steps of one epoch; metrics have a leading axis [num_steps]."""
    parts = []
    for done in range(0, num_steps, self._max_steps):
      count = min(self._max_steps, num_steps - done)
      epoch, index = divmod(first_step + done, self._batches.steps_per_epoch)
      state, metrics = self._many_steps(
        state,
        self._put(self._batches.plan(epoch)),
        self._data,
        np.int32(index),
        np.int32(count),
        self._constants,
        self._base_key,
      )
      parts.append({name: np.asarray(m)[:count] for name, m in metrics.items()})
    return state, {
      name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }

  def set_constants(self, constants: Any) -> None:
    """Takes other constants, of the same shapes, for the steps to come."""
    self._constants = self._put(constants)

  def position(self) -> dict[str, Any]:
    """Nothing: the step number says it all."""
    return {}

  def seek(self, step: int, position: dict[str, Any]) -> None:
    """Nothing to do: batches are made from the step number."""


class GrainFeed:
  """Batches made on the host, a process its own share of each.

  Several steps go in one dispatch: what a program needs beside its arguments
  is taken from the operating system and given back at every dispatch, page by
  page, which on a CPU takes a quarter of a step of DLRM.
  """

  def __init__(
    self,
    step: Step,
    batches: Batches,
    *,
    shardings: Any,
    mesh: Mesh,
    constants: Any,
    base_key: Key[Array, ""],
    num_steps: int,
    steps_per_dispatch: int = 16,
  ):
    self._max_steps = min(steps_per_dispatch, num_steps)
    self._iterator = grain_iterator(
      batches,
      num_steps,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    replicated = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec(None, "data"))
    self._layout = {
      name: sharded if ndim else replicated
      for name, ndim in batches.batch_ndims.items()
    }
    # Not device_put: it does not reach the devices of other processes.
    self._put = jax.jit(lambda tree: tree, out_shardings=replicated)
    self._constants, self._base_key = self._put((constants, base_key))
    self._many_steps = jax.jit(
      make_steps_of(step, self._max_steps),
      in_shardings=(shardings, self._layout, *[replicated] * 3),
      out_shardings=(shardings, replicated),
      donate_argnums=0,
    )

  def run(
    self, state: TrainState, first_step: int, num_steps: int
  ) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Takes steps; metrics have a leading axis [num_steps]."""
    del first_step  # The iterator knows.
    parts = []
    for done in range(0, num_steps, self._max_steps):
      count = min(self._max_steps, num_steps - done)
      host = [next(self._iterator) for _ in range(count)]
      host += [host[-1]] * (self._max_steps - count)  # Not looked at.
      stacked = {
        name: jax.make_array_from_process_local_data(
          layout, np.stack([batch[name] for batch in host])
        )
        for name, layout in self._layout.items()
      }
      state, metrics = self._many_steps(
        state, stacked, np.int32(count), self._constants, self._base_key
      )
      parts.append((count, metrics))
    # Read at the end, so that the device is never waited for in between.
    return state, {
      name: np.concatenate([np.asarray(m[name])[:n] for n, m in parts])
      for name in parts[0][1]
    }

  def set_constants(self, constants: Any) -> None:
    """Takes other constants, of the same shapes, for the steps to come."""
    self._constants = self._put(constants)

  def position(self) -> dict[str, Any]:
    """The state of the Grain iterator."""
    return self._iterator.get_state()

  def seek(self, step: int, position: dict[str, Any]) -> None:
    """Restores the state of the Grain iterator."""
    if position.get("next_index") != step:
      raise RunError(
        f"the checkpoint of step {step} holds the data position {position},"
        " which belongs to another step or another feed; set feed as it was."
      )
    self._iterator.set_state(position)
