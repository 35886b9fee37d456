"""What the documentation says holds: code runs, links resolve, names exist."""

import contextlib
import doctest
import importlib
import io
import pathlib
import pkgutil
import re

import pytest
import yaml

import recjax
from recjax import cli
from recjax.runs import published, results_tables

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
  path.relative_to(ROOT).as_posix()
  for pattern in ("*.md", "docs/*.md", "experiments/*/README.md")
  for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
  return (ROOT / page).read_text("utf-8")


def code_blocks(text: str, language: str) -> list[str]:
  return [code for name, code in FENCE.findall(text) if name == language]


def padded_blocks(text: str) -> list[str]:
  """The Python blocks, on the lines that they have in the page."""
  blocks = []
  for found in FENCE.finditer(text):
    if found[1] == "python":
      line = text.count("\n", 0, found.start(2))
      blocks.append("\n" * line + found[2])
  return blocks


def anchors(text: str) -> set[str]:
  """The anchors of the headings, as GitHub and mkdocs make them."""
  text = FENCE.sub("", text)
  titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
  words = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
  return {title.strip().replace(" ", "-") for title in words}


# --- Code --------------------------------------------------------------------


@pytest.mark.parametrize(
  "page", [page for page in PAGES if padded_blocks(read(page))]
)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("RECJAX_CACHE_DIR", str(tmp_path / "cache"))
  names = {"__name__": "__docs__"}  # The blocks of a page build on each other.
  for block in padded_blocks(read(page)):
    exec(compile(block, str(ROOT / page), "exec"), names)


def modules_with_examples() -> list[str]:
  found = []
  for module in pkgutil.walk_packages(recjax.__path__, "recjax."):
    path = ROOT / (module.name.replace(".", "/") + ".py")
    if path.exists() and ">>>" in path.read_text("utf-8"):
      found.append(module.name)
  return found


def test_the_examples_of_docstrings_run():
  for name in modules_with_examples():
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed, name


# --- Links and names ---------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_resolve(page):
  folder = (ROOT / page).parent
  for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", read(page))):
    if target.startswith(("http://", "https://")):
      continue
    path, _, anchor = target.partition("#")
    linked = (folder / path).resolve() if path else ROOT / page
    assert linked.exists(), f"{page}: no {target}"
    assert linked.is_relative_to(ROOT), f"{page}: {target} leads out"
    if anchor:
      assert anchor in anchors(linked.read_text("utf-8")), f"{page}: {target}"


def test_the_site_has_every_page():
  site = yaml.safe_load(read("mkdocs.yml"))
  pages = set(re.findall(r"\w+\.md", str(site["nav"])))
  assert pages == {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", PAGES)
def test_gin_files_exist(page):
  folders = "datasets|models|runs|meshes|overlays"
  for name in re.findall(rf"\b(?:{folders})/\w+\.gin", read(page)):
    if "NAME" not in name:
      assert (ROOT / "gin" / name).is_file(), f"{page}: no gin/{name}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_the_checkout_exist(page):
  pattern = r"`((?:recjax|tests|benchmarks|gin|experiments)/[\w/.]*)`"
  for name in re.findall(pattern, read(page)):
    if "NAME" not in name and "a/b" not in name:  # Those stand for any.
      assert (ROOT / name).exists(), f"{page}: no {name}"


def known_flags(command: str) -> set[str]:
  """The flags of a command, from its own help."""
  lines = cli_help(command).splitlines()
  names = [re.match(r"\s*--(?:\[no\])?(\w+)", line) for line in lines]
  return {name[1] for name in names if name}


def cli_help(command: str) -> str:
  out = io.StringIO()
  with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
    cli.main([command, "--help"])
  return out.getvalue().split("Flags of")[1]


def shell_commands() -> list[tuple[str, str, str]]:
  """(page, command, its arguments) of all `recjax ...` in shell blocks."""
  found = []
  for page in PAGES:
    for block in code_blocks(read(page), "sh"):
      text = re.sub(r"\\\n\s*", "", block)
      for line in re.findall(r"^recjax (.*)$", text, re.MULTILINE):
        command, _, arguments = line.partition(" ")
        found.append((page, command, arguments.split("  #")[0]))
  return found


def test_commands_and_flags_exist():
  commands = shell_commands()
  assert {command for _, command, _ in commands} == set(cli.COMMANDS)
  flags_of = {command: known_flags(command) for command in cli.COMMANDS}
  for page, command, arguments in commands:
    for flag in re.findall(r"--(\w+)[=\s]", f"{arguments} "):
      assert flag in flags_of[command], f"{page}: {command} has no --{flag}"
  everywhere = set().union(*flags_of.values()) | {"gin", "strict"}
  for page in PAGES:
    for flag in re.findall(r"(?<![\w-])--([a-z_]+)", read(page)):
      assert flag in everywhere, f"{page}: no flag --{flag}"


def test_make_targets_exist():
  targets = set(re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE))
  for page in PAGES:
    for block in code_blocks(read(page), "sh"):
      for line in re.findall(r"^make ([a-z ]+)", block, re.MULTILINE):
        assert set(line.split()) <= targets, f"{page}: make {line}"


# --- Numbers and notices -----------------------------------------------------


def test_the_tables_of_results_are_up_to_date():
  rows = results_tables.load_all_results(ROOT / "experiments")
  assert results_tables.readme_is_current(ROOT / "README.md", rows)
  page = results_tables.results_page(ROOT / "experiments")
  assert read("docs/results.md") == page
  for readme in ROOT.glob("experiments/*/README.md"):
    own = results_tables.load_rows(readme.parent)
    assert results_tables.readme_is_current(readme, own), readme


@pytest.mark.parametrize(
  "path", sorted(ROOT.glob("experiments/*/published.toml")), ids=str
)
def test_published_numbers_are_of_runs_that_exist(path):
  for cell in published.load_published(path).cells:
    if cell.missing == "model":
      continue
    assert (ROOT / "gin" / "runs" / f"{cell.run}.gin").is_file(), cell.run
    text = read(f"gin/runs/{cell.run}.gin")
    assert f'Experiment.name = "{cell.run}"' in text
    if cell.range is None:
      assert cell.tolerance < cell.published


def test_the_citation():
  citation = yaml.safe_load(read("CITATION.cff"))
  assert citation["cff-version"] == "1.2.0"
  assert citation["version"] == recjax.__version__
  assert citation["license"] == "Apache-2.0"
  assert citation["message"] and citation["title"] and citation["authors"]


def test_the_license_is_whole():
  text = read("LICENSE")
  assert "Apache License" in text and "Version 2.0, January 2004" in text
  assert "END OF TERMS AND CONDITIONS" in text
  assert "9. Accepting Warranty or Additional Liability" in text


def test_the_changelog_knows_the_version():
  assert recjax.__version__ in read("CHANGELOG.md")
