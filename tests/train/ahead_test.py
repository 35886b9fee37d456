import json
import os
import pathlib
import textwrap

import pytest

from recjax.errors import ConfigError, RunError
from recjax.train import ahead
from recjax.train.ahead import TooLarge, compile_for, run_child
from recjax.train.program_report import ProgramReport
from recjax.train.topologies import has_compiler, parse_topology

SCRIPT = str(pathlib.Path(__file__).with_name("ahead_script.py"))
NO_MEMORY = (
  "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for"
  " HLO temporaries (16.00G) exceeds available HBM (15.75G)."
)

needs_compiler = pytest.mark.skipif(
  not has_compiler(), reason="the TPU compiler, libtpu, is not installed"
)


def child(code: str, **kwargs):
  return run_child(["-c", textwrap.dedent(code)], **kwargs)


def run_script(names: str, rows: int, dim: int, log=lambda line: None):
  code = f"import runpy; runpy.run_path({SCRIPT!r}, run_name='__main__')"
  return run_child(["-c", code, names, str(rows), str(dim)], log=log)


def test_the_child_has_its_environment_and_is_heard():
  heard = []
  found = child(
    """
    import os
    print(os.environ["JAX_PLATFORMS"], os.environ["TPU_SKIP_MDS_QUERY"])
    from recjax.train import ahead
    print("child", ahead.is_child())
    """,
    log=heard.append,
  )
  assert found == []
  assert heard == ["cpu 1", "child True"]
  assert not ahead.is_child()


def test_outcomes_are_sent_as_they_come():
  seen = []
  found = child(
    """
    from recjax.train import ahead
    from recjax.train.program_report import Memory, ProgramReport
    memory = Memory(1, 2, 3, 4, 5, 6)
    ahead._send("outcome", ahead.TooLarge("v5e:4x4", {"data": 16}, 9, 8, "no"))
    ahead._send("outcome", ProgramReport(
      "v6e:8x8", {"data": 64}, memory, 1.0, 2.0, (), (), (), 3, ("a",), 4.0))
    """,
    on_outcome=seen.append,
  )
  assert found == seen
  large, report = found
  assert large == TooLarge("v5e:4x4", {"data": 16}, 9, 8, "no")
  assert isinstance(report, ProgramReport)
  assert report.faults == ("a",)
  assert report.memory.capacity_bytes == 6


def test_an_error_of_the_child_is_raised_in_the_parent():
  with pytest.raises(ConfigError, match="slices of v5e .*mean 'v5e:4x8'"):
    child(
      """
      from recjax.train import ahead
      ahead.compile_all(None, ["v5e:4x"+"3"])
      """
    )


def test_a_child_that_breaks_says_how():
  with pytest.raises(RunError, match=r"(?s)status 1:.*ZeroDivisionError"):
    child("1 / 0")


class Lowered:
  """Fails to compile, as jax.stages.Lowered does."""

  def __init__(self, error):
    self.error = error

  def compile(self):
    raise self.error


def compile_with(error, monkeypatch):
  from jax.errors import JaxRuntimeError

  class Mesh:
    shape = {"data": 4, "model": 4}

  monkeypatch.setattr(ahead, "topology_mesh", lambda topology, model: Mesh)
  return compile_for(
    lambda mesh: Lowered(JaxRuntimeError(error)), parse_topology("v5e:4x4")
  )


def test_a_step_that_the_compiler_refuses(monkeypatch):
  found = compile_with(NO_MEMORY, monkeypatch)
  assert isinstance(found, TooLarge)
  assert not found.fits
  assert found.needed_bytes == 16 * 2**30
  assert found.capacity_bytes == 15.75 * 2**30
  assert "needs 16.0 GiB of its 15.8 GiB: it does not fit by 256.0 MiB." in (
    found.describe()
  )
  assert TooLarge.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
  ("message", "needed"),
  [
    ("RESOURCE_EXHAUSTED: in hbm. Used 24.50G of 15.75G hbm.", 24.5 * 2**30),
    ("RESOURCE_EXHAUSTED: much too large", 0),
  ],
)
def test_other_words_of_the_compiler(message, needed, monkeypatch):
  found = compile_with(message, monkeypatch)
  assert isinstance(found, TooLarge)
  assert found.needed_bytes == needed
  assert found.capacity_bytes == 15.75 * 2**30
  assert message in found.describe()


def test_other_failures_are_not_about_memory(monkeypatch):
  from jax.errors import JaxRuntimeError

  with pytest.raises(JaxRuntimeError, match="INTERNAL"):
    compile_with("INTERNAL: no", monkeypatch)


@needs_compiler
def test_tables_of_fifty_gigabytes_on_two_slices():
  heard = []
  rows = 6104 * 1024 * 16
  v5e, v5p = run_script("v5e:4x4,v5p:2x2x2", rows, 128, log=heard.append)
  assert heard == ["lowering for 16 devices", "lowering for 8 devices"]
  for report, devices in ((v5e, 16), (v5p, 8)):
    assert isinstance(report, ProgramReport)
    # Rows of 128 numbers, and one that row-wise Adagrad remembers of each.
    tables = rows * (128 + 1) * 4 / devices
    assert report.fits
    assert report.faults == ()
    assert report.memory.alias_bytes == pytest.approx(tables, rel=1e-3)
    assert report.memory.argument_bytes == pytest.approx(tables, rel=1e-3)
    assert report.memory.temp_bytes < 2**25
    moved = [t for t in report.traffic if t.kind == "all-to-all"]
    assert {t.group_size for t in moved} == {devices}
    assert report.compile_secs > 0
    assert 0 < max(report.roofline_secs().values()) < 1


@needs_compiler
def test_too_many_rows_for_a_slice():
  (found,) = run_script("v5e:2x2", 150_000_000, 128)
  assert isinstance(found, TooLarge)
  tables = 150_000_000 * 129 * 4 / 4
  assert found.needed_bytes == pytest.approx(tables, rel=0.03)
  assert found.capacity_bytes == 15.75 * 2**30


@needs_compiler
def test_narrow_rows_are_copied_and_it_is_said():
  (found,) = run_script("v5e:2x2", 10_000_000, 64)
  assert isinstance(found, ProgramReport)
  copied = [fault for fault in found.faults if "copy makes f32" in fault]
  assert copied, os.linesep.join(found.faults)
