"""The validation curves of trials, read while they grow."""

import dataclasses
import json

from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.stopping import Curve


@dataclasses.dataclass
class _Place:
  """What was read of a file.

  Attributes:
    num_bytes: up to the end of the last whole line.
    last: that line; where it stands no longer, the file was written anew.
    curve: what the lines told.
  """

  num_bytes: int = 0
  last: bytes = b""
  curve: Curve = dataclasses.field(default_factory=list)


class CurveReader:
  """Reads on in each metrics.jsonl where it stopped the last time.

  A line that is half written is left for the next time. A run that goes on from
  a checkpoint drops the lines after it: such a file is read from its start.
  Lines that are corrupt are left out; the run itself stops at them.
  """

  def __init__(self, folder: SweepFolder, metric: str):
    """Reads nothing yet.

    Args:
      folder: of the sweep.
      metric: of validation.
    """
    self._folder = folder
    self._name = f"validation/{metric}"
    self._places: dict[str, _Place] = {}

  def read(self, key: str) -> Curve:
    """The curve of a trial as far as it came, (step, value) by step.

    Later calls lengthen the same list.
    """
    place = self._places.setdefault(key, _Place())
    try:
      file = open(self._folder.workdir(key) / "metrics.jsonl", "rb")
    except FileNotFoundError:
      self._places.pop(key)
      return []
    with file:
      file.seek(place.num_bytes - len(place.last))
      content = file.read()
      if not content.startswith(place.last):
        place = self._places[key] = _Place()
        file.seek(0)
        content = file.read()
    *lines, _ = content.removeprefix(place.last).split(b"\n")
    for line in lines:
      place.num_bytes += len(line) + 1
      place.last = line + b"\n"
      self._take(line, place.curve)
    return place.curve

  def _take(self, line: bytes, curve: Curve) -> None:
    try:
      values = json.loads(line)
      step, value = values["step"], values.get(self._name)
    except (ValueError, KeyError, TypeError, AttributeError):
      return
    if isinstance(step, int) and isinstance(value, (int, float)):
      curve.append((step, float(value)))
