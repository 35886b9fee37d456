"""What the workdir of a sweep holds.

sweep.json         what was asked for
trials.json        the trials, in the order in which they were made
trials/KEY/        the run record of each, see `recjax.runs.record`
trials/KEY/stop.json   why it was stopped early
attempts/KEY.json  its crashes
logs/KEY.log       what it printed
events.jsonl       what was started, finished, stopped, and when

All that is decided is on disk before it is done, so a sweep that was killed
goes on where it stood.
"""

import contextlib
import datetime
import fcntl
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from recjax import errors, files
from recjax.runs.record import RunRecord, plain, read_json
from recjax.sweeps.spec import Sweep
from recjax.sweeps.trials import Trial

SWEEP = "sweep.json"
STOP = "stop.json"
FINISHED, STOPPED, FAILED, OPEN = "finished", "stopped", "failed", "open"


class SweepFolder:
  """Reads and writes the workdir of a sweep.

  Attributes:
    path: of the folder.
  """

  def __init__(self, path: files.PathLike):
    self.path = pathlib.Path(path)

  # -- The sweep --------------------------------------------------------------

  def check(self, sweep: Sweep) -> None:
    """Raises RunError where the folder is of another sweep, or of a run.

    More seeds, or more trials of a search, are the same sweep.
    """
    path = self.path / SWEEP
    if path.exists():
      self._check_same(read_json(path), plain(sweep.to_dict()))
    elif names := self._names():
      raise errors.RunError(
        f"{self.path} is no workdir of a sweep: it holds"
        f" {', '.join(names[:5])} but no {SWEEP}. Choose another."
      )

  def take_up(self, sweep: Sweep) -> None:
    """Makes the folder, or goes on with the same sweep in it.

    Raises:
      RunError: see `check`.
    """
    self.check(sweep)
    files.write_json_atomically(self.path / SWEEP, plain(sweep.to_dict()))

  def _names(self) -> list[str]:
    if not self.path.exists():
      return []
    return sorted(x.name for x in self.path.iterdir() if x.name[0] != ".")

  def _check_same(self, old: dict[str, Any], new: dict[str, Any]) -> None:
    differing = []
    for key in {**old, **new}:
      one, two = old.get(key), new.get(key)
      if key == "seeds" and set(one or ()) <= set(two or ()):
        continue
      if key == "num_trials" and (one or 0) <= (two or 0):
        continue
      if one != two and key not in ("title", "metric"):
        differing.append(f"\n  {key}: {_short(one)} there, {_short(two)} now")
    if differing:
      raise errors.RunError(
        f"{self.path} holds another sweep; choose another workdir, or give the"
        f" same file to go on:{''.join(differing)}"
      )

  def read_sweep(self) -> dict[str, Any]:
    """The content of sweep.json.

    Raises:
      RunError: there is none, or it is corrupt.
    """
    return read_json(self.path / SWEEP)

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Holds the folder, so that no two processes carry out one sweep.

    Raises:
      RunError: another process holds it.
    """
    self.path.mkdir(parents=True, exist_ok=True)
    with open(self.path / ".lock", "w") as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError:
        raise errors.RunError(
          f"another process is carrying out the sweep in {self.path}."
        ) from None
      yield

  # -- Its trials -------------------------------------------------------------

  def write_trials(self, trials: Sequence[Trial], select: str) -> None:
    """Writes trials.json.

    Args:
      trials: in the order in which they were made.
      select: the validation metric that selects their weights.
    """
    files.write_json_atomically(
      self.path / "trials.json",
      {
        "select": select,
        "trials": [plain(trial.to_dict()) for trial in trials],
      },
    )

  def read_select(self) -> str:
    """The validation metric that selects the weights of all trials.

    Raises:
      RunError: trials.json is missing or corrupt.
    """
    return str(read_json(self.path / "trials.json")["select"])

  def read_trials(self) -> list[Trial]:
    """The trials, in the order in which they were made.

    Raises:
      RunError: trials.json is corrupt.
    """
    path = self.path / "trials.json"
    if not path.exists():
      return []
    return [Trial.from_dict(values) for values in read_json(path)["trials"]]

  def workdir(self, key: str) -> pathlib.Path:
    """Where the record of a trial is."""
    return self.path / "trials" / key

  def record(self, key: str) -> RunRecord:
    """The record of a trial."""
    return RunRecord(self.workdir(key))

  def log_path(self, key: str) -> pathlib.Path:
    """Where a trial prints to."""
    return self.path / "logs" / f"{key}.log"

  def state(self, key: str, *, max_attempts: int) -> str:
    """FINISHED, STOPPED, FAILED, or OPEN: to be started or gone on with.

    Args:
      key: of the trial.
      max_attempts: crashes after which it is FAILED.

    Raises:
      RunError: its result is corrupt.
    """
    if self.record(key).is_finished():
      return FINISHED
    if (self.workdir(key) / STOP).exists():
      return STOPPED
    if len(self.crashes(key)) >= max_attempts:
      return FAILED
    return OPEN

  def stop(self, key: str, reason: str) -> None:
    """Asks a running trial to stop at its next line of metrics."""
    files.write_json_atomically(self.workdir(key) / STOP, {"reason": reason})

  def stop_reason(self, key: str) -> str:
    """Why a trial was stopped early."""
    return str(read_json(self.workdir(key) / STOP).get("reason", ""))

  # -- Crashes and events -----------------------------------------------------

  def crashes(self, key: str) -> list[dict[str, Any]]:
    """The crashes of a trial, the last one last."""
    path = self.path / "attempts" / f"{key}.json"
    return read_json(path)["crashes"] if path.exists() else []

  def add_crash(self, key: str, error: str) -> None:
    """Remembers that a trial crashed."""
    crashes = [*self.crashes(key), {"at": _now(), "error": error}]
    path = self.path / "attempts" / f"{key}.json"
    files.write_json_atomically(path, {"crashes": crashes})

  def forget_crashes(self, key: str) -> None:
    """Gives a failed trial new attempts."""
    (self.path / "attempts" / f"{key}.json").unlink(missing_ok=True)

  def add_event(self, event: str, key: str, **more: Any) -> None:
    """Appends a line to events.jsonl."""
    line = {"at": _now(), "event": event, "trial": key, **more}
    with open(self.path / "events.jsonl", "a", encoding="utf-8") as file:
      file.write(json.dumps(plain(line)) + "\n")


def is_sweep(path: files.PathLike) -> bool:
  """Whether a folder is the workdir of a sweep."""
  return (pathlib.Path(path) / SWEEP).exists()


def _short(value: Any) -> str:
  text = json.dumps(value, ensure_ascii=False)
  return text if len(text) <= 200 else f"{text[:200]}..."


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
