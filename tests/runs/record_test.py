"""The workdir: written whole, resumed, torn, of another config, corrupt."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from recjax import errors
from recjax.runs import record

RESULT = {
  "name": "sasrec_tiny",
  "dataset": "planted",
  "model": "SASRec",
  "seed": 0,
  "metrics": {"ndcg@10": np.float32(0.5)},
  "intervals": {"ndcg@10": (np.float64(0.4), 0.6)},
  "protocol": {"split": "leave_one_out(min_actions=3)"},
  "protocol_hash": "aaaa",
  "config_hash": "0123456789ab",
  "data_fingerprint": "ff",
  "wall_secs": 1.5,
  "device": "CPU",
  "versions": {"jax": "0.10.2"},
}


@pytest.fixture
def run(tmp_path):
  run = record.RunRecord(tmp_path / "run")
  assert not run.create_or_resume("a = 1\n", "x.a = 1\nx.b = 2\n", "abc123")
  yield run
  run.close()


def test_a_new_workdir(run):
  assert (run.workdir / "config.gin").read_text() == "a = 1\n"
  assert "x.b = 2" in run.read_text("operative.gin")
  assert run.read_config_hash() == "abc123"
  assert not run.is_finished()
  assert run.read_metrics() == [] and run.read_env() == {}
  assert not list(run.workdir.glob(".writing*"))


def test_the_same_config_resumes(run):
  again = record.RunRecord(run.workdir)
  # Spelled in another way, but of the same hash.
  assert again.create_or_resume("b = 1", "x.b = 2\nx.a = 1\n", "abc123")
  assert (run.workdir / "config.gin").read_text() == "a = 1\n"


def test_another_config_is_refused_with_the_difference(run):
  again = record.RunRecord(run.workdir)
  with pytest.raises(errors.RunError) as info:
    again.create_or_resume("", "# Comment.\nx.a = 1\nx.b = 3\n", "def456")
  message = str(info.value)
  assert "-x.b = 2\n+x.b = 3" in message
  assert "x.a" not in message and "Comment" not in message
  assert str(run.workdir) in message and "another workdir" in message


def test_a_long_difference_is_cut(run):
  text = "".join(f"y.p{i} = {i}\n" for i in range(99))
  with pytest.raises(errors.RunError, match="and 63 more lines"):
    run.create_or_resume("", text, "def456")


def test_a_start_that_was_killed_is_started_again(tmp_path):
  (tmp_path / "config.gin").write_text("a = 1")
  assert not record.RunRecord(tmp_path).create_or_resume("a = 2", "", "abc")
  assert (tmp_path / "config.gin").read_text() == "a = 2"


def test_what_is_no_workdir(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.RunError, match="is a file"):
    record.RunRecord(tmp_path / "file").create_or_resume("", "", "abc")
  (tmp_path / "metrics.jsonl").write_text("")
  with pytest.raises(errors.RunError, match="holds metrics.jsonl but no"):
    record.RunRecord(tmp_path).create_or_resume("", "", "abc")
  (tmp_path / "operative.gin").write_text("x.a = 1\n")
  with pytest.raises(errors.RunError, match="operative.gin is corrupt"):
    record.RunRecord(tmp_path).create_or_resume("", "", "abc")


def test_metrics_keep_every_bit(run):
  loss = np.float32(0.1) / np.float32(3)
  run.log(1, loss=loss, rate=jnp.float32(1e-8), note="first")
  run.log(2, loss=float("nan"), count=np.int64(7))
  first, second = run.read_metrics()
  assert np.float32(first["loss"]) == loss
  assert np.float32(first["rate"]) == np.float32(1e-8)
  assert first["note"] == "first"
  assert second == {"step": 2, "loss": None, "count": 7}


def test_a_torn_last_line_is_dropped_and_written_over(run):
  run.log(1, loss=1.0)
  run.log(2, loss=0.5)
  run.close()
  path = run.workdir / "metrics.jsonl"
  content = path.read_bytes()
  for length in range(len(content)):
    path.write_bytes(content[:length])
    whole = content[:length].count(b"\n")
    assert [m["step"] for m in run.read_metrics()] == [1, 2][:whole]
    assert run.create_or_resume("", "", "abc123")
    run.log(9, loss=0.1)
    run.close()
    steps = [m["step"] for m in run.read_metrics()]
    assert steps == [*[1, 2][:whole], 9]


def test_a_corrupt_line_is_named(run):
  (run.workdir / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
  with pytest.raises(errors.RunError, match="metrics.jsonl:2 is corrupt"):
    run.read_metrics()


def test_truncate_after(run):
  for step in (10, 20, 30):
    run.log(step, loss=1.0 / step)
  run.truncate_after(20)
  run.log(30, loss=7.0)
  losses = [(line["step"], line["loss"]) for line in run.read_metrics()]
  assert losses == [(10, 0.1), (20, 0.05), (30, 7.0)]


def test_lines_survive_sigkill(tmp_path):
  code = f"""
    from recjax.runs import record
    run = record.RunRecord({str(tmp_path)!r})
    run.create_or_resume("", "", "abc")
    for step in range(3):
      run.log(step, loss=0.5)
    print("ready", flush=True)
    import time
    time.sleep(60)
  """
  process = subprocess.Popen(
    [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE
  )
  assert process.stdout is not None
  with process.stdout:
    assert process.stdout.readline() == b"ready\n"
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert len(record.RunRecord(tmp_path).read_metrics()) == 3


def test_per_user_arrays(run):
  arrays = {"user_id": np.arange(1, 4), "ndcg@10": np.float32([0, 0.5, 1])}
  run.save_per_user("test", **arrays)
  loaded = run.load_per_user("test")
  assert loaded.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(loaded[name], array, strict=True)
  first = (run.workdir / "per_user" / "test.npz").read_bytes()
  run.save_per_user("test", **arrays)
  assert (run.workdir / "per_user" / "test.npz").read_bytes() == first


def test_per_user_refusals(run):
  with pytest.raises(ValueError, match="differ in length"):
    run.save_per_user("test", a=np.zeros(2), b=np.zeros(3))
  with pytest.raises(errors.RunError, match=r"test.npz does not exist"):
    run.load_per_user("test")
  run.save_per_user("test", a=np.arange(99))
  path = run.workdir / "per_user" / "test.npz"
  path.write_bytes(path.read_bytes()[:200])
  with pytest.raises(errors.RunError, match=r"test.npz is corrupt"):
    run.load_per_user("test")


def test_no_flipped_bit_is_half_read(run):
  arrays = {name: np.arange(5.0) for name in ("user_id", "ndcg@10", "mrr")}
  run.save_per_user("test", **arrays)
  path = run.per_user_path("test")
  whole = path.read_bytes()
  for place in range(8 * len(whole)):
    content = bytearray(whole)
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    try:
      found = run.load_per_user("test")
    except errors.RunError:
      continue
    assert set(found) == set(arrays)
    for name, values in arrays.items():
      np.testing.assert_array_equal(found[name], values)


def test_the_result_finishes_the_run(run):
  run.write_result(RESULT)
  assert run.is_finished()
  result = run.read_result()
  assert result["intervals"] == {"ndcg@10": [0.4, 0.6]}
  assert result["metrics"] == {"ndcg@10": 0.5}
  assert result["finished_at"].endswith("+00:00")


def test_an_incomplete_result_is_refused(run):
  incomplete = {k: v for k, v in RESULT.items() if k != "protocol_hash"}
  with pytest.raises(errors.RunError, match="lacks protocol_hash"):
    run.write_result(incomplete)
  with pytest.raises(errors.RunError, match="'metrics' is no mapping"):
    run.write_result({**RESULT, "metrics": 0.5})
  assert not run.is_finished()


@pytest.mark.parametrize("name", ["result.json", "env.json"])
@pytest.mark.parametrize("content", ['{"name": ', "[]", ""])
def test_corrupt_json_is_named(run, name, content):
  pathlib.Path(run.workdir / name).write_text(content)
  read = run.read_env if name == "env.json" else run.is_finished
  with pytest.raises(errors.RunError, match=f"{name} is corrupt"):
    read()


def test_no_result_yet(run):
  with pytest.raises(errors.RunError, match="is not finished"):
    run.read_result()


def test_env(run):
  run.write_env({"num_devices": np.int32(8), "commit": None})
  assert run.read_env() == {"num_devices": 8, "commit": None}
  assert json.loads((run.workdir / "env.json").read_text())["commit"] is None


def test_a_failed_write_leaves_the_old_file(run, monkeypatch):
  run.write_result(RESULT)

  def disk_full(handle):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", disk_full)
  with pytest.raises(OSError, match="No space left"):
    run.write_result({**RESULT, "wall_secs": 2.0})
  assert run.read_result()["wall_secs"] == 1.5
  assert not list(run.workdir.glob(".writing*"))
