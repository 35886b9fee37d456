"""The report of a sweep: Markdown, HTML and LaTeX, from its records alone."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping

import rich.console
from matplotlib import figure as mpl_figure

from recjax import files
from recjax.metrics.names import better
from recjax.runs import html_page, labels, latex, plots, tables
from recjax.runs.plot_style import as_written, png_bytes
from recjax.runs.terminal_table import terminal_table
from recjax.sweeps import marginals, sweep_plots, sweep_tables
from recjax.sweeps.results import SweepResults, load_results
from recjax.sweeps.sweep_tables import Table

_WIDTH = 120  # Of tables where there is no terminal to fit.
_LEFT_OUT = ("tested over", "p (BH)", "effect size", "time a run")


@dataclasses.dataclass(frozen=True)
class SweepReport:
  """Tables and pictures of a sweep.

  Attributes:
    title: of the sweep.
    facts: what all runs share.
    tables: in their order.
    images: PNG by name, in their order.
  """

  title: str
  facts: tuple[tuple[str, str], ...]
  tables: tuple[Table, ...]
  images: Mapping[str, bytes]


def make_report(results: SweepResults) -> SweepReport:
  """All that is told of a sweep."""
  found: list[Table] = []
  figures = {"means": sweep_plots.means_figure(results)}
  if sweep_tables.is_search(results):
    found.append(sweep_tables.search_table(results))
  else:
    found.append(sweep_tables.factor_table(results))
  if not sweep_tables.is_search(results) and marginals.is_balanced(results):
    of_levels = marginals.marginals(results)
    pairs = marginals.interactions(results)
    found += [
      sweep_tables.marginal_table(results, of_levels),
      sweep_tables.interaction_table(results, pairs),
    ]
    figures["marginals"] = sweep_plots.marginals_figure(results, of_levels)
    figures["interactions"] = sweep_plots.interactions_figure(
      pairs, results.metric
    )
  found.append(sweep_tables.metrics_table(results))
  missing = sweep_tables.missing_table(results)
  found += [] if missing is None else [missing]
  if results.select in (results.first.get("validation") or {}):
    figures["curves"] = sweep_plots.curves_figure(results, results.select)
  if any(math.isfinite(row.mean(results.metric)) for row in results.rows):
    figures["cost"] = sweep_plots.cost_figure(results)
  if min(len(row.levels) for row in results.rows) > 1:
    figures |= _parallel(results)
  for figure in figures.values():
    as_written(figure)
  images = {name: png_bytes(figure) for name, figure in figures.items()}
  return SweepReport(
    results.sweep["title"], _facts(results), tuple(found), images
  )


def _parallel(results: SweepResults) -> dict[str, mpl_figure.Figure]:
  """By what a combination is judged: in a search, by validation alone.

  Nothing where that is defined for none.
  """
  is_search = sweep_tables.is_search(results)
  if is_search:
    name = f"validation {labels.metric_label(results.select)}"
    values = {r.name: r.validation(results.select) for r in results.rows}
  else:
    name = f"test {labels.metric_label(results.metric)}"
    values = {r.name: r.mean(results.metric) for r in results.rows}
  if not any(map(math.isfinite, values.values())):
    return {}
  judge = results.select if is_search else results.metric
  figure = sweep_plots.parallel_figure(
    results, values, name, lower=better(judge) < 0
  )
  return {"parallel": figure}


def _facts(results: SweepResults) -> tuple[tuple[str, str], ...]:
  first, sweep = results.first, results.sweep
  runs = results.runs
  num_missing = sum(each.seed is not None for each in results.missing)
  devices = sorted({labels.short_device(r.result["device"]) for r in runs})
  commits = sorted(
    {str(r.result.get("commit") or "")[:12] for r in runs} - {""}
  )
  secs = sum(run.result["wall_secs"] for run in runs)
  fingerprints = {run.result["data_fingerprint"] for run in runs}
  data = f"{first['dataset']} ({first['data_fingerprint'][:12]})"
  if len(fingerprints) > 1:
    data = f"{first['dataset']}, drawn anew for each seed"
  facts = [
    ("base run", ", ".join(sweep["gin_files"])),
    ("settings of all", "; ".join(sweep["bindings"])),
    ("shape", sweep["shape"].replace("_", " ")),
    ("seeds", ", ".join(map(str, sweep["seeds"]))),
    ("runs", f"{len(runs)} in the tables, {num_missing} not"),
    ("time of all runs", labels.duration(secs)),
    ("device", " / ".join(devices)),
    ("data set", data),
    ("protocol", f"{first['protocol_hash']}: {first.get('protocol_text', '')}"),
    ("commit", ", ".join(commits)),
  ]
  return tuple((name, text) for name, text in facts if text)


def write_report(
  path: files.PathLike, out: files.PathLike, *, metric: str = ""
) -> tuple[pathlib.Path, ...]:
  """Writes report.md with plots/, report.html and report.tex.

  Args:
    path: the workdir of a sweep.
    out: the folder to write into.
    metric: the test metric to report; by default that of the sweep.

  Returns:
    The paths of the report.

  Raises:
    RunError: no trial has finished.
    ConfigError: no run has the metric.
  """
  report = make_report(load_results(path, metric))
  out = pathlib.Path(out)
  for name, png in report.images.items():
    files.write_atomically(
      out / "plots" / f"{name}.png", lambda file, png=png: file.write(png)
    )
  texts = {
    "report.md": _markdown(report),
    "report.html": _html(report),
    "report.tex": _latex(report),
  }
  for name, text in texts.items():
    files.write_text_atomically(out / name, text)
  return tuple(out / name for name in texts)


def _markdown(report: SweepReport) -> str:
  lines = [f"# {report.title}", ""]
  lines += [f"- {name}: {text}" for name, text in report.facts]
  for table in report.tables:
    lines += ["", f"## {table.title}", ""]
    lines += tables.markdown_rows(table.header, table.rows)
    lines += ["", table.note] if table.note else []
  for name in report.images:
    lines += ["", f"![{name}](plots/{name}.png)"]
  return "\n".join(lines) + "\n"


def _html(report: SweepReport) -> str:
  sections = [f"<section>{html_page.definitions(report.facts)}</section>"]
  for table in report.tables:
    rows = [tables.Row(cells) for cells in table.rows]
    parts = [f"<h2>{html_page.escape(table.title)}</h2>"]
    parts.append(html_page.table(table.header, rows))
    if table.note:
      parts.append(f'<p class="lead">{html_page.escape(table.note)}</p>')
    sections.append(f"<section>{''.join(parts)}</section>")
  shown = "".join(
    html_page.image(png, name, scale=plots.PIXELS_PER_POINT)
    for name, png in report.images.items()
  )
  sections.append(f"<section>{shown}</section>")
  lead = dict(report.facts)["runs"]
  return html_page.page(report.title, lead, sections, "")


def _latex(report: SweepReport) -> str:
  parts = [
    latex.table(
      table.header,
      table.rows,
      caption=f"{report.title}: {table.title.lower()}. {table.note}",
    )
    for table in report.tables
  ]
  return "\n".join(parts)


def print_report(
  path: files.PathLike,
  *,
  metric: str = "",
  console: rich.console.Console | None = None,
) -> None:
  """Prints the first tables of a sweep, and what is missing.

  Args:
    path: the workdir of a sweep.
    metric: as of `write_report`.
    console: where to print; the standard output by default.
  """
  out = console or rich.console.Console()
  if not out.is_terminal:
    out.width = max(out.width, _WIDTH)
  results = load_results(path, metric)
  search = sweep_tables.is_search(results)
  first = (
    sweep_tables.search_table(results)
    if search
    else sweep_tables.factor_table(results)
  )
  for table in (first, sweep_tables.missing_table(results)):
    if table is None:
      continue
    title = f"{results.sweep['title']}: {table.title.lower()}"
    out.print(
      terminal_table(table.header, table.rows, title=title, left_out=_LEFT_OUT)
    )
    if table.note:
      out.print(table.note, markup=False, soft_wrap=True)
