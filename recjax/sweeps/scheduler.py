"""Carries out the trials of a sweep: starts, watches, stops, retries."""

import dataclasses
from collections.abc import Callable, Sequence

from recjax import errors
from recjax.metrics.names import better
from recjax.sweeps import folder as folders
from recjax.sweeps.curves import CurveReader
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.jobs import Job, Outcome
from recjax.sweeps.launchers.launcher import Launcher
from recjax.sweeps.stopping import Curve, StopRule
from recjax.sweeps.trials import Trial

_POLL_SECS = 0.5


@dataclasses.dataclass(frozen=True)
class Watch:
  """What is looked at while trials run.

  Attributes:
    metric: the validation metric that selects weights.
    rule: when a trial is stopped early; None is never.
    show: is told the states of all trials, now and then.
    reported: the test metric that the report tells first; "" leaves it open.
  """

  metric: str
  rule: StopRule | None = None
  show: Callable[[dict[str, str]], None] = lambda states: None
  reported: str = ""

  @property
  def less_is_better(self) -> bool:
    """Of the metric."""
    return better(self.metric) < 0


def curve_of(folder: SweepFolder, key: str, metric: str) -> Curve:
  """The validation curve of a trial, as far as it came."""
  return CurveReader(folder, metric).read(key)


class Scheduler:
  """Runs trials until all have ended, or failed twice."""

  RUNNING = "running"

  def __init__(
    self,
    folder: SweepFolder,
    launcher: Launcher,
    watch: Watch,
    make_job: Callable[[Trial], Job],
  ):
    """Starts nothing yet.

    Args:
      folder: of the sweep.
      launcher: where trials run.
      watch: what is looked at meanwhile.
      make_job: what a process needs to carry out a trial.
    """
    self._folder = folder
    self._launcher = launcher
    self._watch = watch
    self._make_job = make_job
    self._running: dict[str, Trial] = {}
    self._known: dict[str, str] = {}
    self._begun_at: dict[str, int] = {}
    # Those of trials that ended, too: both rules compare at the step a running
    # trial has come to, which may be any.
    self._curves: dict[str, Curve] = {}
    self._reader = CurveReader(folder, watch.metric)
    self._is_checked = not watch.reported

  def states(self, trials: Sequence[Trial]) -> dict[str, str]:
    """The state of each trial by its key."""
    for trial in trials:
      key = trial.key
      if self._known.get(key, folders.OPEN) == folders.OPEN:
        self._known[key] = self._folder.state(key)
    running = dict.fromkeys(self._running, self.RUNNING)
    return {t.key: self._known[t.key] for t in trials} | running

  def run(
    self,
    trials: Sequence[Trial],
    more: Callable[[], Sequence[Trial]] = lambda: (),
  ) -> None:
    """Carries out all that are open; those that ended are left alone.

    Args:
      trials: in the order in which they shall start.
      more: asked for further ones while there is room; gives none at the end.

    Raises:
      ConfigError: a result of the first combination lacks the test metric
        that is to be reported.
    """
    known = list(trials)
    states = self.states(known)
    for trial in known:
      self._check_reported(trial, known)
    waiting = [t for t in known if states[t.key] == folders.OPEN]
    while True:
      if len(waiting) + len(self._running) < self._launcher.num_slots:
        new = more()
        known += new
        waiting += new
      if not waiting and not self._running:
        return
      while waiting and len(self._running) < self._launcher.num_slots:
        self._start(waiting.pop(0))
      for outcome in self._launcher.wait(_POLL_SECS):
        trial = self._running.pop(outcome.key)
        if self._end(outcome) == folders.OPEN:
          waiting.append(trial)
        self._check_reported(trial, known)
      if self._watch.rule is not None:
        self._stop_hopeless(known)
      self._watch.show(self.states(known))

  def _start(self, trial: Trial) -> None:
    attempt = len(self._folder.crashes(trial.key)) + 1
    self._folder.add_event("started", trial.key, attempt=attempt)
    self._running[trial.key] = trial
    self._begun_at[trial.key] = self._folder.checkpoint_step(trial.key)
    self._launcher.start(self._make_job(trial))

  def _end(self, outcome: Outcome) -> str:
    """The state of a trial whose job has ended."""
    key = outcome.key
    # What was taken away can not go on for ever: it gets nearer to its end.
    came_on = self._folder.checkpoint_step(key) > self._begun_at.pop(key)
    excused = outcome.lost and came_on
    if outcome.error and not excused:
      self._folder.add_crash(key, outcome.error)
    state = self._folder.state(key)
    if state == folders.OPEN and not outcome.error:
      error = "its job ended without a result and without an error."
      self._folder.add_crash(key, error)
      state = self._folder.state(key)
    self._known[key] = state
    event = "crashed" if state in (folders.OPEN, folders.FAILED) else state
    if excused and state == folders.OPEN:
      self._folder.add_event("preempted", key, error=outcome.error)
    else:
      self._folder.add_event(event, key)
    if self._watch.rule is not None:
      self._curves[key] = self._reader.read(key)
    return state

  def _check_reported(self, trial: Trial, known: Sequence[Trial]) -> None:
    """Raises ConfigError where the report would find its metric missing.

    Which test metrics a run has is known by its first result. Other
    combinations than the first may lack some, and the report leaves them out.
    """
    if self._is_checked or trial.combination != known[0].combination:
      return
    if self._known.get(trial.key) == folders.FINISHED:
      metrics = self._folder.record(trial.key).read_result()["metrics"]
      errors.check_choice(
        "`metric` of the sweep file, a test metric,",
        self._watch.reported,
        metrics,
      )
      self._is_checked = True

  def _stop_hopeless(self, trials: Sequence[Trial]) -> None:
    rule = self._watch.rule
    assert rule is not None
    for trial in trials:
      if trial.key in self._running or trial.key not in self._curves:
        self._curves[trial.key] = self._reader.read(trial.key)
    for key in self._running:
      if self._known.get(key) == folders.STOPPED:
        continue
      less = self._watch.less_is_better
      if rule.is_hopeless(key, self._curves, less_is_better=less):
        step, value = self._curves[key][-1]
        reason = (
          f"{rule.to_dict()['rule']} rule at step {step:,}, with"
          f" {self._watch.metric} {value:.4f}"
        )
        self._folder.stop(key, reason)
        self._known[key] = folders.STOPPED
