"""What a workdir holds: the record that tables, plots and reports read.

config.gin       the config as it was parsed
operative.gin    what the run uses, defaults included, and its hash
env.json         code and package versions, devices, data, command
metrics.jsonl    one line a logged step
per_user/*.npz   metrics of each user
slices/*.json    metrics of slices, see `recjax.runs.slice_files`
predictions/     scores of the test rows, see `recjax.runs.predictions`
checkpoints/     of the training
plots/           PNG
result.json      written last: a run that has it is finished
"""

import datetime
import difflib
import json
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Collection, Mapping
from typing import Any, TextIO

import numpy as np

from recjax import errors, files

# What result.json must hold; see `RunRecord.write_result`.
RESULT_KEYS = (
  "name",
  "dataset",
  "model",
  "seed",
  "metrics",
  "intervals",
  "protocol",
  "protocol_hash",
  "config_hash",
  "data_fingerprint",
  "wall_secs",
  "device",
  "versions",
)
_ZIP_END_BYTES = 22
_HASH_LINE = "# config hash: "
_DIFF_LINES = 40


def plain(value: Any) -> Any:
  """`value` with the types of JSON; a number that is not finite is None."""
  if isinstance(value, Mapping):
    return {str(key): plain(element) for key, element in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(element) for element in value]
  if value is None or isinstance(value, (bool, str, int)):
    return value
  if hasattr(value, "tolist"):  # An array or a scalar of NumPy or JAX.
    return plain(value.tolist())
  number = float(value)
  return number if math.isfinite(number) else None


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file of a workdir.

  Raises:
    RunError: the file is missing or corrupt.
  """
  try:
    value = json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    raise errors.RunError(f"{path} does not exist.") from None
  except (OSError, ValueError) as error:
    raise errors.RunError(f"{path} is corrupt: {error}.") from error
  if not isinstance(value, dict):
    raise errors.RunError(f"{path} is corrupt: it holds no JSON object.")
  return value


def check_result(result: Mapping[str, Any], where: str) -> None:
  """Raises RunError unless `result` has what every result has."""
  missing = [key for key in RESULT_KEYS if key not in result]
  if missing:
    raise errors.RunError(f"{where} lacks {', '.join(missing)}.")
  for key in ("metrics", "intervals", "protocol", "versions"):
    if not isinstance(result[key], Mapping):
      raise errors.RunError(f"{where}: {key!r} is no mapping.")


class RunRecord:
  """Reads and writes the record in a workdir.

  Each file is written whole or not at all, but metrics.jsonl, which grows by
  lines; a last line torn by a kill is dropped.

  Attributes:
    workdir: the folder; made by `create_or_resume`.
  """

  def __init__(self, workdir: files.PathLike):
    self.workdir = pathlib.Path(workdir)
    self._metrics_file: TextIO | None = None

  @property
  def checkpoints_dir(self) -> pathlib.Path:
    """Where the training keeps its checkpoints."""
    return self.workdir / "checkpoints"

  @property
  def plots_dir(self) -> pathlib.Path:
    """Where the plots are."""
    return self.workdir / "plots"

  @property
  def _metrics_path(self) -> pathlib.Path:
    return self.workdir / "metrics.jsonl"

  # --- The config ----------------------------------------------------------

  def create_or_resume(
    self, config_text: str, operative_text: str, config_hash: str
  ) -> bool:
    """Makes the workdir, or takes up the run of the same config in it.

    Args:
      config_text: the parsed config.
      operative_text: what the run uses.
      config_hash: names the operative config, however it is spelled.

    Returns:
      Whether there was such a run.

    Raises:
      RunError: the workdir is of another config (shows the difference), or
        is no workdir of a run.
    """
    operative = self.workdir / "operative.gin"
    if self.workdir.exists() and not self.workdir.is_dir():
      raise errors.RunError(f"{self.workdir} is a file, not a workdir.")
    if operative.exists():
      self._check_same(operative, operative_text, config_hash)
      self._repair_metrics()
      return True
    for name in ("result.json", "metrics.jsonl", "checkpoints", "best"):
      if (self.workdir / name).exists():
        raise errors.RunError(
          f"{self.workdir} holds {name} but no operative.gin, so it can not "
          "be told what run this is: choose another workdir."
        )
    files.write_text_atomically(self.workdir / "config.gin", config_text)
    files.write_text_atomically(
      operative, f"{_HASH_LINE}{config_hash}\n{operative_text}"
    )
    return False

  def _check_same(
    self, path: pathlib.Path, operative_text: str, config_hash: str
  ) -> None:
    old_text = path.read_text("utf-8")
    if self.read_config_hash() == config_hash:
      return
    old, new = (
      [line for line in text.splitlines() if line and line[0] != "#"]
      for text in (old_text, operative_text)
    )
    lines = list(difflib.unified_diff(old, new, str(path), "this command", n=0))
    shown = [line.rstrip() for line in lines if not line.startswith("@@")]
    if len(shown) > _DIFF_LINES:
      left = len(shown) - _DIFF_LINES
      shown = [*shown[:_DIFF_LINES], f"... and {left} more lines"]
    raise errors.RunError(
      f"{self.workdir} holds a run of another config; choose another workdir, "
      "or give the same config to resume:\n" + "\n".join(shown)
    )

  def read_config_hash(self) -> str:
    """The hash of the config of the run.

    Raises:
      RunError: there is no operative.gin, or it names no hash.
    """
    path = self.workdir / "operative.gin"
    if not path.exists():
      raise errors.RunError(f"{path} does not exist: no run was started here.")
    match = re.match(
      re.escape(_HASH_LINE) + "(\\w+)\n", path.read_text("utf-8")
    )
    if match is None:
      raise errors.RunError(
        f"{path} is corrupt: its first line is not '{_HASH_LINE}...'."
      )
    return match[1]

  def read_text(self, name: str) -> str:
    """The text of config.gin or operative.gin, or "" where it is missing."""
    path = self.workdir / name
    return path.read_text("utf-8") if path.exists() else ""

  # --- Metrics over steps --------------------------------------------------

  def log(self, step: int, **scalars: Any) -> None:
    """Appends a line to metrics.jsonl.

    Args:
      step: the number of steps done.
      **scalars: numbers (not finite: null) or short texts.
    """
    line = json.dumps(plain({"step": int(step), **scalars}), allow_nan=False)
    if self._metrics_file is None:
      self.workdir.mkdir(parents=True, exist_ok=True)
      self._metrics_file = open(self._metrics_path, "a", encoding="utf-8")
    self._metrics_file.write(line + "\n")
    self._metrics_file.flush()

  def truncate_after(self, step: int) -> None:
    """Drops the lines of later steps, to resume from a checkpoint.

    Args:
      step: of the checkpoint; lines with a larger step are dropped.
    """
    kept = [line for line in self.read_metrics() if line["step"] <= step]
    self._write_metrics(kept)

  def read_metrics(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without a torn last one.

    Raises:
      RunError: a line before the last is corrupt.
    """
    if not self._metrics_path.exists():
      return []
    text = self._metrics_path.read_bytes().decode("utf-8", errors="replace")
    lines = text.split("\n")[:-1]  # What follows the last newline is torn.
    metrics = []
    for number, line in enumerate(lines, 1):
      try:
        value = json.loads(line)
        if not isinstance(value, dict) or "step" not in value:
          raise ValueError("no object with a 'step'")
      except ValueError as error:
        raise errors.RunError(
          f"{self._metrics_path}:{number} is corrupt: {error}."
        ) from error
      metrics.append(value)
    return metrics

  def _repair_metrics(self) -> None:
    if not self._metrics_path.exists():
      return
    content = self._metrics_path.read_bytes()
    if content and not content.endswith(b"\n"):
      self._write_metrics(self.read_metrics())

  def _write_metrics(self, metrics: list[dict[str, Any]]) -> None:
    self.close()
    text = "".join(json.dumps(line) + "\n" for line in metrics)
    files.write_text_atomically(self._metrics_path, text)

  def close(self) -> None:
    """Closes metrics.jsonl; a later `log` opens it again."""
    if self._metrics_file is not None:
      self._metrics_file.close()
      self._metrics_file = None

  # --- Metrics of each user ------------------------------------------------

  def save_per_user(self, name: str, **arrays: np.ndarray) -> None:
    """Writes per_user/NAME.npz.

    Args:
      name: such as "test".
      **arrays: named arrays of one length, one element a user.
    """
    plain_arrays = {key: np.asarray(array) for key, array in arrays.items()}
    lengths = {key: array.shape[:1] for key, array in plain_arrays.items()}
    if len(set(lengths.values())) > 1:
      raise ValueError(f"per-user arrays differ in length: {lengths}")
    files.write_atomically(
      self.per_user_path(name),
      lambda file: np.savez(file, allow_pickle=False, **plain_arrays),
    )

  def per_user_path(self, name: str) -> pathlib.Path:
    """Where the values of users of a part are, if the run keeps them."""
    return self.workdir / "per_user" / f"{name}.npz"

  def load_per_user(
    self, name: str, keys: Collection[str] | None = None
  ) -> dict[str, np.ndarray]:
    """The arrays of per_user/NAME.npz.

    Args:
      name: such as "test".
      keys: the arrays to read, those that there are of them; None is all.

    Raises:
      RunError: the file is missing or corrupt.
    """
    path = self.per_user_path(name)
    try:
      with open(path, "rb") as file, np.load(file) as archive:
        names = archive.files
        # A directory whose lengths are corrupt swallows what follows.
        file.seek(-_ZIP_END_BYTES, os.SEEK_END)
        num = int.from_bytes(file.read()[10:12], "little")
        if num != len(names):
          raise zipfile.BadZipFile(f"it tells {len(names)} of {num} arrays")
        if keys is not None:
          names = [name for name in names if name in keys]
        return {name: archive[name] for name in names}
    except FileNotFoundError:
      raise errors.RunError(f"{path} does not exist.") from None
    except Exception as error:
      raise errors.RunError(f"{path} is corrupt: {error}.") from error

  # --- Environment and result ----------------------------------------------

  def write_env(self, env: Mapping[str, Any]) -> None:
    """Writes env.json; see `recjax.runs.environment.collect`."""
    files.write_json_atomically(self.workdir / "env.json", plain(env))

  def read_env(self) -> dict[str, Any]:
    """The content of env.json, or {} where there is none.

    Raises:
      RunError: the file is corrupt.
    """
    path = self.workdir / "env.json"
    return read_json(path) if path.exists() else {}

  def write_result(self, result: Mapping[str, Any]) -> None:
    """Writes result.json, which marks the run as finished.

    Args:
      result: holds RESULT_KEYS, of which `metrics` maps names such as
        "ndcg@10" to test values, `intervals` to [low, high] of 95%,
        `protocol` is written out in every table, `wall_secs` is of all
        sessions of the run and `device` is in words. It may hold `floor` and
        `bayes_optimal` (as `metrics`), `validation` (metrics at the best
        step), `best_step`, `protocol_text` (a line), `config_hash_without_seed`
        (tells the seeds of one config), `command`, `commit`, `dirty` and
        anything else. `finished_at` (UTC) is added.

    Raises:
      RunError: something is missing.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    value = plain({"finished_at": now, **result})
    path = self.workdir / "result.json"
    check_result(value, str(path))
    files.write_json_atomically(path, value)

  def read_result(self) -> dict[str, Any]:
    """The content of result.json.

    Raises:
      RunError: the run is not finished, or the file is corrupt.
    """
    path = self.workdir / "result.json"
    if not path.exists():
      raise errors.RunError(f"{self.workdir} is not finished: no result.json.")
    result = read_json(path)
    check_result(result, str(path))
    return result

  def is_finished(self) -> bool:
    """Whether there is a result.

    Raises:
      RunError: there is a result.json, but it is corrupt.
    """
    if not (self.workdir / "result.json").exists():
      return False
    self.read_result()
    return True
