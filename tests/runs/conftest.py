"""Workdirs with made-up numbers."""

import math
import pathlib

import pytest

from recjax.runs import record

PROTOCOL = {
  "candidates": {"kind": "all"},
  "exclude_seen": "history",
  "cutoffs": [5, 10],
  "ties": "expected",
  "split": "leave_one_out(min_actions=3)",
  "preprocessing": "",
}


def make_result(**changes):
  """Content of result.json."""
  return {
    "name": "sasrec_ml1m_bce",
    "dataset": "ml-1m",
    "model": "SASRec",
    "seed": 0,
    "metrics": {"ndcg@10": 0.134, "hit_rate@10": 0.25},
    "intervals": {"ndcg@10": [0.13, 0.138], "hit_rate@10": [0.239, 0.261]},
    "floor": {"ndcg@10": 0.012, "hit_rate@10": 0.025},
    "validation": {"ndcg@10": 0.15},
    "best_step": 30,
    "protocol": PROTOCOL,
    "protocol_hash": "aaaaaaaaaaaa",
    "protocol_text": "leave one out; all items; seen items filtered",
    "config_hash": "c0c0c0c0c0c0",
    "config_hash_without_seed": "d0d0d0d0d0d0",
    "data_fingerprint": "f" * 64,
    "wall_secs": 725.0,
    "device": "CPU, 2 cores (AMD EPYC (TM) Processor)",
    "versions": {"jax": "0.10.2"},
    "commit": "0123456789abcdef",
    "command": "recjax train --gin_file=runs/sasrec_ml1m.gin",
    "finished_at": "2025-01-01T00:00:00+00:00",
  } | changes


@pytest.fixture
def make_workdir(tmp_path):
  """Makes a workdir; `finished=False` leaves it without a result."""

  def make(folder: str, *, finished: bool = True, **changes) -> pathlib.Path:
    result = make_result(**changes)
    run = record.RunRecord(tmp_path / folder)
    run.create_or_resume(
      "recjax.experiment.Experiment.seed = 0\n",
      "recjax.experiment.Experiment.seed = 0\n",
      result["config_hash"],
    )
    for step in range(1, 41):
      run.log(step, loss=0.4 + math.exp(-step / 8) + 0.02 * math.sin(step * 9))
      if step % 10 == 0:
        ndcg = 0.15 - (step - 30) ** 2 / 5e3
        validation = {"ndcg@10": ndcg, "hit_rate@10": 1.8 * ndcg}
        run.log(step, **{f"validation/{k}": v for k, v in validation.items()})
    run.close()
    run.write_env({"commit": "0123456789abcdef", "device": result["device"]})
    if finished:
      run.write_result(result)
    return run.workdir

  return make


@pytest.fixture
def result_of():
  """`make_result`, for tests of what reads a result."""
  return make_result
