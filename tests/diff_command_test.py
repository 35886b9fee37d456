"""`recjax diff` on records as runs leave them."""

import contextlib
import io
import json

import pytest

from recjax import cli
from recjax.runs.record import RunRecord

TEXT = """\
from recjax import experiment
from recjax.train import loop
SEED = {seed}
experiment.Experiment.batch_size = 128
loop.TrainConfig.num_epochs = {epochs}
"""


def command(*arguments):
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(argument) for argument in arguments])
  return status, out.getvalue(), err.getvalue()


def write(workdir, seed, epochs, **changes):
  record = RunRecord(workdir)
  record.create_or_resume("", TEXT.format(seed=seed, epochs=epochs), "0" * 12)
  record.write_result(
    {
      "name": "run",
      "dataset": "rows",
      "model": "M",
      "seed": seed,
      "metrics": {"auc": 0.7 + 0.1 * seed},
      "intervals": {"auc": [0.69 + 0.1 * seed, 0.71 + 0.1 * seed]},
      "protocol": {"split": "rows"},
      "protocol_hash": "a" * 12,
      "config_hash": f"{seed}",
      "config_hash_without_seed": "0",
      "data_fingerprint": "f" * 64,
      "wall_secs": 1.0,
      "device": "CPU",
      "versions": {},
    }
    | changes
  )
  return workdir


def test_settings_and_metrics_are_told(tmp_path):
  a = write(tmp_path / "a", 0, 3)
  b = write(tmp_path / "b", 1, 5)
  outs = tmp_path / "found.json", tmp_path / "found.md"
  status, out, err = command("diff", a, b, *(f"--out={path}" for path in outs))
  assert status == 0, err
  facts = json.loads(outs[0].read_text())
  assert facts["is_comparable"]
  assert [
    (each["kind"], each["name"], each["a"], each["b"])
    for each in facts["differences"]
  ] == [
    ("settings", "SEED", "0", "1"),
    ("settings", "TrainConfig.num_epochs", "3", "5"),
  ]
  (change,) = facts["changes"]
  assert change["change"] == pytest.approx(0.1) and change["apart"]
  assert "TrainConfig.num_epochs" in out and "+0.10000" in out
  text = outs[1].read_text()
  assert "| settings | SEED | 0 | 1 |" in text
  assert "| all | AUC | 0.7000 | 0.8000 | +0.10000 | * |" in text


def test_other_protocols_are_explained_and_not_compared(tmp_path):
  a = write(tmp_path / "a", 0, 3)
  b = write(tmp_path / "b", 0, 3, protocol={"split": "time"})
  status, out, err = command("diff", a, b)
  assert status == 0, err
  assert "protocol" in out and "not set side by side" in out.replace("\n", " ")
  assert "AUC" not in out


def test_runs_made_alike(tmp_path):
  a = write(tmp_path / "a", 0, 3)
  status, out, _ = command("diff", a, a)
  assert status == 0 and "made alike" in out


def test_mistakes_are_told(tmp_path):
  a = write(tmp_path / "runs" / "a", 0, 3)
  b = write(tmp_path / "runs" / "b", 1, 3)
  (tmp_path / "empty").mkdir()
  for arguments, message in (
    ([a], "two runs; got 1"),
    ([a, tmp_path / "runs"], "holds 2 runs"),
    ([a, tmp_path / "empty"], "no run was started"),
    ([a, b, "--out=found.txt"], "'.json', '.md'"),
    ([a, b, "--gin.SEED=1"], "--gin.SEED=1 would change nothing"),
  ):
    status, _, err = command("diff", *arguments)
    assert status == 1 and message in err, (arguments, err)
