"""Checkpoints that are whole, verified, and restored on any mesh."""

import json
import logging
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from recjax import files
from recjax.errors import RunError

_logger = logging.getLogger(__name__)
_NO_DIGEST = "is missing: the write was interrupted"
_MESSAGE_BYTES = 1024


class Checkpoints:
  """The last few checkpoints in a folder, written through Orbax.

  Orbax makes each write atomic. Beside it stands a digest of every file; a
  checkpoint whose files do not match theirs is named, set aside, and the one
  before it is taken. The digest comes last: the newest checkpoint has none if
  the process was killed right before, and then simply does not count.
  """

  def __init__(self, folder: files.PathLike, *, keep: int):
    """Opens or makes the folder.

    Args:
      folder: where they lie.
      keep: how many are kept; two, so that there is one to fall back on.
    """
    self._folder = pathlib.Path(folder).absolute()
    self._keep = keep
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._keep, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(self._folder, options=options)

  def save(self, step: int, state: Any, loop: dict[str, Any]) -> None:
    """Writes a checkpoint; one that stands at this step is replaced.

    Args:
      step: its name.
      state: a pytree of arrays.
      loop: what the loop must know to go on, as JSON values.
    """
    if step in self._manager.all_steps():
      self._manager.delete(step)
    if jax.process_index() == 0:
      self._digest_file(step).unlink(missing_ok=True)
    arguments = ocp.args.Composite(
      state=ocp.args.StandardSave(state), loop=ocp.args.JsonSave(loop)
    )
    self._manager.save(step, args=arguments, force=True)
    self._manager.wait_until_finished()
    if jax.process_index() == 0:
      digest = _digest(self._folder / str(step))
      files.write_json_atomically(self._digest_file(step), digest)
      for old in self._folder.glob("digest-*.json"):
        if not (self._folder / old.stem.removeprefix("digest-")).exists():
          old.unlink()
      # What killed processes left half written; nothing is written now.
      for remains in self._folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(remains, ignore_errors=True)

  def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
    """The newest checkpoint that is whole, or None if there never was one.

    Args:
      template: shapes, dtypes and shardings of the state; they may be laid
        out otherwise than when it was written.

    Returns:
      State and loop.

    Raises:
      RunError: there are checkpoints, and all of them are broken.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    broken = []
    for step in steps:
      problem = self._agreed_problem(step)
      if problem is None:
        try:
          return self._read(step, template)
        except Exception as error:  # Orbax and TensorStore raise many kinds.
          problem = f"{type(error).__name__}: {error}"
      interrupted = step == steps[0] and problem.endswith(_NO_DIGEST)
      self._set_aside(step, problem)
      if not interrupted:
        broken.append(f"step {step}: {problem}")
    if broken:
      raise RunError(
        f"every checkpoint in {self._folder} is broken:\n  "
        + "\n  ".join(broken)
        + "\nStart again with an empty --workdir."
      )
    return None

  def _read(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
    arguments = ocp.args.Composite(
      state=ocp.args.StandardRestore(template), loop=ocp.args.JsonRestore()
    )
    restored = self._manager.restore(step, args=arguments)
    return restored["state"], restored["loop"]

  def _digest_file(self, step: int) -> pathlib.Path:
    return self._folder / f"digest-{step}.json"

  def _agreed_problem(self, step: int) -> str | None:
    """What the first process finds wrong, told to all: they go one way."""
    if jax.process_count() == 1:
      return self._problem(step)
    text = np.zeros(_MESSAGE_BYTES, np.uint8)
    if jax.process_index() == 0:
      message = (self._problem(step) or "").encode()[-_MESSAGE_BYTES:]
      text[: len(message)] = np.frombuffer(message, np.uint8)
    text = np.asarray(multihost_utils.broadcast_one_to_all(text), np.uint8)
    return text.tobytes().rstrip(b"\0").decode(errors="replace") or None

  def _problem(self, step: int) -> str | None:
    """What is wrong with the files of a checkpoint; None if nothing is."""
    name = self._digest_file(step).name
    try:
      expected = json.loads(self._digest_file(step).read_text())
    except FileNotFoundError:
      return f"{name} {_NO_DIGEST}"
    except (OSError, ValueError):
      return f"{name} is unreadable"
    found = _digest(self._folder / str(step))
    for name in sorted(expected.keys() | found.keys()):
      if name not in found:
        return f"{step}/{name} is missing"
      if name not in expected:
        return f"{step}/{name} was added"
      if found[name] != expected[name]:
        return f"{step}/{name} is corrupt"
    return None

  def _set_aside(self, step: int, problem: str) -> None:
    aside = self._folder.with_name(f"{self._folder.name}-broken")
    _logger.warning(
      "The checkpoint of step %d in %s is broken (%s): falling back to the"
      " one before it. It is kept in %s.",
      step,
      self._folder,
      problem,
      aside,
    )
    if jax.process_index() == 0:
      shutil.rmtree(aside / str(step), ignore_errors=True)
      aside.mkdir(exist_ok=True)
      (self._folder / str(step)).rename(aside / str(step))
      self._digest_file(step).unlink(missing_ok=True)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"set aside {step}")
    self._manager.close()
    self._manager = self._open()

  def close(self) -> None:
    """Waits for and ends what Orbax runs in the background."""
    self._manager.close()


def _digest(folder: pathlib.Path) -> dict[str, str]:
  return {
    str(path.relative_to(folder)): files.sha256_of_file(path)
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }
