"""Reports of runs, made from their records alone."""

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Sequence

import rich.box
import rich.console
import rich.table
import rich.text

from recjax import errors, files
from recjax.runs import (
  collection,
  front,
  html_page,
  labels,
  plots,
  slice_plot,
  slice_tables,
  tables,
)
from recjax.runs.protocol_differences import explanation_lines
from recjax.runs.sampling_bias import bias_table

# In a terminal: run, data set and seeds; a number with its interval.
_NAMES_WIDTH, _NUMBER_WIDTH = 42, 19
_PLOTS = ("training", "test", "slices", "pareto")
_INTERVALS = (
  "Intervals are of 95%: the bootstrap over users for one seed. Several seeds "
  "are given as mean ± standard deviation with their number n. Numbers of "
  "different protocols are never put in one column."
)
_SAMPLING = "What sampling did"
_BETWEEN = "Between the protocols"


@dataclasses.dataclass(frozen=True)
class ReportPaths:
  """Where a report was written.

  Attributes:
    markdown: report.md; its plots are beside it.
    html: report.html, which needs no other file.
  """

  markdown: pathlib.Path
  html: pathlib.Path


@dataclasses.dataclass(frozen=True)
class _Content:
  """What a report says."""

  tables: list[tables.ProtocolTable]
  failures: list[collection.Failure]
  runs: list[collection.Run]

  @functools.cached_property
  def sliced(self) -> list[slice_tables.SliceTables]:
    """The slices of each run."""
    return [slice_tables.slice_tables(run) for run in self.runs]

  @property
  def lead(self) -> str:
    done = len(self.runs)
    text = f"{done} finished run{'' if done == 1 else 's'}"
    number = len(self.tables)
    text += f", {number} protocol{'' if number == 1 else 's'}"
    if self.failures:
      text += f"; {len(self.failures)} not in the tables (listed below)"
    return f"{text}."

  @property
  def differences(self) -> list[tuple[str, list[str]]]:
    """Of each protocol but the first: a title, and what differs."""
    found = []
    for table in self.tables[1:]:
      names, protocols = zip(
        *(
          (each.protocol_hash[:6], each.groups[0].first["protocol"])
          for each in (self.tables[0], table)
        )
      )
      told = explanation_lines(*protocols, names)  # pyright: ignore
      title = " and ".join(names)
      found.append((title, told or ["The records hold the same fields."]))
    return found


def _read(workdirs: Iterable[files.PathLike]) -> _Content:
  workdirs = list(workdirs)
  if not workdirs:
    raise errors.RunError("no workdir was given to report on.")
  runs, failures = collection.load_runs(workdirs)
  groups, left_out = collection.group_runs(runs)
  in_tables = [run for group in groups for run in group.runs]
  return _Content(
    tables.protocol_tables(groups), failures + left_out, in_tables
  )


def make_report(
  workdirs: Iterable[files.PathLike],
  out: files.PathLike,
  *,
  title: str = "recjax report",
) -> ReportPaths:
  """Writes report.md (with plots/) and report.html.

  Args:
    workdirs: of runs, or folders that hold some.
    out: the folder to write into.
    title: of the report.

  Returns:
    The paths of the report.

  Raises:
    RunError: no workdir is given. One that is broken or not finished is
      listed in the report, with the reason.
  """
  content = _read(workdirs)
  out = pathlib.Path(out)
  images = _plot_all(content)
  for name, png in images.items():
    path = out / "plots" / f"{name}.png"
    files.write_atomically(path, lambda file, png=png: file.write(png))
  paths = ReportPaths(out / "report.md", out / "report.html")
  files.write_text_atomically(paths.markdown, _markdown(content, images, title))
  files.write_text_atomically(paths.html, _html(content, images, title))
  return paths


# --- Plots -----------------------------------------------------------------


def _run_plot_name(number: int, run: collection.Run, kind: str) -> str:
  name = re.sub(r"[^\w.-]+", "_", run.result["name"])
  return f"{number:02d}_{name}_{kind}"


def _compared(
  table: tables.ProtocolTable,
) -> list[tuple[str, str, tuple[collection.Group, ...]]]:
  """(plot name, metric, groups) of each data set with several runs."""
  found = []
  for part in table.by_data():
    shared = [
      metric
      for metric in table.metrics
      if all(group.estimate(metric) is not None for group in part)
    ]
    if len(part) > 1 and shared:
      first = part[0].first
      dataset = re.sub(r"[^\w.-]+", "_", first["dataset"])
      name = f"{table.protocol_hash}_{dataset}_{first['data_fingerprint'][:8]}"
      found.append((name, labels.headline(shared), part))
  return found


def _plot_all(content: _Content) -> dict[str, bytes]:
  images = {}
  for table in content.tables:
    for name, metric, part in _compared(table):
      figure = plots.comparison_figure(part, metric)
      images[name] = plots.png_bytes(figure)
  for number, run in enumerate(content.runs, 1):
    if run.metrics:
      figure = plots.training_figure(
        run.metrics, best_step=run.result.get("best_step")
      )
      name = _run_plot_name(number, run, "training")
      images[name] = plots.png_bytes(figure)
    name = _run_plot_name(number, run, "test")
    images[name] = plots.png_bytes(plots.test_figure(run.result))
    if (sliced := content.sliced[number - 1]).slices:
      figure = slice_plot.overview_figure(sliced.slices, sliced.metric)
      name = _run_plot_name(number, run, "slices")
      images[name] = plots.png_bytes(figure)
    if run.result.get("pareto_front"):
      figure = front.front_figure(run.result["pareto_front"])
      name = _run_plot_name(number, run, "pareto")
      images[name] = plots.png_bytes(figure)
  return images


# --- Text ------------------------------------------------------------------


def _run_facts(run: collection.Run) -> list[tuple[str, str]]:
  result, env = run.result, run.env
  commit = result.get("commit") or env.get("commit") or ""
  best = result.get("best_step")
  dirty = result.get("dirty") or env.get("dirty")
  facts = [
    ("workdir", str(run.workdir)),
    ("command", result.get("command") or env.get("command") or ""),
    ("data set", f"{result['dataset']} ({result['data_fingerprint'][:12]})"),
    ("model", result["model"]),
    ("seed", str(result["seed"])),
    ("best step", "" if best is None else f"{best:,}"),
    ("wall time", labels.duration(result["wall_secs"])),
    ("device", result["device"]),
    ("finished", result.get("finished_at", "")),
    ("config hash", result["config_hash"]),
    ("protocol hash", result["protocol_hash"]),
    ("commit", commit[:12] + (" with changes" if dirty else "")),
    *(("note", text) for text in result.get("notes") or ()),
  ]
  return [(name, text) for name, text in facts if text]


def _environment_text(run: collection.Run) -> str:
  return json.dumps(run.env or run.result["versions"], indent=2)


def _markdown(content: _Content, images: dict[str, bytes], title: str) -> str:
  lines = [f"# {title}", "", content.lead, "", _INTERVALS]
  for table in content.tables:
    lines += ["", f"## Protocol `{table.protocol_hash}`", ""]
    lines += [table.text, ""] if table.text else []
    lines += [f"- {name}: {value}" for name, value in table.fields] + [""]
    rows = [row.cells for row in table.rows]
    lines += tables.markdown_rows(table.header, rows)
    if bias := bias_table(table):
      lines += ["", f"### {_SAMPLING}"]
      if rows := [row.cells for row in bias.rows]:
        lines += ["", *tables.markdown_rows(bias.header, rows)]
      lines += ["", *(f"- {note}" for note in bias.notes)]
    for name, metric, _ in _compared(table):
      label = labels.metric_label(metric)
      lines += ["", f"![{label} of the runs](plots/{name}.png)"]
  if content.differences:
    lines += ["", f"## {_BETWEEN}"]
  for title, told in content.differences:
    lines += ["", f"### {title}", "", *(f"- {line}" for line in told)]
  lines += _failures_markdown(content.failures)
  if content.runs:
    lines += ["", "## Runs"]
  for number, run in enumerate(content.runs, 1):
    lines += ["", f"### {run.result['name']}, seed {run.result['seed']}", ""]
    lines += [f"- {name}: {text}" for name, text in _run_facts(run)]
    for kind in _PLOTS:
      name = _run_plot_name(number, run, kind)
      if name in images:
        lines += ["", f"![{kind}](plots/{name}.png)"]
    if run.result.get("pareto_front"):
      lines += ["", *front.front_markdown(run.result["pareto_front"])]
    lines += content.sliced[number - 1].markdown()
    for summary, text in (
      ("Config", run.config_text),
      ("Environment", _environment_text(run)),
    ):
      lines += ["", f"<details><summary>{summary}</summary>", "", "```"]
      lines += [text.strip(), "```", "", "</details>"]
  return "\n".join(lines) + "\n"


def _failures_markdown(failures: Sequence[collection.Failure]) -> list[str]:
  if not failures:
    return []
  cells = [
    (tables.Cell(str(failure.workdir)), tables.Cell(failure.reason))
    for failure in failures
  ]
  rows = tables.markdown_rows(("workdir", "why"), cells)
  return ["", "## Not in the tables", "", *rows]


def _image(png: bytes, alt: str) -> str:
  return html_page.image(png, alt, scale=plots.PIXELS_PER_POINT)


def _html(content: _Content, images: dict[str, bytes], title: str) -> str:
  sections = []
  for table in content.tables:
    parts = [f"<h2>Protocol <code>{table.protocol_hash}</code></h2>"]
    if table.text:
      parts.append(f'<p class="lead">{html_page.escape(table.text)}</p>')
    parts.append(html_page.definitions(table.fields))
    parts.append(html_page.table(table.header, table.rows))
    if bias := bias_table(table):
      parts.append(f"<h3>{_SAMPLING}</h3>")
      if bias.rows:
        parts.append(html_page.table(bias.header, bias.rows))
      parts.append(html_page.bullets(bias.notes))
    for name, metric, _ in _compared(table):
      parts.append(_image(images[name], labels.metric_label(metric)))
    sections.append(f"<section>{''.join(parts)}</section>")
  if content.differences:
    parts = [f"<h2>{_BETWEEN}</h2>"]
    for title, told in content.differences:
      parts += [f"<h3><code>{title}</code></h3>", html_page.bullets(told)]
    sections.append(f"<section>{''.join(parts)}</section>")
  if content.failures:
    rows = [
      tables.Row((tables.Cell(str(f.workdir)), tables.Cell(f.reason)))
      for f in content.failures
    ]
    sections.append(
      '<section class="warn"><h2>Not in the tables</h2>'
      + html_page.table(("workdir", "why"), rows)
      + "</section>"
    )
  for number, run in enumerate(content.runs, 1):
    sliced = content.sliced[number - 1].html()
    sections.append(_run_section(number, run, images, sliced))
  return html_page.page(title, content.lead, sections, _INTERVALS)


def _run_section(
  number: int, run: collection.Run, images: dict[str, bytes], sliced: str
) -> str:
  name = html_page.escape(run.result["name"])
  seed = html_page.escape(run.result["seed"])
  parts = [
    f"<h2>{name} <code>seed {seed}</code></h2>",
    html_page.definitions(_run_facts(run)),
  ]
  for kind in _PLOTS:
    plot = _run_plot_name(number, run, kind)
    if plot in images:
      parts.append(_image(images[plot], f"{kind} of {run.result['name']}"))
  found = run.result.get("pareto_front")
  if found:
    parts.append(f"<p>{html_page.escape(front.front_lead(found))}</p>")
    parts.append(html_page.table(*front.front_table(found)))
  parts.append(sliced)
  parts.append(html_page.details("Config", run.config_text))
  parts.append(html_page.details("Environment", _environment_text(run)))
  return f"<section>{''.join(parts)}</section>"


def print_report(
  workdirs: Iterable[files.PathLike],
  console: rich.console.Console | None = None,
) -> None:
  """Prints the tables of `make_report` in a terminal.

  Args:
    workdirs: of runs, or folders that hold some.
    console: where to print; the standard output by default.
  """
  console = console or rich.console.Console()
  content = _read(workdirs)
  for table in content.tables:
    text = f": {table.text}" if table.text else ""
    fields = "; ".join(f"{name} {value}" for name, value in table.fields)
    console.print(
      f"Protocol {table.protocol_hash}{text or ': ' + fields}", markup=False
    )
    first, end = 4, 4 + len(table.metrics)
    fitting = max(1, (console.width - _NAMES_WIDTH) // _NUMBER_WIDTH)
    for start in range(first, end, fitting):
      columns = (0, 1, 3, *range(start, min(start + fitting, end)))
      console.print(_terminal_table(table, columns))
    if bias := bias_table(table):
      for line in bias.lines():
        console.print(line, markup=False, soft_wrap=True)
  for failure in content.failures:
    text = f"{failure.workdir}: {failure.reason}"
    console.print(text, markup=False, soft_wrap=True)


def _terminal_table(
  table: tables.ProtocolTable, columns: Sequence[int]
) -> rich.table.Table:
  """Some columns of the table; numbers are never cut, names may wrap."""
  shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
  for index in columns:
    cells = [row.cells[index] for row in table.rows]
    is_number = any(cell.is_number for cell in cells)
    widths = [max(len(cell.text), len(cell.note)) for cell in cells]
    shown.add_column(
      table.header[index],
      justify="right" if is_number else "left",
      min_width=max(widths) if is_number else None,
      overflow="fold",
    )
  for row in table.rows:
    texts = []
    for index in columns:
      cell = row.cells[index]
      text = rich.text.Text(cell.text, style="bold" if cell.is_best else "")
      if cell.is_number and cell.note:  # The hashes stay in the report.
        text.append(f"\n{cell.note}", style="dim")
      texts.append(text)
    shown.add_row(*texts, style="dim" if row.is_reference else "")
  return shown
