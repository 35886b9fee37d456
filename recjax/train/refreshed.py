"""Constants of the step that are made anew from the weights, now and then.

Such as hard negatives that an index of the current vectors finds. What was made
is written to disk before the checkpoint of the same step, so that a run that
goes on reads it and does not make it of other weights.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from recjax import files
from recjax.errors import RunError, check_range
from recjax.types import Params

Constants = dict[str, np.ndarray]
_KEPT = 4  # One for each checkpoint that is kept, and to spare.


@dataclasses.dataclass(frozen=True, eq=False)
class Refresher:
  """How constants are made anew.

  Attributes:
    every_epochs: after so many epochs.
    make: weights -> the constants that change; their shapes do not.
  """

  every_epochs: int
  make: Callable[[Params], Constants]

  def __post_init__(self):
    check_range("Refresher.every_epochs", self.every_epochs, 1, integer=True)


class RefreshedConstants:
  """What was made, on disk, by the step it was made at."""

  def __init__(self, folder: files.PathLike):
    self._folder = pathlib.Path(folder)

  def save(self, step: int, constants: Constants) -> None:
    """Writes what was made at a step; of older ones the last few stay."""
    files.write_atomically(
      self._path(step),
      lambda file: np.savez(file, **constants),  # pyright: ignore
    )
    for old in self._steps()[:-_KEPT]:
      self._path(old).unlink(missing_ok=True)

  def load(self, step: int) -> Constants:
    """What was made last, at that step or before; nothing if none was.

    Raises:
      RunError: the file is broken; it is named.
    """
    steps = [saved for saved in self._steps() if saved <= step]
    if not steps:
      return {}
    path = self._path(steps[-1])
    try:
      with open(path, "rb") as file, np.load(file) as content:
        return {name: content[name] for name in content.files}
    except Exception as error:
      raise RunError(
        f"{path} is broken: {error}. Train in a new workdir, or take the file"
        " away to go on with what was made before."
      ) from error

  def _path(self, step: int) -> pathlib.Path:
    return self._folder / f"{step:012d}.npz"

  def _steps(self) -> list[int]:
    return sorted(int(path.stem) for path in self._folder.glob("*.npz"))
