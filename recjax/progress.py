"""A progress bar for anything that may take longer than two seconds."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich import console as rich_console
from rich import progress as rich_progress

T = TypeVar("T")
PATIENCE_SECS = 2.0


def _columns() -> tuple[rich_progress.ProgressColumn | str, ...]:
  return (
    "[progress.description]{task.description}",
    rich_progress.BarColumn(),
    rich_progress.MofNCompleteColumn(),
    "[cyan]{task.fields[speed]}",
    rich_progress.TimeElapsedColumn(),
    "left",
    rich_progress.TimeRemainingColumn(),
  )


class ProgressBar:
  """Counts work on stderr: a bar in a terminal, a line a minute elsewhere.

  Nothing is shown before two seconds have passed.
  """

  def __init__(
    self, description: str, total: int | None, *, unit: str, done: int
  ):
    self._description, self._total, self._unit = description, total, unit
    self._start_secs = time.monotonic()
    self._last_line_secs = self._start_secs
    self._started_at, self._done = done, done
    self._console = rich_console.Console(stderr=True)
    self._bar: rich_progress.Progress | None = None
    self._task: rich_progress.TaskID | None = None

  def _speed(self, now: float) -> str:
    elapsed = max(now - self._start_secs, 1e-9)
    return f"{(self._done - self._started_at) / elapsed:.1f} {self._unit}/s"

  def advance(self, amount: int = 1, note: str = "") -> None:
    """Adds `amount` to the count and shows `note` beside it."""
    self._done += amount
    now = time.monotonic()
    if now - self._start_secs < PATIENCE_SECS:
      return
    speed = f"{self._speed(now)} {note}".strip()
    if not self._console.is_terminal:
      if now - self._last_line_secs >= 60:
        self._last_line_secs = now
        of = f"/{self._total}" if self._total else ""
        print(
          f"{self._description}: {self._done}{of} {speed}",
          file=sys.stderr,
          flush=True,
        )
      return
    if self._bar is None:
      self._bar = rich_progress.Progress(
        *_columns(), console=self._console, transient=True
      )
      self._task = self._bar.add_task(
        self._description, total=self._total, speed=speed
      )
      self._bar.start()
    assert self._task is not None
    self._bar.update(self._task, completed=self._done, speed=speed)

  def close(self) -> None:
    """Takes the bar off the screen."""
    if self._bar is not None:
      self._bar.stop()


@contextlib.contextmanager
def progress_bar(
  description: str,
  total: int | None = None,
  *,
  unit: str = "it",
  done: int = 0,
) -> Iterator[ProgressBar]:
  """A ProgressBar that is closed at the end of the block."""
  bar = ProgressBar(description, total, unit=unit, done=done)
  try:
    yield bar
  finally:
    bar.close()


def track(
  iterable: Iterable[T], description: str, total: int | None = None
) -> Iterator[T]:
  """Yields from `iterable` and counts on a progress bar."""
  if total is None and hasattr(iterable, "__len__"):
    total = len(iterable)  # pyright: ignore[reportArgumentType]
  with progress_bar(description, total) as bar:
    for element in iterable:
      yield element
      bar.advance()
