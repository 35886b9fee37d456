"""TensorBoard event files."""

import math

import jax
import tensorboardX

from recjax import files


class EventWriter:
  """Writes scalars for TensorBoard, from the first process alone."""

  def __init__(self, folder: files.PathLike, *, purge_step: int):
    """Opens a new event file.

    Args:
      folder: where event files lie.
      purge_step: TensorBoard hides what older files say from this step on:
        a resumed run says it again.
    """
    self._writer = None
    if jax.process_index() == 0:
      self._writer = tensorboardX.SummaryWriter(
        str(folder), purge_step=purge_step, write_to_disk=True
      )

  def write(self, step: int, scalars: dict[str, float]) -> None:
    """Writes the scalars of a step; those that are undefined are left out."""
    if self._writer is None:
      return
    for name, value in scalars.items():
      if math.isfinite(value):  # An AUC of one class is NaN.
        self._writer.add_scalar(name, value, step)

  def close(self) -> None:
    """Flushes and closes the file."""
    if self._writer is not None:
      self._writer.close()
