"""Two processes over `jax.distributed` train what one process trains."""

import json
import socket
import subprocess
import sys

import numpy as np

from recjax import experiment, gin_config, launch
from recjax.runs.record import RunRecord


def free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def train_together(gin_file, workdir, tmp_path, env, num_processes=2):
  """Runs `recjax train` in each process, to the end of the last."""
  command = [sys.executable, "-m", "recjax.cli", "train"]
  command += [f"--gin_file={gin_file}", f"--workdir={workdir}"]
  command += [f"--cache_dir={tmp_path / 'cache'}"]
  command += [f"--coordinator=127.0.0.1:{free_port()}"]
  command += [f"--num_processes={num_processes}"]
  logs = [tmp_path / f"process_{i}.log" for i in range(num_processes)]
  processes = []
  try:
    for index, log in enumerate(logs):
      with open(log, "wb") as file:
        processes.append(
          subprocess.Popen(
            [*command, f"--process_id={index}"],
            env=env,
            stdout=file,
            stderr=subprocess.STDOUT,
          )
        )
    codes = [process.wait(timeout=500) for process in processes]
  finally:
    for process in processes:
      if process.poll() is None:
        process.kill()
        process.wait()
  texts = [log.read_text() for log in logs]
  assert codes == [0] * num_processes, "\n".join(texts)
  return texts


def test_two_processes_train_as_one(tmp_path, tiny_gin, process_env):
  gin_file = tiny_gin(
    objective="@objectives.FullSoftmax()",
    data=2,
    feed='"grain"',
    num_epochs=3,
    eval_every_epochs=1.0,
  )
  workdir = tmp_path / "two"
  texts = train_together(gin_file, workdir, tmp_path, process_env)
  assert "protocol" in texts[0].splitlines()[-1]

  gin_config.parse([gin_file])
  settings = gin_config.construct(experiment.Experiment)
  one = RunRecord(tmp_path / "one")
  cache = tmp_path / "cache"
  result = launch.train(settings, one, tmp_path, cache_dir=cache)

  two = RunRecord(workdir)
  assert two.read_env()["num_processes"] == 2
  found, expected = two.read_metrics(), one.read_metrics()
  # One line a step: the first process alone writes the record.
  assert [line["step"] for line in found] == list(range(1, 13))
  for found_line, line in zip(found, expected, strict=True):
    assert found_line.keys() == line.keys()
    assert "validation/ndcg@10" in line or line["step"] % 4
    for name, value in line.items():
      np.testing.assert_allclose(
        found_line[name], value, rtol=1e-3, atol=1e-5, err_msg=name
      )
  found = json.loads((workdir / "result.json").read_text())
  assert found["best_step"] == result["best_step"]
  for name, value in result["metrics"].items():
    np.testing.assert_allclose(found["metrics"][name], value, atol=1e-4)

  # What both wrote into the shared folder is read by one process.
  tested = launch.evaluate(settings, workdir, tmp_path, cache)
  for name, value in tested.metrics.items():
    np.testing.assert_allclose(found["metrics"][name], value, atol=1e-6)
