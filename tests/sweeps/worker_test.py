"""The process behind `LocalLauncher`: how it speaks."""

import dataclasses
import json
import os
import subprocess
import sys

from recjax.sweeps import worker
from recjax.sweeps.jobs import Job


def test_it_answers_line_by_line_and_logs_what_is_printed(tmp_path):
  core = min(os.sched_getaffinity(0))
  process = subprocess.Popen(
    [sys.executable, "-m", worker.__name__, str(core)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert json.loads(process.stdout.readline()) == {worker.READY: process.pid}
  assert os.sched_getaffinity(process.pid) == {core}
  for name in ("a", "b"):
    job = Job(
      name, ("no.gin",), (), str(tmp_path / name), str(tmp_path / "log"), ""
    )
    process.stdin.write(json.dumps(dataclasses.asdict(job)) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    assert answer["key"] == name and "no gin file" in answer["error"]
  process.stdin.close()
  assert process.wait(timeout=60) == 0
  assert process.stdout.read() == ""
  process.stdout.close()
  log = (tmp_path / "log").read_text()
  assert log.count("$ recjax train --gin_file=no.gin") == 2
  assert log.count("Traceback") == 2
