"""Versions, commit and devices against what the machine itself says."""

import subprocess
import sys

import jax
import numpy as np

import recjax
from recjax.runs import environment


def git(folder, *arguments):
  identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
  return subprocess.run(
    ("git", "-C", str(folder), *identity, *arguments),
    check=True,
    capture_output=True,
    text=True,
  ).stdout.strip()


def test_versions():
  versions = environment.package_versions()
  assert versions["recjax"] == recjax.__version__
  assert versions["jax"] == jax.__version__
  assert versions["numpy"] == np.__version__
  assert versions["python"] == ".".join(map(str, sys.version_info[:3]))


def test_code_version(tmp_path):
  none = {"commit": None, "dirty": None}
  assert environment.code_version(tmp_path) == none
  git(tmp_path, "init", "-q")
  assert environment.code_version(tmp_path)["commit"] is None
  (tmp_path / "recjax").mkdir()
  for name in ("recjax/code.py", "README.md"):
    (tmp_path / name).write_text("1")
    git(tmp_path, "add", name)
  git(tmp_path, "commit", "-q", "-m", "one")
  commit = git(tmp_path, "rev-parse", "HEAD")
  clean = {"commit": commit, "dirty": False}
  assert environment.code_version(tmp_path) == clean
  for name in ("recjax/untracked.py", "README.md"):
    (tmp_path / name).write_text("2")
    assert environment.code_version(tmp_path) == clean
  (tmp_path / "recjax" / "code.py").write_text("2")
  assert environment.code_version(tmp_path) == {"commit": commit, "dirty": True}


def test_command_text():
  arguments = ["/bin/recjax", "train", "--gin.PAIR=(1, 2)"]
  expected = "recjax train '--gin.PAIR=(1, 2)'"
  assert environment.command_text(arguments) == expected
  arguments[0] = "/repo/recjax/__main__.py"
  assert environment.command_text(arguments[:2]) == "python -m recjax train"


def test_collect():
  env = environment.collect(
    data_fingerprint="ff", protocol_hash="aa", command="recjax train"
  )
  assert env["num_devices"] == 8 and env["platform"] == "cpu"
  assert env["device"].startswith("8 devices on CPU")
  assert (env["data_fingerprint"], env["protocol_hash"]) == ("ff", "aa")
  assert env["command"] == "recjax train"
