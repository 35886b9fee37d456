"""Pieces of a self-contained HTML page: style, tables, images, details."""

import base64
import html
from collections.abc import Iterable, Sequence

from recjax.runs import tables

_STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --faint: #7b8794; --line: #e1e7ed;
  --wash: #f5f7fa; --blue: #2b6cb0; --warn: #b4541f; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica,
  Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 28px 64px; }
header h1 { margin: 0 0 6px; font-size: 28px; letter-spacing: -0.01em; }
header p { margin: 0 0 28px; color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 22px 26px; margin: 0 0 24px; }
h2 { margin: 0 0 10px; font-size: 19px; }
h3 { margin: 22px 0 6px; font-size: 16px; }
h2 code, h3 code { font-size: 0.8em; color: var(--faint); font-weight: 400; }
p.lead { margin: 0 0 12px; color: var(--soft); max-width: 80ch; }
dl { display: grid; grid-template-columns: repeat(auto-fill,
  minmax(230px, 1fr)); gap: 6px 20px; margin: 0 0 16px; }
dl div { border-left: 2px solid var(--line); padding-left: 10px; }
dt { color: var(--faint); font-size: 12px; }
dd { margin: 0; font-size: 13.5px; overflow-wrap: anywhere; }
ul { margin: 10px 0; padding-left: 20px; max-width: 90ch; font-size: 13.5px;
  color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: 12.5px;
  border-bottom: 2px solid var(--line); padding: 8px 12px 6px 0;
  white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 8px 12px 8px 0;
  vertical-align: top; }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
th.number, td.number { padding-right: 22px; }
td small { display: block; color: var(--faint); font-size: 11.5px;
  font-variant-numeric: tabular-nums; }
td b { color: var(--blue); }
tr.reference td { color: var(--faint); background: var(--wash); }
tr.reference td:first-child { padding-left: 12px; }
figure { margin: 14px 0 0; }
img { max-width: 100%; height: auto; display: block; }
details { margin-top: 12px; border-top: 1px solid var(--line);
  padding-top: 10px; }
summary { cursor: pointer; color: var(--blue); font-size: 14px; }
pre { background: var(--wash); border-radius: 6px; padding: 12px 14px;
  overflow-x: auto; font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas,
  monospace; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
section.warn { border-left: 4px solid var(--warn); }
footer { color: var(--faint); font-size: 13px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


def escape(text: object) -> str:
  """`text` with the marks of HTML written out."""
  return html.escape(str(text))


def page(title: str, lead: str, sections: Iterable[str], footer: str) -> str:
  """The whole page; it needs no other file and no network."""
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
    f"<body>\n<main>\n<header><h1>{escape(title)}</h1>\n"
    f"<p>{escape(lead)}</p></header>\n"
    + "\n".join(sections)
    + f"\n<footer>{escape(footer)}</footer>\n</main>\n</body>\n</html>\n"
  )


def image(png: bytes, alt: str, *, scale: int = 1) -> str:
  """An image that is part of the page.

  Args:
    png: its content.
    alt: what it shows.
    scale: pixels of the image for one of the page.
  """
  data = base64.b64encode(png).decode("ascii")
  width = int.from_bytes(png[16:20], "big") // scale  # Of the PNG header.
  return (
    f'<figure><img alt="{escape(alt)}" width="{width}" '
    f'src="data:image/png;base64,{data}"></figure>'
  )


def details(summary: str, text: str) -> str:
  """A preformatted text that opens on a click."""
  return (
    f"<details><summary>{escape(summary)}</summary>"
    f"<pre>{escape(text.strip())}</pre></details>"
  )


def folded(summary: str, content: str) -> str:
  """A piece of the page that opens on a click."""
  return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def definitions(fields: Sequence[tuple[str, str]]) -> str:
  """A list of names with what they are."""
  items = (
    f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    for name, value in fields
  )
  return f"<dl>{''.join(items)}</dl>"


def bullets(lines: Iterable[str]) -> str:
  """A list of sentences."""
  items = "".join(f"<li>{escape(line)}</li>" for line in lines)
  return f"<ul>{items}</ul>"


def table(header: Sequence[str], rows: Sequence[tables.Row]) -> str:
  """A table that scrolls on a narrow screen."""
  numbers = [
    any(row.cells[i].is_number for row in rows) for i in range(len(header))
  ]
  heads = (
    f"<th{' class=number' if right else ''}>{escape(name)}</th>"
    for name, right in zip(header, numbers)
  )
  lines = [f"<tr>{''.join(heads)}</tr>"]
  for row in rows:
    mark = ' class="reference"' if row.is_reference else ""
    lines.append(f"<tr{mark}>{''.join(map(_cell, row.cells))}</tr>")
  head, *body = lines
  return (
    f'<div class="scroll"><table><thead>{head}</thead>\n<tbody>'
    + "\n".join(body)
    + "</tbody></table></div>"
  )


def _cell(cell: tables.Cell) -> str:
  text = escape(cell.text)
  text = f"<b>{text}</b>" if cell.is_best else text
  note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
  mark = ' class="number"' if cell.is_number else ""
  return f"<td{mark}>{text}{note}</td>"
