"""Whether groups of runs may be compared, and by which metrics."""

from collections.abc import Sequence

from recjax.errors import RunError
from recjax.runs.collection import Group
from recjax.runs.protocol_differences import explanation_lines


def check_comparable(groups: Sequence[Group]) -> None:
  """Raises RunError unless all runs have the same data and protocol."""
  first = groups[0]
  for other in groups[1:]:
    for key, what in (
      ("data_fingerprint", "the data"),
      ("protocol_hash", "the protocol"),
    ):
      one, two = first.first[key], other.first[key]
      if one != two:
        raise RunError(
          f"{first.first['name']} ({first.runs[0].workdir}) and"
          f" {other.first['name']} ({other.runs[0].workdir}) differ in {what}:"
          f" {one[:12]} and {two[:12]}{_differing(first, other, key)}"
        )


def _differing(a: Group, b: Group, key: str) -> str:
  never = "Such numbers are not compared."
  if key != "protocol_hash":
    return f" ({a.first['dataset']} and {b.first['dataset']}). {never}"
  lines = explanation_lines(a.first["protocol"], b.first["protocol"])
  workdirs = f"{a.runs[0].workdir} {b.runs[0].workdir}"
  return "\n".join(
    [
      f". {never} With A the first:",
      *(f"  {line}" for line in lines),
      f"`recjax explain {workdirs}` says this again.",
    ]
  )


def group_names(groups: Sequence[Group]) -> list[str]:
  """Their names; with the hash of the config where two are called alike."""
  names = [group.first["name"] for group in groups]
  return [
    name
    if names.count(name) == 1
    else f"{name} ({group.first['config_hash'][:6]})"
    for name, group in zip(names, groups)
  ]


def shared_metrics(groups: Sequence[Group]) -> list[str]:
  """The test metrics that all runs have, in the order of the first."""
  return [
    name
    for name in groups[0].first["metrics"]
    if all(name in r.result["metrics"] for g in groups for r in g.runs)
  ]
