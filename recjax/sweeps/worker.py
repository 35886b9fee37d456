"""A process that carries out trials one after another.

  python -m recjax.sweeps.worker [CORE ...]

reads jobs as lines of JSON from its standard input and answers with a line of
JSON on what was its standard output; what a trial prints goes to the log of
the trial, and the stack of a native crash to the standard error. The modules
are imported once, so only the first trial waits for them. When the input ends,
because the sweep has ended or was killed, the process ends at once, in the
middle of a trial if need be.
"""

import dataclasses
import faulthandler
import json
import os
import queue
import signal
import sys
import threading

READY = "ready"


def main() -> None:
  """Serves until the input ends."""
  cores = [int(text) for text in sys.argv[1:]]
  if cores:  # Before JAX counts them.
    os.sched_setaffinity(0, cores)
  # Ctrl-C reaches all processes of a terminal; the sweep's own ends this one.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  faulthandler.enable(os.dup(2))  # Trials turn their stream 2 elsewhere.
  answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
  os.dup2(2, 1)
  lines: queue.SimpleQueue[str] = queue.SimpleQueue()
  threading.Thread(target=_read, args=(lines,), daemon=True).start()

  from recjax.sweeps import jobs  # After the cores are set.

  print(json.dumps({READY: os.getpid()}), file=answers, flush=True)
  while True:
    job = jobs.job_of(json.loads(lines.get()))
    outcome = jobs.run_logged(job)
    text = json.dumps(dataclasses.asdict(outcome))
    print(text, file=answers, flush=True)


def _read(lines: queue.SimpleQueue[str]) -> None:
  for line in sys.stdin:
    lines.put(line)
  os._exit(0)  # Whoever asked is gone.


if __name__ == "__main__":
  main()
