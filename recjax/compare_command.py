"""`recjax compare`: paired tests between the configs of finished runs."""

import collections
import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table
import rich.text
from absl import flags
from rich import console

from recjax import files
from recjax.command_flags import (
  AS_RECORDED,
  check_outs,
  parse,
  refuse_bindings,
)
from recjax.errors import ConfigError, RunError
from recjax.run_comparison import Finding, RunComparison
from recjax.runs import labels, tables
from recjax.runs.collection import Group, group_runs, load_runs
from recjax.runs.comparable import group_names, shared_metrics
from recjax.runs.record import plain

_SUFFIXES = (".json", ".md", ".csv")
_HEADER = (
  "A - B",
  "metric",
  "over",
  "n",
  "A",
  "B",
  "difference",
  "95% interval",
  "p",
  "p (Holm)",
  "note",
)
_WIDTH = 120  # Of the table where there is no terminal to fit.
_LEAD = (
  "Differences are A - B. Over seeds: Student's paired test of the runs of one"
  " seed. Over rows: DeLong's test; over users: paired tests of each user's"
  " value; both of the mean over seeds, with these models as they are. Over"
  " seeds and users: whether new seeds and new users would differ. Holm's"
  " correction is over all pairs and metrics of a kind of test."
)


def compare(arguments: Sequence[str]) -> None:
  """Tells which configs differ: over seeds, over rows and over users."""

  def define(values: flags.FlagValues) -> None:
    for name, help_text in (
      ("metric", "A test metric, such as auc/click; may be repeated. The first"
       " that all runs have by default."),
      ("out", "A file of the findings, .json, .md or .csv; may be repeated."),
    ):  # fmt: skip
      flags.DEFINE_multi_string(name, [], help_text, flag_values=values)
    flags.DEFINE_string(
      "user", "", "The column of users, one of those that the protocol groups"
      " by; the first by default.", flag_values=values,
    )  # fmt: skip

  values, workdirs, bindings = parse("compare", arguments, define)
  if not workdirs:
    raise ConfigError("recjax compare needs the workdirs of two or more runs.")
  refuse_bindings("compare", bindings, AS_RECORDED)
  check_outs(values["out"], _SUFFIXES)
  runs, failures = load_runs(workdirs)
  groups, left_out = group_runs(runs)
  notes = [f"{each.workdir}: {each.reason}" for each in failures + left_out]
  try:
    comparison = RunComparison(groups, values["user"])
  except RunError as error:
    raise RunError("\n".join([str(error), *notes])) from error
  metrics = values["metric"] or shared_metrics(groups)[:1]
  if not metrics:
    raise ConfigError("recjax compare: there is no metric that all runs have.")
  findings = comparison.find(list(dict.fromkeys(metrics)))
  notes += comparison.notes
  _print(groups, findings, notes)
  for out in values["out"]:
    _write(pathlib.Path(out), groups, findings, notes)
    print(out)


def _cells(finding: Finding) -> list[tables.Cell]:
  sign = lambda x: "–" if x is None else f"{x:+.5f}"
  ends = finding.interval
  number = lambda text: tables.Cell(text, is_number=True)
  return [
    tables.Cell(f"{finding.a} - {finding.b}"),
    tables.Cell(labels.metric_label(finding.metric)),
    tables.Cell(finding.over),
    number(f"{finding.num:,}" if finding.num else "–"),
    number(labels.number(finding.mean_a)),
    number(labels.number(finding.mean_b)),
    number(sign(finding.difference)),
    tables.Cell("–" if ends is None else f"[{sign(ends[0])}, {sign(ends[1])}]"),
    number(labels.p_value(finding.p_value)),
    number(labels.p_value(finding.p_holm)),
    tables.Cell(finding.note),
  ]


def _head(groups: Sequence[Group]) -> list[str]:
  first = groups[0].first
  protocol = first.get("protocol_text") or ""
  head = [
    f"data {first['dataset']} ({first['data_fingerprint'][:12]})",
    f"protocol {first['protocol_hash']}" + (protocol and f": {protocol}"),
  ]
  for name, group in zip(group_names(groups), groups):
    seeds = ", ".join(map(str, group.seeds))
    head.append(f"{name}: seeds {seeds}")
  return head


def _print(
  groups: Sequence[Group], findings: Sequence[Finding], notes: Sequence[str]
) -> None:
  out = console.Console()
  if not out.is_terminal:
    out.width = max(out.width, _WIDTH)
  for line in _head(groups):
    out.print(line, markup=False, soft_wrap=True)
  tested = _tested(findings)
  for metric in dict.fromkeys(finding.metric for finding in tested):
    of_metric = [each for each in tested if each.metric == metric]
    out.print(_table(labels.metric_label(metric), of_metric))
  out.print(_LEAD, markup=False, soft_wrap=True)
  for note in [*_untested(findings), *notes]:
    out.print(f"NOTE {note}", markup=False, soft_wrap=True)


def _table(title: str, findings: Sequence[Finding]) -> rich.table.Table:
  """One metric's tests; the names of a pair stand at its first."""
  shown = rich.table.Table(
    title=title,
    title_justify="left",
    box=rich.box.SIMPLE_HEAD,
    pad_edge=False,
    padding=(0, 1, 0, 0),
  )
  left_out = [_HEADER.index(name) for name in ("metric", "note")]
  for place, name in enumerate(_HEADER):
    if place not in left_out:
      is_text = name in ("A - B", "over")
      shown.add_column(
        name, justify="left" if is_text else "right", no_wrap=place > 0
      )
  pair = None
  for finding in findings:
    texts = [cell.text for cell in _cells(finding)]
    texts[0], pair = "" if texts[0] == pair else texts[0], texts[0]
    kept = (x for place, x in enumerate(texts) if place not in left_out)
    shown.add_row(*map(rich.text.Text, kept))
  return shown


def _tested(findings: Sequence[Finding]) -> list[Finding]:
  return [each for each in findings if each.difference is not None]


def _untested(findings: Sequence[Finding]) -> list[str]:
  """Why tests were not made, each reason once."""
  counts = collections.Counter(
    f"not tested over {each.over}: {each.note}"
    for each in findings
    if each.difference is None
  )
  return [
    f"{reason} ({'a pair' if count == 1 else f'{count} pairs'})"
    for reason, count in counts.items()
  ]


def _write(
  path: pathlib.Path,
  groups: Sequence[Group],
  findings: Sequence[Finding],
  notes: Sequence[str],
) -> None:
  if path.suffix == ".json":
    files.write_json_atomically(path, plain(_facts(groups, findings, notes)))
    return
  if path.suffix == ".csv":
    files.write_text_atomically(path, _csv(findings))
    return
  rows = [_cells(finding) for finding in _tested(findings)]
  lines = ["# Comparison of runs", "", *(f"- {x}" for x in _head(groups)), ""]
  lines += [*tables.markdown_rows(_HEADER, rows), "", _LEAD]
  for note in [*_untested(findings), *notes]:
    lines += ["", f"Note: {note}"]
  files.write_text_atomically(path, "\n".join(lines) + "\n")


def _facts(groups, findings, notes) -> dict[str, Any]:
  first = groups[0].first
  keys = ("dataset", "data_fingerprint", "protocol_hash", "protocol")
  return {
    **{key: first[key] for key in keys},
    "groups": [
      {
        "name": name,
        "seeds": group.seeds,
        "config_hashes": [run.result["config_hash"] for run in group.runs],
        "workdirs": [str(run.workdir) for run in group.runs],
      }
      for name, group in zip(group_names(groups), groups)
    ],
    "findings": [dataclasses.asdict(finding) for finding in findings],
    "notes": notes,
  }


def _csv(findings: Sequence[Finding]) -> str:
  text = io.StringIO()
  names = [field.name for field in dataclasses.fields(Finding)]
  names[names.index("interval") : names.index("interval") + 1] = "low", "high"
  writer = csv.DictWriter(text, names, lineterminator="\n")
  writer.writeheader()
  for finding in findings:
    row = dataclasses.asdict(finding)
    row["low"], row["high"] = row.pop("interval") or (None, None)
    writer.writerow(row)
  return text.getvalue()
