"""Which combination a search tries next, by Optuna.

The study is made anew of all that was tried whenever another combination is
asked for, and its sampler is seeded by how many there were. So the choice is a
function of (seed, what was tried), and a sweep that was killed goes on with the
choices that it would have made.
"""

import dataclasses
import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recjax import errors
from recjax.sweeps.shapes import Combination, named
from recjax.sweeps.spec import Factor, Sweep

_DIGITS = 6
"""Of a number, so that it can be read."""


@dataclasses.dataclass(frozen=True)
class Tried:
  """What became of a combination.

  Attributes:
    levels: of it, as text.
    value: the validation metric; None while it is under way.
    failed: it crashed, so there will be no value.
  """

  levels: Mapping[str, str]
  value: float | None = None
  failed: bool = False


def next_combination(
  sweep: Sweep, tried: Sequence[Tried], *, less_is_better: bool
) -> Combination:
  """The combination to try after some others.

  Args:
    sweep: of the shape "random" or "bayesian".
    tried: in the order in which they were chosen.
    less_is_better: of the metric.

  Raises:
    ConfigError: Optuna is not installed.
  """
  optuna = _optuna()
  distributions = {f.name: _distribution(optuna, f) for f in sweep.factors}
  seed = int(
    np.random.SeedSequence([sweep.search_seed, len(tried)]).generate_state(1)[0]
  )
  direction = "minimize" if less_is_better else "maximize"
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if sweep.shape == "random":
      sampler = optuna.samplers.RandomSampler(seed=seed)
    else:
      sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, constant_liar=True
      )
    study = optuna.create_study(sampler=sampler, direction=direction)
    for each in tried:
      study.add_trial(_past(optuna, sweep, each, distributions))
    chosen = study.ask(distributions).params
  texts = {f.name: _spelled(f, chosen[f.name]) for f in sweep.factors}
  return named(sweep, texts)


def outermost(factor: Factor) -> list[str]:
  """Its levels, or both ends of its range, as combinations name them."""
  if factor.levels:
    return [level.name for level in factor.levels]
  return [_spelled(factor, end) for end in (factor.low, factor.high)]


def _optuna() -> Any:
  try:
    optuna = importlib.import_module("optuna")
  except ImportError as error:
    raise errors.ConfigError(
      "a search needs Optuna: pip install 'recjax[search]'."
    ) from error
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  return optuna


def _distribution(optuna: Any, factor: Factor) -> Any:
  kinds = optuna.distributions
  if factor.levels:
    return kinds.CategoricalDistribution([x.name for x in factor.levels])
  if factor.integer:
    return kinds.IntDistribution(
      int(factor.low), int(factor.high), log=factor.log
    )
  return kinds.FloatDistribution(factor.low, factor.high, log=factor.log)


def _spelled(factor: Factor, value: Any) -> str:
  if factor.levels or factor.integer:
    return str(value)
  rounded = float(f"{value:.{_DIGITS}g}")
  return repr(float(min(max(rounded, factor.low), factor.high)))


def _past(
  optuna: Any,
  sweep: Sweep,
  tried: Tried,
  distributions: Mapping[str, Any],
) -> Any:
  states = optuna.trial.TrialState
  state = states.RUNNING
  if tried.failed:
    state = states.FAIL
  elif tried.value is not None:
    state = states.COMPLETE
  values = {
    f.name: tried.levels[f.name]
    if f.levels
    else (int if f.integer else float)(tried.levels[f.name])
    for f in sweep.factors
  }
  return optuna.trial.create_trial(
    state=state,
    params=values,
    distributions=dict(distributions),
    value=tried.value if state == states.COMPLETE else None,
  )
