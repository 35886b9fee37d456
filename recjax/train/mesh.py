"""The mesh of devices a run is laid out on."""

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh

from recjax.embeddings.choices import PlanConfig
from recjax.errors import ConfigError, check_range


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis.

  Attributes:
    data: devices that share a batch; 0 takes all that "model" leaves.
    model: devices that share the rows of the tables.
    plan: what the placement of sparse tables reckons with; those are cut over
      either axis or both, see `recjax.embeddings.strategies`.
  """

  data: int = 1
  model: int = 1
  plan: PlanConfig = PlanConfig()

  def __post_init__(self):
    check_range("MeshConfig.data", self.data, 0, integer=True)
    check_range("MeshConfig.model", self.model, 1, integer=True)

  def num_data(self) -> int:
    """Devices along "data" on this machine, at least one."""
    return self.data or max(1, jax.device_count() // self.model)


def make_mesh(config: MeshConfig) -> Mesh:
  """A mesh with the axes "data" and "model" over the first devices.

  Raises:
    ConfigError: there are fewer devices than the mesh needs, or a process has
      no equal share of "data" for itself.
  """
  devices = jax.devices()
  data = config.num_data()
  needed = data * config.model
  if needed > len(devices):
    raise ConfigError(
      f"a mesh of data={config.data} and model={config.model} needs {needed}"
      f" devices; there are {len(devices)} ({devices[0].platform})."
    )
  grid = np.array(devices[:needed]).reshape(data, config.model)
  _check_processes(grid)
  return Mesh(grid, ("data", "model"))


def _check_processes(grid: np.ndarray) -> None:
  """A process reads its share of a batch: that of its own rows of the mesh."""
  num = jax.process_count()
  owners = np.vectorize(lambda device: device.process_index)(grid)
  shares = np.arange(len(grid)) * num // len(grid)
  if len(grid) % num or np.any(owners != shares[:, None]):
    raise ConfigError(
      f"with {num} processes MeshConfig.data must be a multiple of {num}, and"
      f" the mesh must have all {jax.device_count()} devices; got"
      f" data={grid.shape[0]} and model={grid.shape[1]}. The devices along"
      f" 'model' are those of one process, of which it has"
      f" {jax.local_device_count()}."
    )
