"""Folders of sweeps that were never run, and tiny data."""

import functools
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.spec import Sweep
from tests.sweeps.made_up import finish, trials_of


@pytest.fixture
def make_folder(tmp_path):
  """A sweep folder with all or some of its trials finished."""

  def make(
    sweep: Sweep, value, *, skip=lambda trial: False, **options
  ) -> SweepFolder:
    folder = SweepFolder(tmp_path / "sweep")
    folder.take_up(sweep)
    trials = trials_of(sweep)
    folder.write_trials(trials, "ndcg@10")
    for trial in trials:
      if not skip(trial):
        finish(folder.workdir(trial.key), trial.seed, value(trial), **options)
    return folder

  return make


@pytest.fixture
def frappe_dir(tmp_path) -> pathlib.Path:
  """Tiny files in the format of Frappe."""
  folder = tmp_path / "data" / "frappe"
  folder.mkdir(parents=True)
  random = np.random.default_rng(0)
  for part, num in (("train", 300), ("validation", 60), ("test", 60)):
    rows = random.integers(0, 9, (num, 10)) + 10 * np.arange(10)
    lines = [
      f"{1 if row[0] % 9 < 3 else -1} {' '.join(f'{i}:1' for i in row)}\n"
      for row in rows
    ]
    (folder / f"frappe.{part}.libfm").write_text("".join(lines))
  return folder.parent


@pytest.fixture(scope="session")
def key_elsewhere():
  """Config hashes as a process has them that checks no shapes of arrays.

  Our own check leaves gin no defaults of dataclasses to find, so that what a
  run uses is told, and hashed, without them.
  """
  code = (
    "import sys; from recjax.named_run import read_run;"
    "print(read_run(*map(eval, sys.argv[1:])).config_hash)"
  )

  @functools.cache
  def key(gin_files: tuple[str, ...], bindings: tuple[str, ...] = ()) -> str:
    command = [sys.executable, "-c", code, repr(gin_files), repr(bindings)]
    return subprocess.run(
      command, check=True, capture_output=True, text=True
    ).stdout.strip()

  return key
