"""A run with its best weights, for what is computed from them afterwards."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from recjax import files, launch, roots
from recjax.errors import ConfigError, RunError
from recjax.runs.record import RunRecord
from recjax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedRun:
  """A run with its best weights.

  Attributes:
    workdir: of the run.
    bench: its data and task.
    weights: of the best validation.
    checkpoint: names config, step, weights and data, as an index remembers.
  """

  workdir: pathlib.Path
  bench: Any
  weights: Params
  checkpoint: str

  @property
  def item_ids(self) -> Int[np.ndarray, " item"]:
    """1 to num_items."""
    num = self.bench.interactions.num_items
    return np.arange(1, num + 1, dtype=np.int32)

  def item_vectors(self) -> Float[np.ndarray, "item dim"]:
    """The vectors of `item_ids`."""
    return self.bench.item_vectors(self.weights)[1 : len(self.item_ids) + 1]


def open_run(
  workdir: files.PathLike,
  data_dir: files.PathLike,
  cache_dir: files.PathLike | None = None,
  *,
  command: str,
) -> OpenedRun:
  """The run of a workdir.

  Args:
    workdir: of the run.
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie.
    command: who asks, for messages.

  Raises:
    ConfigError: it is of an experiment without vectors of items.
    RunError: there is no run, or no validation was reached.
  """
  workdir = pathlib.Path(workdir)
  experiment = roots.experiment_of(workdir)
  bench: Any = experiment.open(data_dir, cache_dir)
  if not hasattr(bench, "item_vectors"):
    raise ConfigError(
      f"{workdir} is a run of {type(experiment).__name__}, whose model has no"
      f" vectors of items: `recjax {command}` is for runs of"
      " RetrievalExperiment, see docs/retrieval.md."
    )
  weights = launch.best_weights(
    bench.task, workdir, over_devices=bench.judges_on_mesh
  )
  checkpoint = checkpoint_name(workdir, bench.data_fingerprint)
  return OpenedRun(workdir, bench, weights, checkpoint)


def checkpoint_name(workdir: files.PathLike, data_fingerprint: str) -> str:
  """Config, step, weights and data that vectors come from, in one line.

  Args:
    workdir: of a run whose best weights were read, so that broken ones are
      set aside.
    data_fingerprint: of the data, for ids have no meaning without them.

  Raises:
    RunError: no validation was reached.
  """
  best = pathlib.Path(workdir) / "best"
  # Each digest file holds the SHA-256 of all files of a step.
  digests = {
    int(path.stem.removeprefix("digest-")): path
    for path in best.glob("digest-*.json")
  }
  if not digests:
    raise RunError(f"{best} holds no parameters: no validation was reached.")
  step = max(digests)
  return (
    f"config {RunRecord(workdir).read_config_hash()}, step {step},"
    f" weights {files.sha256_of_file(digests[step])[:16]},"
    f" data {data_fingerprint[:16]}"
  )
