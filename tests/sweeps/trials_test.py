"""Trials are read and checked before the first one starts."""

import pytest

from recjax.errors import ConfigError
from recjax.named_run import read_run
from recjax.sweeps.shapes import combinations
from recjax.sweeps.spec import make_sweep
from recjax.sweeps.trials import (
  Trial,
  aliases,
  check_factors,
  check_levels,
  make_trial,
  make_trials,
  select_metric,
)

BASE = ["runs/sasrec_planted.gin", "overlays/tiny.gin"]
DEPTH = {
  "name": "depth",
  "levels": {"1": ["SASRec.num_blocks = 1"], "2": ["SASRec.num_blocks = 2"]},
}
DROPOUT = {
  "name": "dropout",
  "levels": {
    "0": ["SASRec.dropout_rate = 0.0"],
    ".2": ["SASRec.dropout_rate = 0.2"],
  },
}


def sweep(*factors, **changes):
  content = {"gin_files": BASE, "factor": factors, "seeds": [0, 1]}
  return make_sweep(content | changes, "here.toml")


def trials_of(found):
  return make_trials(found, combinations(found))


def test_a_trial_is_what_its_command_line_would_give():
  found = sweep(DEPTH, bindings=["TrainConfig.patience = 3"])
  trials = trials_of(found)
  assert [(t.combination, t.seed) for t in trials] == [
    ("1", 0),
    ("2", 0),
    ("1", 1),
    ("2", 1),
  ]
  assert aliases(trials) == []
  last = trials[-1]
  assert last.bindings == (
    "TrainConfig.patience = 3",
    "SASRec.num_blocks = 2",
    "SEED = 1",
  )
  run = read_run(last.gin_files, last.bindings)
  assert run.config_hash == last.key
  assert run.settings.model.num_blocks == 2 and run.settings.seed == 1
  assert Trial.from_dict(last.to_dict()) == last


def test_levels_that_give_one_config_run_once():
  same = {
    "name": "depth",
    "levels": {
      "two": ["SASRec.num_blocks = 2"],
      "zwei": ["sasrec.SASRec.num_blocks = 2"],
    },
  }
  trials = trials_of(sweep(same))
  # Both names stay, and share a run.
  assert [t.combination for t in trials] == ["two", "zwei", "two", "zwei"]
  assert len({t.key for t in trials}) == 2
  notes = aliases(trials)
  assert len(notes) == 2 and "'zwei' and 'two' are one config" in notes[0]


def test_overlays_of_a_level_are_read_after_the_base():
  pre = {
    "name": "size",
    "levels": {
      "tiny": {"gin_files": ["overlays/tiny.gin"]},
      "tiny, wide": {
        "gin_files": ["overlays/tiny.gin"],
        "bindings": ["SASRec.dim = 16"],
      },
    },
  }
  found = sweep(pre, gin_files=["runs/sasrec_planted.gin"])
  check_factors(found)
  dims = [
    make_trial(found, each, 0)[1].settings.model.dim
    for each in combinations(found)
  ]
  assert dims == [8, 16]


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("SASRec.num_blcoks = 2", "level '2'.*'num_blcoks'.*'num_blocks'"),
    ("SASRek.num_blocks = 2", "level '2'.*'SASRek'.*'SASRec'"),
    ("DEPHT = 2", "level '2'.*no gin file sets or uses a macro 'DEPHT'"),
    ("SASRec.num_blocks = two", "level '2'.*is not a value of gin"),
  ],
)
def test_an_unknown_binding_is_told_before_the_first_trial(binding, message):
  wrong = {
    "name": "depth",
    "levels": {"1": ["SASRec.num_blocks = 1"], "2": [binding]},
  }
  with pytest.raises(ConfigError, match=f"(?s)factor 'depth', {message}"):
    check_factors(sweep(wrong))


def test_a_refused_value_names_the_trial():
  wrong = {
    "name": "depth",
    "levels": {"1": ["SASRec.num_blocks = 1"], "0": ["SASRec.num_blocks = 0"]},
  }
  found = sweep(wrong)
  check_factors(found)
  with pytest.raises(ConfigError, match="trial '0'.*num_blocks must lie in"):
    trials_of(found)


def test_a_level_of_a_search_may_need_what_stands_beside_it():
  # The base has a width of 8, which three heads do not divide.
  heads = {
    "name": "heads",
    "levels": {"1": ["SASRec.num_heads = 1"], "3": ["SASRec.num_heads = 3"]},
  }
  width = {"name": "width", "binding": "SASRec.dim", "range": [4, 12],
    "integer": True}  # fmt: skip
  search = {"shape": "random", "num_trials": 2}
  check_levels(sweep(heads, width, **search))
  with pytest.raises(ConfigError, match="factor 'heads': trial '3'"):
    check_levels(sweep(heads, DROPOUT, **search))


def test_two_factors_must_not_set_one_binding():
  again = {
    "name": "again",
    "levels": {"1": ["sasrec.SASRec.num_blocks = 1"], "2": ["SASRec.dim = 4"]},
  }
  with pytest.raises(ConfigError) as error:
    check_factors(sweep(DEPTH, again))
  assert "factor 'again' and factor 'depth' both set" in str(error.value)
  assert "recjax.models.sasrec.SASRec.num_blocks" in str(error.value)
  check_factors(sweep(DEPTH, DROPOUT))


def test_a_factor_must_not_set_the_seed():
  seeds = {"name": "luck", "levels": {"0": ["SEED = 0"], "1": ["SEED = 1"]}}
  with pytest.raises(ConfigError, match="factor 'luck' and the seed both set"):
    check_factors(sweep(seeds))


def test_a_seed_that_seeds_nothing_is_told():
  found = sweep(DEPTH, seed="Protocol.max_users", seeds=[0, 0 + 1])
  # Another protocol is another config; a macro that nothing reads is not.
  assert len(trials_of(found)) == 4
  with pytest.raises(ConfigError, match="SEDE"):
    check_factors(sweep(DEPTH, seed="SEDE"))


def test_what_selects_weights():
  found = sweep(DEPTH)
  _, run = make_trial(found, combinations(found)[0], 0)
  assert select_metric(run, found) == "ndcg@10"
  last = sweep(DEPTH, bindings=["TrainConfig.select = 'last'"])
  _, run = make_trial(last, combinations(last)[0], 0)
  assert select_metric(run, last) == "last"
  stopped = sweep(
    DEPTH,
    bindings=["TrainConfig.select = 'last'"],
    stop={"rule": "median"},
  )
  with pytest.raises(ConfigError, match="an early stop goes by the validation"):
    select_metric(run, stopped)
