"""Lock files in which stands who holds them."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Callable, Iterator

from recjax import files


@contextlib.contextmanager
def holding(
  path: files.PathLike, when_taken: Callable[[str], object]
) -> Iterator[None]:
  """Holds a lock file, which the end of the process lets go as well.

  Args:
    path: of the file; its folder is made if need be.
    when_taken: is told who holds it, such as "process 12 on host"; the lock is
      waited for unless it raises.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Not emptied before it is ours: others read in it who holds it.
  with open(path, "a+", encoding="utf-8") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      when_taken(file.read().strip() or "another process")
      fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    yield
