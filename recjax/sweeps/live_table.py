"""The progress of a sweep: a live table in a terminal, lines elsewhere."""

import collections
import time
from collections.abc import Mapping, Sequence

import rich.box
import rich.console
import rich.live
import rich.table
import rich.text

from recjax.runs import labels
from recjax.sweeps import folder as folders
from recjax.sweeps.curves import CurveReader
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.scheduler import Scheduler
from recjax.sweeps.trials import Trial

_ENDED = (folders.FINISHED, folders.STOPPED, folders.FAILED)
_STYLES = {
  folders.FINISHED: "green",
  folders.STOPPED: "yellow",
  folders.FAILED: "red",
  Scheduler.RUNNING: "cyan",
}
_MOST_ROWS = 20
_LINE_SECS = 60.0


class LiveTable:
  """Shows the states of trials.

  A terminal has a table of those under way and those that ended last; else each
  trial that ended is a line, and those under way are told once a minute.
  """

  def __init__(
    self,
    title: str,
    folder: SweepFolder,
    metric: str,
    console: rich.console.Console | None = None,
  ):
    """Shows nothing yet.

    Args:
      title: of the sweep.
      folder: of the sweep.
      metric: of validation.
      console: where; the standard error by default.
    """
    self._title, self._folder, self._metric = title, folder, metric
    self._reader = CurveReader(folder, metric)
    self._console = console or rich.console.Console(stderr=True)
    self._live: rich.live.Live | None = None
    self._trials: dict[str, Trial] = {}
    self._order: list[str] = []
    self._start_secs = self._told_secs = time.monotonic()
    self._ended_before: int | None = None

  def add(self, trials: Sequence[Trial]) -> None:
    """Takes up more trials."""
    self._trials |= {trial.key: trial for trial in trials}

  def show(self, states: Mapping[str, str]) -> None:
    """Shows where the trials are."""
    ended = [key for key, state in states.items() if state in _ENDED]
    if self._ended_before is None:
      self._ended_before = len(ended)
      self._order += ended
    new = [key for key in ended if key not in self._order]
    self._order += new
    if self._console.is_terminal:
      self._show_table(states)
      return
    for key in new:
      self._tell(self._line(key, states[key]))
    now = time.monotonic()
    if now - self._told_secs >= _LINE_SECS:
      self._told_secs = now
      for key, state in states.items():
        if state == Scheduler.RUNNING:
          self._tell(self._line(key, state))
      self._tell(self._head(states))

  def _tell(self, text: str) -> None:
    # Names and errors are shown as they are: "[x]" is no markup in them.
    self._console.print(text, soft_wrap=True, markup=False, highlight=False)

  def _head(self, states: Mapping[str, str]) -> str:
    counts = collections.Counter(states.values())
    ended = sum(counts[state] for state in _ENDED)
    parts = [f"{ended} of {len(states)} trials have ended"]
    parts += [
      f"{counts[state]} {state}"
      for state in (Scheduler.RUNNING, folders.STOPPED, folders.FAILED)
      if counts[state]
    ]
    here = ended - (self._ended_before or 0)
    left = len(states) - ended
    if here and left:
      each = (time.monotonic() - self._start_secs) / here
      parts.append(f"about {labels.duration(each * left)} left")
    return f"{self._title}: {', '.join(parts)}"

  def _cells(self, key: str, state: str) -> tuple[str, ...]:
    trial = self._trials[key]
    curve = self._reader.read(key)
    step = f"{curve[-1][0]:,}" if curve else "–"
    value = labels.number(curve[-1][1]) if curve else "–"
    return trial.combination, str(trial.seed), state, step, value

  def _line(self, key: str, state: str) -> str:
    name, seed, state, step, value = self._cells(key, state)
    label = labels.metric_label(self._metric)
    text = f"{name}, seed {seed}: {state} at step {step}, {label} {value}"
    crashes = self._folder.crashes(key)
    return f"{text} ({crashes[-1]['error']})" if crashes else text

  def _show_table(self, states: Mapping[str, str]) -> None:
    running = [key for key, state in states.items() if state == "running"]
    last = self._order[-max(_MOST_ROWS - len(running), 3) :]
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    label = labels.metric_label(self._metric)
    for name in ("settings", "seed", "state", "step", f"validation {label}"):
      shown.add_column(
        rich.text.Text(name),
        justify="left" if name == "settings" else "right",
      )
    for key in (*last, *running):
      cells = [rich.text.Text(text) for text in self._cells(key, states[key])]
      cells[2].stylize(_STYLES.get(states[key], ""))
      shown.add_row(*cells)
    if self._live is None:
      self._live = rich.live.Live(
        console=self._console, auto_refresh=False, transient=True
      )
      self._live.start()
    whole = rich.console.Group(rich.text.Text(self._head(states)), shown)
    self._live.update(whole, refresh=True)

  def close(self) -> None:
    """Takes the table off the screen."""
    if self._live is not None:
      self._live.stop()
      self._live = None
