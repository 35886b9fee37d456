"""Progress says nothing for two seconds, then shows a bar or lines."""

import io

import pytest
from rich import console as rich_console

from recjax import progress


class Clock:
  """Time that moves only when it is told to."""

  def __init__(self, monkeypatch):
    self.now_secs = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: self.now_secs)


def test_track_yields_everything_and_is_silent_at_first(capsys):
  assert list(progress.track(iter("abc"), "letters")) == ["a", "b", "c"]
  assert list(progress.track([1, 2], "numbers")) == [1, 2]
  assert capsys.readouterr() == ("", "")


def test_without_a_terminal_a_line_a_minute(monkeypatch, capsys):
  clock = Clock(monkeypatch)
  with progress.progress_bar("steps", 100, unit="step", done=10) as bar:
    for _ in range(4):
      clock.now_secs += 45
      bar.advance(9, note="loss 0.5")
  lines = capsys.readouterr().err.splitlines()
  # After 90 s: 18 steps done in this run, 28 in all.
  assert lines[0] == "steps: 28/100 0.2 step/s loss 0.5"
  assert len(lines) == 2


def test_in_a_terminal_a_bar_after_two_seconds(monkeypatch):
  clock = Clock(monkeypatch)
  screen = io.StringIO()
  real = rich_console.Console
  monkeypatch.setattr(
    progress.rich_console,
    "Console",
    lambda stderr: real(file=screen, force_terminal=True, width=120),
  )
  with progress.progress_bar("steps", 10, unit="step") as bar:
    clock.now_secs += 1
    bar.advance()
    assert screen.getvalue() == ""
    clock.now_secs += 3
    bar.advance()
  assert "steps" in screen.getvalue() and "2/10" in screen.getvalue()
  assert "0.5 step/s" in screen.getvalue()


def test_a_bar_is_closed_when_the_work_fails(monkeypatch):
  closed = []
  monkeypatch.setattr(
    progress.ProgressBar, "close", lambda self: closed.append(True)
  )
  with pytest.raises(KeyError):
    for _ in progress.track([1, 2], "work"):
      raise KeyError
  # The generator is closed with the loop that left it.
  assert closed == [True]
