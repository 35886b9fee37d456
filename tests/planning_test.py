"""`recjax plan`, and steps with a billion rows compiled for TPU slices."""

import json
import pathlib

import pytest

from recjax import cli
from recjax.train import ahead
from recjax.train.program_report import ProgramReport
from recjax.train.topologies import has_compiler, parse_topology

SCRIPT = str(pathlib.Path(__file__).with_name("large_steps.py"))
SLICES = ("v5e:4x4", "v6e:8x8", "v5p:4x4x4")

needs_compiler = pytest.mark.skipif(
  not has_compiler(), reason="the TPU compiler, libtpu, is not installed"
)

GIN = """
from __gin__ import dynamic_registration

from recjax import experiment
from recjax.embeddings import row_optimizers
from recjax.tasks import objectives
from recjax.train import mesh

include "runs/sasrec_planted.gin"
include "overlays/tiny.gin"

experiment.Experiment.objective = @objectives.BinaryCrossEntropy()
experiment.Experiment.mesh = @mesh.MeshConfig()
experiment.Experiment.table_optimizer = @row_optimizers.RowWiseAdagrad()
experiment.Experiment.micro_rows = 16
mesh.MeshConfig.data = 4
mesh.MeshConfig.model = 4
"""


@needs_compiler
@pytest.mark.parametrize("name", SLICES)
def test_large_tables_fill_a_slice_and_stay_where_they_are(name):
  code = f"import runpy; runpy.run_path({SCRIPT!r}, run_name='__main__')"
  found = ahead.run_child(["-c", code, name])
  assert len(found) == 3  # DLRM, DCN-V2 and SASRec.
  capacity = parse_topology(name).generation.memory_bytes
  for report in found:
    assert isinstance(report, ProgramReport), report.describe()
    assert report.fits
    assert 0.7 * capacity < report.memory.peak_bytes <= capacity
    # Nothing of table size is made, copied or moved; all is donated.
    assert report.faults == ()
    assert report.memory.temp_bytes < 0.01 * capacity
    assert report.memory.alias_bytes > 0.99 * report.memory.output_bytes
    assert 0 < report.roofline_secs()["interconnect"] < 1


@pytest.fixture
def gin_file(tmp_path):
  path = tmp_path / "sharded.gin"
  path.write_text(GIN)
  return path


def test_the_command_prints_the_plan_of_a_mesh_that_is_not_there(
  gin_file, tmp_path, capsys
):
  out = tmp_path / "plan.json"
  folders = [f"--cache_dir={tmp_path / 'cache'}", f"--out={out}"]
  assert cli.main(["plan", f"--gin_file={gin_file}", *folders]) == 0
  printed = capsys.readouterr().out
  assert "16 devices (data=4 x model=4)" in printed
  assert "A device needs" in printed
  (array,) = json.loads(out.read_text())["arrays"]
  assert array["name"] == "item"
  assert array["strategy"] in printed


@needs_compiler
def test_the_command_compiles_for_a_slice(gin_file, tmp_path, capsys):
  out = tmp_path / "plan.json"
  folders = [f"--cache_dir={tmp_path / 'cache'}", f"--out={out}"]
  arguments = [f"--gin_file={gin_file}", "--topology=v5e:4x4", *folders]
  assert cli.main(["plan", *arguments]) == 0
  printed = capsys.readouterr().out
  assert "16 devices (data=4 x model=4)" in printed
  assert "A step takes at least" in printed
  (report,) = json.loads(out.read_text())
  assert report["topology"] == "v5e:4x4" and report["fits"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "recjax plan needs --gin_file"),
    (["--gin_file=x.gin", "--topology=v5e:4x5"], "got 'v5e:4x5'. Did you mean"),
  ],
)
def test_bad_arguments_are_named(arguments, message, capsys):
  assert cli.main(["plan", *arguments]) == 1
  assert message in capsys.readouterr().err
