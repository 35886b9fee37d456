"""`recjax ab` and `recjax sample_size` on tables as analysts have them."""

import contextlib
import io
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recjax import cli
from recjax.evaluation.ab_test import Measured, effects
from recjax.evaluation.sample_size import (
  sample_size_of_means,
  sample_size_of_rates,
  smallest_difference_of_rates,
)


def command(*arguments):
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main([str(argument) for argument in arguments])
  return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def rows():
  """Days of users: B gets half as many clicks again as A, C as many."""
  random = np.random.default_rng(0)
  user = np.repeat(np.arange(3000), random.integers(1, 4, 3000))
  arm = random.choice(["A", "B", "C"], 3000, p=[0.5, 0.25, 0.25])
  taste = random.beta(2, 18, 3000)
  shown = random.geometric(0.1, len(user))
  rate = taste[user] * np.where(arm[user] == "B", 1.5, 1.0)
  return {
    "user": user,
    "variant": arm[user],
    "day": random.integers(0, 14, len(user)),
    "clicks": random.binomial(shown, np.minimum(rate, 1)),
    "shown": shown,
    "clicks_before": random.binomial(40, taste)[user],
  }


@pytest.fixture(scope="module")
def table(rows, tmp_path_factory):
  path = tmp_path_factory.mktemp("ab") / "days.parquet"
  parquet.write_table(pa.table(rows), path)
  return path


ASKED = ("--arm=variant", "--control=A", "--metric=clicks/shown")
SHARES = ("--share=A=2", "--share=B=1", "--share=C=1")


def test_a_test_from_its_table_to_its_files(rows, table, tmp_path):
  outs = [tmp_path / f"found.{ending}" for ending in ("json", "md", "png")]
  status, out, err = command(
    "ab", table, *ASKED, *SHARES, "--unit=user", "--order=day",
    "--before=clicks_before", *(f"--out={path}" for path in outs)
  )  # fmt: skip
  assert status == 0, err
  assert "the control is A" in out and "are as planned" in out
  found = json.loads(outs[0].read_text())
  assert [each["arm"] for each in found["effects"]] == ["B", "C"]
  sums = {
    name: np.bincount(rows["user"], rows[name]) for name in ("clicks", "shown")
  }
  first = np.unique(rows["user"], return_index=True)[1]
  place = np.searchsorted(["A", "B", "C"], rows["variant"][first])
  before = rows["clicks_before"][first][:, None]
  peer = effects(
    [Measured("ctr", sums["clicks"], sums["shown"], before)], place
  )
  for told, each in zip(found["effects"], peer):
    assert told["difference"] == pytest.approx(each.difference)
    assert told["p_holm"] == pytest.approx(each.p_holm)
  better, same = found["effects"]
  assert better["p_holm"] < 1e-4 and better["variance_reduction"] > 0.1
  assert 0.3 < better["lift"] < 0.7 and same["p_holm"] > 0.05
  seen = found["over_time"][0]
  assert seen["stop"] is not None and seen["low"][seen["stop"]] > 0
  assert f"clear since {seen['num_units'][seen['stop']]:,} of" in out
  text = outs[1].read_text()
  assert "| clicks/shown | B |" in text and "**<.0001**" in text
  assert outs[2].read_bytes()[1:4] == b"PNG"


def test_a_mismatch_of_sizes_is_told_first(table):
  status, out, _ = command("ab", table, *ASKED, "--unit=user")
  lines = out.splitlines()
  assert status == 0 and lines[1].startswith("SAMPLE RATIO MISMATCH (p <.0001)")
  assert "1,000, 1,000, 1,000 were planned" in lines[1]
  assert "at all looks" not in out and "CUPED" not in out


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--metric=clicks"], "needs --arm"),
    (["--arm=variant", "--control=A"], "needs --metric"),
    ([*ASKED, "--gin.SEED=1"], "reads no gin"),
    ([*ASKED, "--out=found.html"], "'.json', '.md', '.png'; got '.html'"),
    ([*ASKED, "--share=A=1"], "'B' is missing"),
    ([*ASKED, "--share=A=0"], "a positive number; got 'A=0'"),
    ([*ASKED, "--share=a=1"], "--share.*must be one of 'A', 'B', 'C'"),
    ([*ASKED, "--alpha=2"], "alpha must lie in"),
    ([*ASKED, "--looks=5"], "in the order of --order"),
    ([*ASKED, "--order=day", "--looks=0"], "num_looks must lie in"),
    ([*ASKED, "--order=date"], "no column 'date'"),
    (["--arm=variant", "--control=D", "--metric=clicks"], "the control must"),
  ],
)  # fmt: skip
def test_mistakes_of_a_call(table, arguments, message):
  status, _, err = command("ab", table, *arguments)
  assert status == 1 and re.search(message, err)


def test_a_call_without_a_table():
  status, _, err = command("ab", *ASKED)
  assert status == 1 and "needs one table" in err


def test_sizes_of_rates_and_means(tmp_path):
  out = tmp_path / "size.json"
  status, text, _ = command(
    "sample_size", "--rate=0.05", "--lift=0.1", f"--out={out}"
  )
  assert status == 0
  asked = json.loads(out.read_text())["rows"][2]
  assert asked["control"] == sample_size_of_rates(0.05, 0.055)
  assert f"{asked['control']:,}" in text and "+10.00%" in text
  command(
    "sample_size", "--stddev=3", "--effect=0.2", "--ratio=2", "--tests=5",
    "--power=0.9", "--reduction=0.75", f"--out={out}"
  )  # fmt: skip
  asked = json.loads(out.read_text())["rows"][2]
  assert asked["control"] == sample_size_of_means(
    0.2, 1.5, ratio=2.0, alpha=0.01, power=0.9
  )
  assert asked["treatment"] == 2 * asked["control"]


def test_neighbours_that_are_no_rates_are_left_out(tmp_path):
  out = tmp_path / "size.json"
  for rate, lift, num in ((0.6, 0.5, 3), (0.05, -0.6, 4)):
    status, _, _ = command(
      "sample_size", f"--rate={rate}", f"--lift={lift}", f"--out={out}"
    )
    rows = json.loads(out.read_text())["rows"]
    assert status == 0 and len(rows) == num
    assert all(0 <= rate + row["effect"] <= 1 for row in rows)


def test_what_is_not_known_is_null(tmp_path):
  out = tmp_path / "size.json"
  command("sample_size", "--stddev=1e-9", "--effect=1", f"--out={out}")
  found = json.loads(out.read_text())
  assert found["mean"] is None and found["rows"][0]["lift"] is None
  assert found["rows"][0]["control"] == 2


def test_a_rough_p_value_and_names_that_are_no_formulas(tmp_path):
  random = np.random.default_rng(0)
  rows = {
    "arm": np.repeat(["[a]", "$b$"], [2700, 300]),
    r"x$\frac$": random.binomial(1, 0.005, 3000),
  }
  path, png = tmp_path / "units.pq", tmp_path / "found.png"
  parquet.write_table(pa.table(rows), path)
  status, out, err = command(
    "ab", path, "--arm=arm", "--control=[a]", r"--metric=x$\frac$",
    "--share=[a]=9", "--share=$b$=1", f"--out={png}"
  )  # fmt: skip
  assert status == 0, err
  assert "x$\\frac$, $b$: the p-value is rough" in out and png.exists()


def test_what_units_see(tmp_path):
  out = tmp_path / "size.json"
  command("sample_size", "--rate=.05", "--units=5000", f"--out={out}")
  (asked,) = json.loads(out.read_text())["rows"]
  assert asked["effect"] == smallest_difference_of_rates(5000, 0.05)
  assert (asked["control"], asked["all"]) == (5000, 10_000)


def test_a_pilot_tells_mean_and_deviation(rows, table, tmp_path):
  out = tmp_path / "size.json"
  status, _, err = command(
    "sample_size", f"--pilot={table}", "--metric=clicks/shown", "--unit=user",
    "--lift=0.05", f"--out={out}"
  )  # fmt: skip
  assert status == 0, err
  found = json.loads(out.read_text())
  rate = rows["clicks"].sum() / rows["shown"].sum()
  assert found["mean"] == pytest.approx(rate)
  clicks, shown = (
    np.bincount(rows["user"], rows[name]) for name in ("clicks", "shown")
  )
  spread = np.std(clicks - rate * shown, ddof=1) / shown.mean()
  assert found["stddev"] == pytest.approx(spread)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "needs one of --rate, --stddev; got none"),
    (["--rate=.1"], "one of --effect, --lift, --units; got none"),
    (["--rate=.1", "--stddev=1"], "got --rate and --stddev"),
    (["--rate=.1", "--mean=1", "--lift=.1"], "got --rate and --mean"),
    (["--rate=.1", "--lift=.1", "--effect=.1"], "got --effect and --lift"),
    (["--rate=.1", "--units=9", "--lift=.1"], "got --units and --lift"),
    (["--rate=1.5", "--lift=.1"], "--rate must lie in"),
    (["--rate=.5", "--lift=2"], "treatment must lie in"),
    (["--rate=.5", "--lift=.2", "--alpha=2"], "--alpha must lie in"),
    (["--rate=.5", "--lift=.2", "--power=.02"], "power must be above alpha"),
    (["--rate=.5", "--lift=.2", "--unit=user"], "--unit is one of a --pilot"),
    (["--stddev=2", "--lift=.1"], "a positive --rate or --mean"),
    (["--stddev=2", "--effect=0"], "not 0"),
    (["--rate=.1", "--units=2"], "do not tell a rate"),
    (["--rate=.1", "--lift=.1", "--tests=0"], "--tests must lie in"),
    (["--rate=.1", "--lift=.1", "--reduction=1"], "--reduction must lie in"),
    (["--pilot=x.csv", "--lift=.1"], "--pilot needs --metric"),
    (["--rate=.1", "--lift=.1", "more"], "takes flags alone; got 'more'"),
    (["--rate=.1", "--lift=.1", "--out=x.md"], "'.json'; got '.md'"),
  ],
)  # fmt: skip
def test_mistakes_of_a_size(arguments, message):
  status, _, err = command("sample_size", *arguments)
  assert status == 1 and message in err
