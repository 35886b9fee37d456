"""What the workdir of a sweep holds.

sweep.json         what was asked for
trials.json        the trials, in the order in which they were made
trials/KEY/        the run record of each, see `recjax.runs.record`
trials/KEY/stop.json   why it was stopped early
attempts/KEY.json  its crashes
logs/KEY.log       what it printed
logs/worker-N.log  what a process of this machine printed beside its trials
set_aside/KEY.N    a folder with a result of another config, after a retry
events.jsonl       what was started, finished, stopped, and when

All that is decided is on disk before it is done, so a sweep that was killed
goes on where it stood.
"""

import contextlib
import datetime
import itertools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from recjax import errors, files
from recjax.runs.record import RunRecord, plain, read_json
from recjax.sweeps.locks import holding
from recjax.sweeps.spec import Sweep
from recjax.sweeps.trials import Refused, Trial

SWEEP = "sweep.json"
STOP = "stop.json"
FINISHED, STOPPED, FAILED, OPEN = "finished", "stopped", "failed", "open"
MAX_ATTEMPTS = 2
_MOST_CHARACTERS = 200
"""Of an error, which stands in a line of a table."""


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
      RunError: another process holds it; the message says which.
    """

    def refuse(holder: str) -> None:
      raise errors.RunError(
        f"{holder} is carrying out the sweep in {self.path}."
      )

    with holding(self.path / ".lock", refuse):
      yield

  # -- Its trials -------------------------------------------------------------

  def write_trials(
    self,
    trials: Sequence[Trial],
    select: str,
    refused: Sequence[Refused] = (),
  ) -> None:
    """Writes trials.json.

    Args:
      trials: in the order in which they were made.
      select: the validation metric that selects their weights.
      refused: combinations of a search that can not run.
    """
    files.write_json_atomically(
      self._trials_path,
      {
        "select": select,
        "trials": [plain(trial.to_dict()) for trial in trials],
        "refused": [plain(each.to_dict()) for each in refused],
      },
    )

  def read_select(self) -> str:
    """The validation metric that selects the weights of all trials.

    Raises:
      RunError: trials.json is missing or corrupt.
    """
    with self._trials_content() as content:
      return str(content["select"])

  def read_trials(self) -> list[Trial]:
    """The trials, in the order in which they were made.

    Raises:
      RunError: trials.json is corrupt.
    """
    if not self._trials_path.exists():
      return []
    with self._trials_content() as content:
      return [Trial.from_dict(values) for values in content["trials"]]

  def read_refused(self) -> list[Refused]:
    """The combinations of a search that can not run, in their order.

    Raises:
      RunError: trials.json is corrupt.
    """
    if not self._trials_path.exists():
      return []
    with self._trials_content() as content:
      return [Refused(**values) for values in content.get("refused", ())]

  @property
  def _trials_path(self) -> pathlib.Path:
    return self.path / "trials.json"

  @contextlib.contextmanager
  def _trials_content(self) -> Iterator[dict[str, Any]]:
    """The content of trials.json; what its reader misses is told."""
    content = read_json(self._trials_path)
    try:
      yield content
    except (KeyError, TypeError, ValueError) as error:
      why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
      raise errors.RunError(
        f"{self._trials_path} is corrupt: {why}."
      ) from error

  def workdir(self, key: str) -> pathlib.Path:
    """Where the record of a trial is."""
    return self.path / "trials" / key

  def record(self, key: str) -> RunRecord:
    """The record of a trial."""
    return RunRecord(self.workdir(key))

  def log_path(self, key: str) -> pathlib.Path:
    """Where a trial prints to."""
    return self.path / "logs" / f"{key}.log"

  def state(self, key: str, *, thorough: bool = False) -> str:
    """FINISHED, STOPPED, FAILED, or OPEN: to be started or gone on with.

    A trial is FAILED after MAX_ATTEMPTS crashes, and if its result is corrupt
    or of another config.

    Args:
      key: of the trial.
      thorough: as of `is_finished`.
    """
    try:
      if is_finished(self.record(key), key, thorough=thorough):
        return FINISHED
    except errors.RunError:
      return FAILED
    if (self.workdir(key) / STOP).exists():
      return STOPPED
    if len(self.crashes(key)) >= MAX_ATTEMPTS:
      return FAILED
    return OPEN

  def checkpoint_step(self, key: str) -> int:
    """The step of the newest checkpoint of a trial; 0 where there is none."""
    found = self.record(key).checkpoints_dir.glob("*")
    return max((int(x.name) for x in found if x.name.isdecimal()), default=0)

  def stop(self, key: str, reason: str) -> None:
    """Asks a running trial to stop at its next line of metrics."""
    files.write_json_atomically(self.workdir(key) / STOP, {"reason": reason})

  def stop_reason(self, key: str) -> str:
    """Why a trial was stopped early."""
    try:
      return str(read_json(self.workdir(key) / STOP).get("reason", ""))
    except errors.RunError as error:
      return one_line(str(error))

  # -- Crashes and events -----------------------------------------------------

  def crashes(self, key: str) -> list[dict[str, Any]]:
    """The crashes of a trial, the last one last.

    A result that can not be used is one of them.
    """
    found = self._told_crashes(key)
    try:
      is_finished(self.record(key), key, thorough=True)
    except errors.RunError as error:
      found.append({"at": _now(), "error": one_line(str(error))})
    return found

  def _told_crashes(self, key: str) -> list[dict[str, Any]]:
    path = self._attempts_path(key)
    if not path.exists():
      return []
    try:
      found = read_json(path).get("crashes")
    except errors.RunError as error:
      return [{"at": _now(), "error": one_line(str(error))}]
    if isinstance(found, list) and all(
      isinstance(crash, dict) and "error" in crash for crash in found
    ):
      return found
    return [{"at": _now(), "error": f"{path} is corrupt: no list of crashes."}]

  def _attempts_path(self, key: str) -> pathlib.Path:
    return self.path / "attempts" / f"{key}.json"

  def add_crash(self, key: str, error: str) -> None:
    """Remembers that a trial crashed: its error in a line, and its log."""
    log = self.log_path(key).relative_to(self.path)
    text = one_line(error, end=f"; see {log}")
    crashes = [*self._told_crashes(key), {"at": _now(), "error": text}]
    files.write_json_atomically(self._attempts_path(key), {"crashes": crashes})

  def forget_crashes(self, key: str) -> None:
    """Gives a failed trial new attempts.

    A corrupt result is set aside, and so is one whose values of users are
    corrupt. With a result of another config goes the whole folder, for its
    checkpoints are not of this trial either.
    """
    self._attempts_path(key).unlink(missing_ok=True)
    record = self.record(key)
    result = record.workdir / "result.json"
    try:
      record.is_finished()
    except errors.RunError:
      _call_corrupt(result)
      return
    try:
      is_finished(record, key)
    except errors.RunError:
      aside = self.path / "set_aside"
      aside.mkdir(exist_ok=True)
      names = (aside / f"{key}.{number}" for number in itertools.count())
      record.workdir.rename(next(x for x in names if not x.exists()))
      return
    try:
      is_finished(record, key, thorough=True)
    except errors.RunError:
      _call_corrupt(result)  # First, should this be cut short.
      _call_corrupt(record.per_user_path("test"))

  def add_event(self, event: str, key: str, **more: Any) -> None:
    """Appends a line to events.jsonl."""
    line = {"at": _now(), "event": event, "trial": key, **more}
    with open(self.path / "events.jsonl", "a", encoding="utf-8") as file:
      file.write(json.dumps(plain(line)) + "\n")


def is_sweep(path: files.PathLike) -> bool:
  """Whether a folder is the workdir of a sweep."""
  return (pathlib.Path(path) / SWEEP).exists()


def is_finished(record: RunRecord, key: str, *, thorough: bool = False) -> bool:
  """Whether the trial of that key has its result in a record.

  Args:
    record: of the trial.
    key: of the trial.
    thorough: the values of users that a test compares are read as well.

  Raises:
    RunError: there is a result, but it is corrupt or of another config.
  """
  if not record.is_finished():
    return False
  found = record.read_result()["config_hash"]
  if found != key:
    raise errors.RunError(
      f"{record.workdir / 'result.json'} is of the config {found}, not {key};"
      " --retry_failed sets its folder aside."
    )
  if thorough and record.per_user_path("test").exists():
    record.load_per_user("test")
  return True


def _call_corrupt(path: pathlib.Path) -> None:
  path.rename(path.with_name(f"{path.name}.corrupt"))


def one_line(text: str, end: str = "") -> str:
  """`text` in a line that is not too long, and `end` after it."""
  line = " ".join(text.split())
  if end:
    line = line.removesuffix(".")
  most = _MOST_CHARACTERS - len(end)
  if len(line) > most:
    line = f"{line[: most - 3]}..."
  return line + end


def _short(value: Any) -> str:
  text = json.dumps(value, ensure_ascii=False)
  return text if len(text) <= 200 else f"{text[:200]}..."


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
