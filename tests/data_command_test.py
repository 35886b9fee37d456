"""The command `recjax data` on labelled examples."""

import pytest

from recjax import cli


@pytest.fixture
def folders(tmp_path):
  return [f"--data_dir={tmp_path}", f"--cache_dir={tmp_path / 'cache'}"]


def test_labelled_examples(tmp_path, folders, capsys):
  command = ["data", "planted_criteo", f"--out={tmp_path / 'plots'}"]
  command += ["--gin.PlantedCriteo.num_rows=500", *folders]
  assert cli.main(command) == 0
  out = capsys.readouterr().out
  for expected in ("planted_criteo", "rows and labels", "I13", "C26"):
    assert expected in out
  plot = tmp_path / "plots" / "examples.png"
  assert plot.read_bytes().startswith(b"\x89PNG")
  assert out.splitlines()[-1] == str(plot)
  assert (tmp_path / "cache").is_dir()


def test_the_first_rows_are_not_kept(tmp_path, folders, capsys):
  command = ["data", "planted_criteo", f"--out={tmp_path / 'plots'}"]
  command += ["--gin.PlantedCriteo.num_rows=500", "--rows=120", *folders]
  assert cli.main(command) == 0
  lines = capsys.readouterr().out.splitlines()
  assert ["rows", "120"] in [line.split() for line in lines]
  assert not (tmp_path / "cache").exists()


def test_rows_of_interactions(folders, capsys):
  assert cli.main(["data", "planted", "--rows=5", *folders]) == 1
  assert "--rows is for labelled examples" in capsys.readouterr().err
