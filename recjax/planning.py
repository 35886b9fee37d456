"""What a run would ask of a mesh: where its tables lie, what a step costs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from recjax import files
from recjax.embeddings.plans import Plan
from recjax.launch import Settings
from recjax.train import ahead
from recjax.train.layout import Layout, device_memory
from recjax.train.topologies import Topology, parse_topology, topology_mesh


def open_layout(
  experiment: Settings,
  data_dir: files.PathLike,
  cache_dir: files.PathLike | None = None,
) -> Layout:
  """The layout of an experiment on the mesh that it names.

  Args:
    experiment: the settings; the mesh may have devices that are not there.
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie.

  Returns:
    What is planned and lowered, of the first batch of the run.
  """
  bench = experiment.open(data_dir, cache_dir)
  key, _ = jax.random.split(jax.random.key(experiment.seed))
  params = jax.eval_shape(bench.task.init, key)[0]
  return Layout(
    bench.task,
    experiment.optimizer.build(params),
    bench.batches,
    bench.constants,
    experiment.mesh.plan,
    key,
  )


def plan_tables(experiment: Settings, *places: Any) -> Plan:
  """The plan of an experiment on the mesh that it names.

  Args:
    experiment: the settings.
    *places: data_dir and cache_dir, as of `open_layout`.
  """
  mesh = experiment.mesh
  layout = open_layout(experiment, *places).with_memory(device_memory())
  return layout.plan({"data": mesh.num_data(), "model": mesh.model})


def compile_ahead(
  experiment: Settings, topologies: Sequence[str], *places: Any
) -> None:
  """In the child of `recjax.train.ahead`: compiles the step for slices of TPUs.

  The plan of each is printed; what its compiled step costs is sent on.

  Args:
    experiment: the settings. Of its mesh counts what it has along "model"; all
      other chips of a slice lie along "data".
    topologies: names such as "v5e:4x4".
    *places: data_dir and cache_dir, as of `open_layout`.
  """
  model = experiment.mesh.model
  for name in topologies:
    topology = parse_topology(name)
    mesh = topology_mesh(topology, model)
    layout = _on_slice(experiment, topology, mesh, *places)
    if layout.task.sparse.tables:
      found = layout.plan(mesh.shape)
      print(f"{found.describe()}\n")
      if found.shortfall_bytes:
        ahead.send_outcome(
          ahead.TooLarge(
            name,
            dict(found.mesh_shape),
            found.device_bytes,
            found.memory_bytes,
            "That is by the plan of the tables; nothing was compiled.",
          )
        )
        continue
    ahead.compile_all(layout.lower, [name], model=model)


def _on_slice(
  experiment: Settings, topology: Topology, mesh: Mesh, *places: Any
) -> Layout:
  config = dataclasses.replace(experiment.mesh, data=mesh.shape["data"])
  changed: Any = dataclasses.replace(experiment, mesh=config)  # pyright: ignore
  memory = topology.generation.memory_bytes
  return open_layout(changed, *places).with_memory(memory)
