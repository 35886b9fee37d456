"""What a gin file may be about: the roots, one a kind of experiment."""

import pathlib
from collections.abc import Sequence
from typing import Any

from recjax import (
  experiment,
  files,
  gin_config,
  multi_task_experiment,
  pairs_experiment,
  ranking_experiment,
  retrieval_experiment,
)
from recjax.runs.record import RunRecord

ROOTS = (
  experiment.Experiment,
  multi_task_experiment.MultiTaskExperiment,
  pairs_experiment.PairsExperiment,
  ranking_experiment.RankingExperiment,
  retrieval_experiment.RetrievalExperiment,
)


def construct_root() -> Any:
  """The experiment of the config that was parsed last.

  Raises:
    ConfigError: it names none or several, or a setting is refused.
  """
  return gin_config.construct(gin_config.named_root(ROOTS))


def experiment_of(
  workdir: files.PathLike,
  gin_files: Sequence[files.PathLike] = (),
  bindings: Sequence[str] = (),
) -> Any:
  """The experiment that a workdir is a run of.

  Args:
    workdir: of a run.
    gin_files: read after its config; the last wins.
    bindings: NAME=VALUE of flags, which win over all files.

  Raises:
    ConfigError: a setting is refused.
    RunError: no run was started there.
  """
  workdir = pathlib.Path(workdir)
  RunRecord(workdir).read_config_hash()  # Says so if there is no run.
  gin_config.parse([workdir / "config.gin", *gin_files], bindings)
  return construct_root()
