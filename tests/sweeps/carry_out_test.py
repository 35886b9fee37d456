"""Sweeps from their file to their last trial; nothing is trained."""

import dataclasses
import pathlib

import numpy as np
import pytest

from recjax.errors import ConfigError, RunError
from recjax.sweeps import carry_out
from recjax.sweeps import folder as folders
from recjax.sweeps.carry_out import Places, best_validation
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.jobs import Outcome
from recjax.sweeps.scheduler import Watch
from recjax.sweeps.search import next_combination
from recjax.sweeps.spec import make_sweep
from tests.sweeps.made_up import ScriptedLauncher, finish

RATE = {
  "name": "rate",
  "binding": "ParamGroup.learning_rate",
  "range": [1e-4, 1e-1],
  "log": True,
}


def sweep(shape, *factors, **changes):
  content = {
    "title": "a sweep",
    "gin_files": ["runs/sasrec_planted.gin", "overlays/tiny.gin"],
    "factor": factors,
    "shape": shape,
  }
  return make_sweep(content | changes, "here.toml")


def rate_of(job):
  text = next(x for x in job.bindings if "learning_rate" in x)
  return float(text.split("=")[1])


def judged(job):
  """The nearer the rate is to .003, the better the trial."""
  value = 0.5 - 0.1 * abs(np.log10(rate_of(job)) + 2.5)
  finish(pathlib.Path(job.workdir), 0, np.full(3, value), curve=[value])
  return Outcome(job.key)


def of_a_grid(job):
  finish(pathlib.Path(job.workdir), 0, np.full(3, 0.5))
  return Outcome(job.key)


def carried_out(found, tmp_path, act=judged, num_slots=1):
  folder = SweepFolder(tmp_path / "sweep")
  made = carry_out.make(found, folder.read_trials(), folder.read_refused())
  folder.take_up(found)
  launcher = ScriptedLauncher(act, num_slots)
  places = Places("data", None, "")
  trials = carry_out.carry_out(found, made, folder, launcher, places)
  return folder, trials, launcher


def test_a_random_search_knows_all_its_trials_beforehand():
  found = sweep("random", RATE, num_trials=4, seeds=[0, 1])
  made = carry_out.make(found)
  assert len(made.trials) == 8 and made.metric == "ndcg@10"
  assert [t.seed for t in made.trials] == [0] * 4 + [1] * 4
  assert made.trials == carry_out.make(found).trials
  more = carry_out.make(sweep("random", RATE, num_trials=6, seeds=[0]))
  assert more.trials[:4] == made.trials[:4]


def test_a_bayesian_search_goes_on_from_what_it_found(tmp_path):
  found = sweep("bayesian", RATE, num_trials=12)
  folder, trials, launcher = carried_out(found, tmp_path)
  assert len(trials) == len(set(launcher.started)) == 12
  assert folder.read_trials() == trials
  late = [t for t in trials[9:]]
  values = [best_validation(folder, t.key, Watch("ndcg@10")) for t in late]
  assert np.mean(values) > 0.4  # The mean of the prior is about .42.
  # All is done: nothing starts again.
  _, again, launcher = carried_out(found, tmp_path)
  assert launcher.started == [] and again == trials


def test_a_search_that_is_cut_short_makes_the_same_choices(tmp_path):
  found = sweep("bayesian", RATE, num_trials=12)
  _, whole, _ = carried_out(found, tmp_path / "whole")
  short = sweep("bayesian", RATE, num_trials=11)
  carried_out(short, tmp_path / "short")
  _, resumed, launcher = carried_out(found, tmp_path / "short")
  assert [t.levels for t in resumed] == [t.levels for t in whole]
  assert len(launcher.started) == 1


def test_a_failed_combination_does_not_end_a_search(tmp_path):
  calls = []

  def act(job):
    calls.append(job.key)
    if len(set(calls)) == 3:
      return Outcome(job.key, "no")
    return judged(job)

  found = sweep("bayesian", RATE, num_trials=6)
  folder, trials, _ = carried_out(found, tmp_path, act)
  states = [folder.state(t.key) for t in trials]
  assert len(trials) == 6 and states.count(folders.FAILED) == 1
  assert carry_out.retry_failed(folder) == 1
  _, _, launcher = carried_out(found, tmp_path)
  assert len(launcher.started) == 1


def test_few_levels_are_not_tried_twice(tmp_path):
  few = {
    "name": "rate",
    "levels": {
      "low": ["ParamGroup.learning_rate = 0.001"],
      "high": ["ParamGroup.learning_rate = 0.01"],
    },
  }
  found = sweep("bayesian", few, num_trials=8)
  _, trials, launcher = carried_out(found, tmp_path)
  assert {t.combination for t in trials} == {"low", "high"}
  assert len(launcher.started) == 2


def test_two_names_of_one_config_do_not_keep_a_search_from_ending(tmp_path):
  few = {
    "name": "rate",
    "levels": {
      "low": ["ParamGroup.learning_rate = 0.001"],
      "same": ["ParamGroup.learning_rate = 1e-3"],
      "high": ["ParamGroup.learning_rate = 0.01"],
    },
  }
  for num_slots in (1, 2):
    found = sweep("bayesian", few, num_trials=20)
    folder = tmp_path / str(num_slots)
    _, trials, launcher = carried_out(found, folder, num_slots=num_slots)
    assert {t.combination for t in trials} == {"low", "same", "high"}
    assert len(launcher.started) == len({t.key for t in trials}) == 2


def test_a_config_that_changed_meanwhile_is_not_mixed_in(tmp_path):
  depth = {"name": "depth", "levels": {"1": ["SASRec.num_blocks = 1"]}}
  found = sweep("remove_one", depth)
  folder, (_, trial), _ = carried_out(found, tmp_path, act=of_a_grid)
  folder.write_trials([dataclasses.replace(trial, key="b" * 12)], "ndcg@10")
  with pytest.raises(
    RunError, match=f"'1', seed 0, was planned as .*{'b' * 12}"
  ):
    carried_out(found, tmp_path, act=of_a_grid)


def test_more_seeds_go_on_with_a_grid(tmp_path):
  depth = {
    "name": "depth",
    "levels": {"1": ["SASRec.num_blocks = 1"], "2": ["SASRec.num_blocks = 2"]},
  }
  carried_out(sweep("grid", depth), tmp_path, of_a_grid)
  _, trials, launcher = carried_out(
    sweep("grid", depth, seeds=[0, 1]), tmp_path, of_a_grid
  )
  assert len(trials) == 4 and len(launcher.started) == 2


def by_seed(trials):
  found = {}
  for trial in trials:
    found.setdefault(trial.seed, set()).add(trial.combination)
  return found


def test_more_seeds_go_to_all_combinations_of_a_bayesian_search(tmp_path):
  one = sweep("bayesian", RATE, num_trials=4)
  _, before, _ = carried_out(one, tmp_path)
  two = sweep("bayesian", RATE, num_trials=5, seeds=[0, 1])
  _, trials, launcher = carried_out(two, tmp_path)
  seeds = by_seed(trials)
  assert seeds[0] == seeds[1] and len(seeds[0]) == 5
  assert by_seed(before)[0] < seeds[0]
  assert len(launcher.started) == 4 + 2
  # What was known comes first, before the search goes on.
  assert {t.combination for t in trials[:8]} == by_seed(before)[0]


def overlay(path, num):
  """A level that a gin file sets, beside others that are bindings."""
  path.write_text(
    "from __gin__ import dynamic_registration\n"
    "from recjax.models import sasrec\n"
    f"sasrec.SASRec.num_blocks = {num}\n"
  )
  return {
    "name": "depth",
    "levels": {
      "one": ["SASRec.num_blocks = 1"],
      "two": ["SASRec.num_blocks = 2"],
      "file": {"gin_files": [str(path)]},
    },
  }


def test_a_changed_gin_file_of_any_combination_of_a_search_is_told(tmp_path):
  path = tmp_path / "depth.gin"
  found = sweep("bayesian", overlay(path, 3), num_trials=12)
  _, trials, _ = carried_out(found, tmp_path, of_a_grid)
  assert trials[0].combination != "file"
  assert {t.combination for t in trials} == {"one", "two", "file"}
  overlay(path, 4)
  with pytest.raises(RunError, match="'file', seed 0, was planned as config"):
    carried_out(found, tmp_path, of_a_grid)


def heads_and_width(*heads, **changes):
  """SASRec refuses a width that its heads do not divide."""
  factors = [
    {
      "name": name,
      "levels": {str(n): [f"SASRec.{name} = {n}"] for n in levels},
    }
    for name, levels in (("num_heads", heads), ("dim", (8, 12)))
  ]
  changes = {"shape": "bayesian", "num_trials": 10} | changes
  return sweep(changes.pop("shape"), *factors, **changes)


def test_levels_that_refuse_each_other_do_not_end_a_search(tmp_path):
  # Three heads go with a width of 12 alone; the base has 8.
  found = heads_and_width(1, 3)
  folder, trials, launcher = carried_out(found, tmp_path, of_a_grid)
  names = {t.combination for t in trials}
  assert names == {
    "num_heads 1, dim 8", "num_heads 1, dim 12", "num_heads 3, dim 12"
  }  # fmt: skip
  assert len(launcher.started) == 3
  (refused,) = folder.read_refused()
  assert refused.levels == {"num_heads": "3", "dim": "8"}
  first, second = carry_out.notes(found, trials, [refused])
  assert first.startswith(
    "1 combinations are refused and count as failed, the first is"
    " 'num_heads 3, dim 8': trial 'num_heads 3, dim 8': "
  )
  assert second.startswith("10 draws came to 3 configs that run")
  # What is refused stays known.
  folder, again, launcher = carried_out(found, tmp_path, of_a_grid)
  assert again == trials and launcher.started == []
  assert folder.read_refused() == [refused]


def begins_with_a_refusal(num_trials):
  for search_seed in range(20):
    found = heads_and_width(
      1, 3, search_seed=search_seed, num_trials=num_trials
    )
    first = next_combination(found, [], less_is_better=False).levels
    if first == {"num_heads": "3", "dim": "8"}:
      return found
  raise AssertionError("no seed draws it first")


def test_a_search_may_begin_with_a_refusal(tmp_path):
  folder, trials, _ = carried_out(begins_with_a_refusal(4), tmp_path, of_a_grid)
  (refused,) = folder.read_refused()
  assert refused.combination == "num_heads 3, dim 8"
  assert trials and refused.combination not in by_seed(trials)[0]


def test_a_search_that_finds_nothing_is_told():
  with pytest.raises(ConfigError, match="all 1 combinations .* are refused"):
    carry_out.make(begins_with_a_refusal(1))


def test_a_level_that_never_runs_is_told_before_the_first_trial():
  with pytest.raises(ConfigError, match="factor 'num_heads': trial '-3'"):
    carry_out.make(heads_and_width(1, -3))
  rate = RATE | {"binding": "SASRec.dropout_rate", "range": [0.1, 1.5]}
  with pytest.raises(ConfigError, match="factor 'rate': trial '1.5'"):
    carry_out.make(sweep("bayesian", rate, num_trials=3))


def test_a_gin_file_that_is_lost_ends_a_search_and_refuses_nothing(tmp_path):
  path = tmp_path / "depth.gin"

  def act(job):
    path.unlink(missing_ok=True)
    return of_a_grid(job)

  found = sweep("bayesian", overlay(path, 3), num_trials=12)
  with pytest.raises(ConfigError, match="no gin file"):
    carried_out(found, tmp_path, act)
  assert SweepFolder(tmp_path / "sweep").read_refused() == []
  overlay(path, 3)
  _, trials, _ = carried_out(found, tmp_path, of_a_grid)
  assert {t.combination for t in trials} == {"one", "two", "file"}


def test_a_random_search_tells_what_it_drew_again():
  found = heads_and_width(1, 2, shape="random", num_trials=9)
  made = carry_out.make(found)
  names = {t.combination for t in made.trials}
  assert len(made.trials) == len(names) <= 4
  (note,) = carry_out.notes(found, made.trials, made.refused)
  assert note.startswith(f"9 draws came to {len(names)} configs that run")
  few = sweep("random", RATE, num_trials=3)
  assert carry_out.notes(few, carry_out.make(few).trials, []) == []


def test_names_of_one_config_are_told_of_a_bayesian_search(tmp_path):
  same = {
    "name": "depth",
    "levels": {
      "two": ["SASRec.num_blocks = 2"],
      "zwei": ["sasrec.SASRec.num_blocks = 2"],
    },
  }
  found = sweep("bayesian", same, num_trials=8)
  _, trials, _ = carried_out(found, tmp_path, of_a_grid)
  first, _ = carry_out.notes(found, trials, [])
  assert "are one config" in first and "'two'" in first and "'zwei'" in first


def test_the_best_validation(tmp_path):
  folder = SweepFolder(tmp_path)
  finish(folder.workdir("a"), 0, np.full(3, 0.5), curve=[0.2, 0.4, 0.3])
  assert best_validation(folder, "a", Watch("ndcg@10")) == 0.4
  assert best_validation(folder, "b", Watch("ndcg@10")) is None
  record = folder.record("c")
  record.log(1, **{"validation/log_loss": 0.4})
  record.log(2, **{"validation/log_loss": 0.3})
  record.close()
  assert best_validation(folder, "c", Watch("log_loss")) == 0.3
