"""The run that gin files and flags name, read and carried out.

`recjax train`, the trials of a sweep and the recipes of published numbers go
through here, so that each is what its command line would give.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from recjax import command_flags, files, gin_config, launch, roots
from recjax.runs.record import RunRecord


@dataclasses.dataclass(frozen=True)
class NamedRun:
  """A run as its gin files and flags name it.

  Attributes:
    settings: its root, such as an `Experiment`.
    config: the whole config as gin text.
    operative: what the run uses, defaults included.
    config_hash: names the operative config, however it is spelled.
    config_hash_without_seed: of all but the seed and the name of the run.
  """

  settings: Any
  config: str
  operative: str
  config_hash: str
  config_hash_without_seed: str

  def take_up(self, record: RunRecord) -> bool:
    """Makes the workdir of a record, or goes on with this run in it.

    Returns:
      Whether the run was there already.

    Raises:
      RunError: the workdir is of another config.
    """
    return record.create_or_resume(
      self.config, self.operative, self.config_hash
    )

  def train(
    self,
    record: RunRecord,
    data_dir: files.PathLike,
    cache_dir: files.PathLike | None = None,
    *,
    command: str | None = None,
  ) -> dict[str, Any]:
    """Trains, evaluates and records, see `launch.train`.

    Args:
      record: taken up.
      data_dir: the folder of raw data sets.
      cache_dir: where prepared data lie.
      command: the command line that the record tells; this process's by
        default.

    Returns:
      What result.json holds.
    """
    return launch.train(
      self.settings,
      record,
      data_dir,
      config_hash=self.config_hash,
      config_hash_without_seed=self.config_hash_without_seed,
      cache_dir=cache_dir,
      command=command,
    )


def read_run(
  gin_files: Sequence[files.PathLike],
  bindings: Sequence[str] = (),
  search_paths: Sequence[files.PathLike] = (),
) -> NamedRun:
  """Parses gin files and flags and makes their root.

  Args:
    gin_files: paths, or names within the folder gin/; the last wins.
    bindings: NAME=VALUE of flags, which win over all files.
    search_paths: folders looked in before gin/.

  Raises:
    ConfigError: a setting is unknown, unused or refused.
  """
  config = gin_config.parse(gin_files, bindings, search_paths)
  settings = roots.construct_root()
  operative = gin_config.operative_text()
  seedless = [
    f"{root.__name__}.{field}"
    for root in roots.ROOTS
    for field in ("seed", "name")
  ]
  return NamedRun(
    settings,
    config,
    operative,
    gin_config.config_hash(operative),
    gin_config.config_hash(operative, without=seedless),
  )


def train_command(
  gin_files: Sequence[str], bindings: Sequence[str], workdir: str
) -> str:
  """The `recjax train` of a run, as one would type it."""
  parts = ["recjax", "train", *(f"--gin_file={name}" for name in gin_files)]
  parts += [f"{command_flags.GIN_PREFIX}{text}" for text in bindings]
  parts.append(f"--workdir={workdir}")
  return " ".join(map(shlex.quote, parts))
