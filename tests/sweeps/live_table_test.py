"""What is shown of a sweep that runs."""

import io

import pytest
from rich.console import Console

from recjax.sweeps import folder as folders
from recjax.sweeps import live_table
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.live_table import LiveTable
from recjax.sweeps.scheduler import Scheduler
from tests.sweeps.made_up import finish, sweep_of, trials_of, value_of


@pytest.fixture
def folder(tmp_path):
  made = SweepFolder(tmp_path)
  made.take_up(sweep_of())
  for trial in trials_of(sweep_of())[:2]:
    finish(made.workdir(trial.key), trial.seed, value_of(trial))
  return made


def table_of(
  folder, *, terminal, title="Depth and size", metric="ndcg@10", trials=()
):
  console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
  table = LiveTable(title, folder, metric, console)
  table.add(trials or trials_of(sweep_of()))
  return table, console.file


@pytest.mark.parametrize("terminal", [False, True])
def test_marks_of_rich_in_names_and_errors_are_shown_as_they_are(
  tmp_path, monkeypatch, terminal
):
  monkeypatch.setattr(live_table, "_LINE_SECS", 0.0)
  folder = SweepFolder(tmp_path)
  names = ("no [mask] token", "no [/mask]")
  factor = {"name": "f", "levels": {name: ["A.b = 1"] for name in names}}
  trials = trials_of(sweep_of(factor=[factor], num_seeds=1))
  table, out = table_of(
    folder,
    terminal=terminal,
    title="T [/v2]",
    metric="auc[blue]",
    trials=trials,
  )
  folder.add_crash(trials[0].key, "no such file [/data/x]")
  table.show({})
  table.show({trials[0].key: folders.FAILED, trials[1].key: Scheduler.RUNNING})
  table.close()
  text = out.getvalue()
  shown = [*names, "T [/v2]: 1 of 2", "Auc[blue]"]
  shown += [] if terminal else ["(no such file [/data/x]; see"]
  assert [part for part in shown if part not in text] == []


def states(**changes):
  found = {t.key: folders.OPEN for t in trials_of(sweep_of())}
  return found | changes


def test_each_trial_that_ends_is_a_line(folder):
  table, out = table_of(folder, terminal=False)
  table.show(states(**{"depth1sizes-0": folders.FINISHED}))
  assert out.getvalue() == ""  # It had ended before.
  folder.add_crash("depth2sizel-0", "ValueError: no")
  now = states(
    **{
      "depth1sizes-0": folders.FINISHED,
      "depth1sizel-0": folders.FINISHED,
      "depth2sizel-0": folders.FAILED,
    }
  )
  table.show(now)
  table.show(now)
  lines = out.getvalue().splitlines()
  assert len(lines) == 2
  assert lines[0].startswith(
    "depth 1, size l, seed 0: finished at step 30, NDCG@10 0."
  )
  assert lines[1] == (
    "depth 2, size l, seed 0: failed at step –, NDCG@10 – (ValueError: no;"
    " see logs/depth2sizel-0.log)"
  )


def test_a_terminal_has_a_table(folder):
  table, out = table_of(folder, terminal=True)
  table.show(states())
  table.show(
    states(
      **{
        "depth1sizes-0": folders.FINISHED,
        "depth1sizel-0": Scheduler.RUNNING,
        "depth2sizel-1": folders.STOPPED,
      }
    )
  )
  table.close()
  text = out.getvalue()
  assert (
    "Depth and size: 2 of 12 trials have ended, 1 running, 1 stopped" in text
  )
  assert "depth 1, size l" in text and "validation NDCG@10" in text
  assert "left" in text  # How long it will take.
