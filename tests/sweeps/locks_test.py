"""A lock names its holder, and is let go."""

import os
import socket
import threading

import pytest

from recjax.sweeps.locks import holding

HERE = f"process {os.getpid()} on {socket.gethostname()}"


def refuse(holder):
  raise RuntimeError(f"held by {holder}")


def test_a_lock_that_is_held_names_process_and_host(tmp_path):
  path = tmp_path / "new" / "lock"
  with holding(path, refuse):
    with pytest.raises(RuntimeError, match=f"^held by {HERE}$"):
      with holding(path, refuse):
        pass
  with holding(path, refuse):
    assert path.read_text() == f"{HERE}\n"


def test_a_lock_is_waited_for(tmp_path):
  path = tmp_path / "lock"
  path.write_text("process 1 on a machine that is gone, with a long name")
  told, entered = [], threading.Event()

  def wait():
    with holding(path, told.append):
      entered.set()

  with holding(path, refuse):
    thread = threading.Thread(target=wait)
    thread.start()
    assert not entered.wait(0.1)
  assert entered.wait(60)
  thread.join()
  assert told == [HERE]
