"""The ledger: what it holds of made-up experiments, and that of ours."""

import json
import pathlib

import pytest

from recjax import errors
from recjax.runs import ledger
from recjax.runs.ledger import Check

ROOT = pathlib.Path(__file__).parents[2]
CELL = {
  "run": "lr",
  "dataset": "clicks",
  "model": "LR",
  "metric": "auc",
  "published": 0.8,
  "tolerance": 0.01,
  "source": "Table 1",
  "protocol": "random split",
}
ROW = {
  "name": "lr",
  "metric": "auc",
  "protocol": "clicks; best validation AUC",
  "protocol_hash": "aaaa",
  "published": 0.8,
  "measured": 0.805,
  "ci95": [0.8, 0.81],
  "seeds": [1, 2, 3],
  "wall_secs": 120.0,
  "config_hash": "cccc",
  "data_fingerprint": "ffff",
  "commit": "0123",
  "command": "recjax train --gin_file=runs/lr.gin",
  "device": "CPU, 2 cores",
}


def write(folder: pathlib.Path, cells, rows=None, recipes=()) -> pathlib.Path:
  """An experiment; tables of values of plain TOML."""
  lines = ['paper = "A. Author. A paper. 2020."', 'link = "https://x.org"']
  for kind, tables in (("cell", cells), ("recipe", recipes)):
    for table in tables:
      lines.append(f"[[{kind}]]")
      lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "published.toml").write_text("\n".join(lines))
  if rows is not None:
    (folder / "results.json").write_text(json.dumps(rows))
  return folder.parent


def entry(tmp_path, cell=(), row=None, check=None, recipe=()):
  """The one entry of a ledger."""
  root = write(
    tmp_path / "clicks",
    [CELL | dict(cell)],
    None if row is None else [ROW | row],
    [{"run": "lr", **dict(recipe)}] if recipe else (),
  )
  whole = ledger.load_ledger(root)
  checks = {} if check is None else {"lr": check}
  (found,) = whole.checked(checks).entries
  return found


# --- Status ------------------------------------------------------------------

MISSING = Check("cccc", missing_data="no file a.txt: looked for /d/a.txt.")


@pytest.mark.parametrize(
  ("measured", "status"),
  [(0.81, "within"), (0.79, "within"), (0.811, "outside"), (0.78, "outside")],
)
def test_the_status_of_a_result(tmp_path, measured, status):
  found = entry(tmp_path, {"why": "Ours."}, {"measured": measured})
  assert found.status == status
  assert (status == "within") == (round(abs(measured - 0.8), 9) <= 0.01)
  assert found.why == ("Ours." if status == "outside" else "")


@pytest.mark.parametrize(
  ("cell", "check", "status", "why"),
  [
    ({}, None, "no result", ""),
    ({}, Check("cccc"), "no result", ""),
    ({}, MISSING, "data not at hand", MISSING.missing_data),
    ({"missing": "data", "why": "Big."}, None, "data not at hand", "Big."),
    ({"missing": "data", "why": "Big."}, MISSING, "data not at hand", "Big."),
    ({"missing": "data", "why": "Big."}, Check("c"), "no result", "Big."),
    ({"missing": "model", "why": "None."}, None, "no model yet", "None."),
    ({}, Check(problem="no gin file"), "no result", ""),
  ],
)
def test_the_status_without_a_result(tmp_path, cell, check, status, why):
  found = entry(tmp_path, cell, check=check)
  assert (found.status, found.why) == (status, why)
  assert found.to_dict()["within"] is None
  assert (found.command == "") == (status == "no model yet")


def test_data_that_are_not_there_take_no_result_away(tmp_path):
  found = entry(tmp_path, row={}, check=MISSING)
  assert (found.status, found.why) == ("within", "")
  assert found.to_dict()["missing_data"] == MISSING.missing_data


def test_whether_the_config_is_that_of_the_result(tmp_path):
  assert entry(tmp_path, row={}).config_is_current is None
  assert entry(tmp_path, row={}, check=Check("cccc")).config_is_current
  other = entry(tmp_path, row={}, check=Check("dddd"))
  assert other.config_is_current is False
  broken = entry(tmp_path, row={}, check=Check(problem="no gin file"))
  assert broken.config_is_current is None
  assert broken.to_dict()["problem"] == "no gin file"


def test_what_a_seed_costs(tmp_path):
  seeds = {"seeds": [1, 2, 3]}
  told = entry(tmp_path / "a", recipe={**seeds, "minutes": 5})
  assert told.minutes_a_seed == 5
  assert told.to_dict()["minutes"] == 15
  # A measurement is worth more: 120 seconds.
  measured = entry(tmp_path / "b", row={}, recipe={**seeds, "minutes": 5})
  assert measured.minutes_a_seed == 2
  assert measured.to_dict()["minutes"] == 6
  assert entry(tmp_path / "c").minutes_a_seed is None
  assert entry(tmp_path / "c").to_dict()["minutes"] is None


# --- The whole ---------------------------------------------------------------

KEYS = {
  "name", "run", "experiment", "dataset", "model", "metric", "status",
  "within", "why", "published", "source", "paper", "link",
  "published_protocol", "tolerance", "range", "measured", "ci95", "seeds",
  "wall_secs", "device", "commit", "protocol", "protocol_hash", "config_hash",
  "config_is_current", "data_fingerprint", "made_by", "command", "recipe",
  "minutes", "problem", "missing_data",
}  # fmt: skip


def test_json(tmp_path):
  cells = [
    CELL,
    {**CELL, "metric": "log_loss", "protocol_hash": "bbbb"},
    {**CELL, "run": "fm", "missing": "model", "why": "No FM."},
  ]
  recipe = {"run": "lr", "seeds": [1, 2, 3]}
  root = write(tmp_path / "clicks", cells, [ROW], [recipe])
  whole = ledger.load_ledger(root)
  facts = json.loads(json.dumps(whole.to_dict()))
  assert facts["counts"] == {
    "within": 1,
    "outside": 0,
    "no result": 1,
    "data not at hand": 0,
    "no model yet": 1,
  }
  first, second, third = facts["cells"]
  assert set(first) == set(second) == set(third) == KEYS
  assert first["recipe"]["gin_files"] == ["runs/lr.gin"]
  assert first["recipe"]["seeds"] == first["seeds"] == [1, 2, 3]
  assert first["command"].startswith("recjax reproduce lr --workdir=")
  assert first["made_by"] == ROW["command"]
  assert (first["paper"], first["link"], first["source"]) == (
    "A. Author. A paper. 2020.",
    "https://x.org",
    "Table 1",
  )
  assert (first["measured"], first["within"]) == (0.805, True)
  assert second["protocol_hash"] == "bbbb"
  assert (second["measured"], second["status"]) == (None, "no result")
  assert third["recipe"] is None and third["command"] == ""


def test_names(tmp_path):
  two = [CELL, {**CELL, "metric": "log_loss"}, {**CELL, "run": "deepfm"}]
  root = write(tmp_path / "clicks", two)
  write(tmp_path / "other", [{**CELL, "run": "dcn"}])
  whole = ledger.load_ledger(root)
  assert whole.names == ("lr", "deepfm", "dcn")
  assert [each.cell.metric for each in whole.of("lr")] == ["auc", "log_loss"]
  assert whole.only(["dcn", "lr"]).names == ("dcn", "lr")
  with pytest.raises(errors.ConfigError, match="Did you mean 'deepfm'"):
    whole.of("deepfn")


# --- What is refused ---------------------------------------------------------


@pytest.mark.parametrize("source", [None, "", "  "])
def test_a_cell_without_a_source_is_refused(tmp_path, source):
  cell = {key: value for key, value in CELL.items() if key != "source"}
  if source is not None:
    cell["source"] = source
  root = write(tmp_path / "clicks", [cell])
  with pytest.raises(errors.ConfigError, match="nobody can look up") as info:
    ledger.load_ledger(root)
  for text in ("clicks/published.toml", "cell 1 (lr)", "source"):
    assert text in str(info.value)


def test_a_result_of_no_cell_is_refused(tmp_path):
  root = write(tmp_path / "clicks", [CELL], [{**ROW, "name": "rl"}])
  with pytest.raises(errors.ConfigError, match="Did you mean 'lr'"):
    ledger.load_ledger(root)
  (tmp_path / "clicks" / "published.toml").unlink()
  with pytest.raises(errors.ConfigError, match="there is no file .*published"):
    ledger.load_ledger(root)


def test_a_name_belongs_to_one_experiment(tmp_path):
  root = write(tmp_path / "clicks", [CELL])
  write(tmp_path / "other", [CELL])
  with pytest.raises(errors.ConfigError, match="both have cells of .* 'lr'"):
    ledger.load_ledger(root)


def test_finding_the_experiments(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert ledger.find_experiments() == ROOT / "experiments"
  write(tmp_path / "experiments" / "clicks", [CELL])
  assert ledger.find_experiments().absolute() == tmp_path / "experiments"
  write(tmp_path / "mine" / "clicks", [CELL])
  assert ledger.find_experiments("mine") == pathlib.Path("mine")
  with pytest.raises(errors.ConfigError, match="--experiments=DIR") as info:
    ledger.find_experiments(tmp_path / "nowhere")
  assert str(tmp_path / "nowhere") in str(info.value)


def test_outside_of_a_checkout(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  package = tmp_path / "site-packages" / "recjax" / "__init__.py"
  monkeypatch.setattr(ledger.recjax, "__file__", str(package))
  with pytest.raises(errors.ConfigError, match="in a checkout of recjax"):
    ledger.find_experiments()


# --- Ours --------------------------------------------------------------------

OURS = ledger.load_ledger(ROOT / "experiments").entries
ids = lambda each: "-".join(each.cell.key)


@pytest.mark.parametrize("each", OURS, ids=ids)
def test_a_cell_of_ours(each):
  assert each.paper and each.link.startswith("https://")
  assert each.cell.source and each.cell.protocol
  if each.recipe is None:
    assert each.status == "no model yet"
    return
  declared = (each.folder / "published.toml").read_text()
  assert f'[[recipe]]\nrun = "{each.name}"' in declared
  if each.status == "no result":
    assert each.cell.why


@pytest.mark.parametrize("each", [each for each in OURS if each.row], ids=ids)
def test_a_result_of_ours(each):
  cell, row = each.cell, each.row
  # The tables are made of the row, the status of the cell.
  for key in ("published", "source", "dataset", "model", "protocol_hash"):
    assert row[key] == getattr(cell, key)
  assert tuple(row.get("range", ())) == (cell.range or ())
  if cell.range is None:
    assert row["tolerance"] == cell.tolerance
  assert row["within"] is (each.status == "within")
  assert tuple(row["seeds"]) == each.recipe.seeds
  assert not cell.missing
  assert (each.status == "within") == (cell.why == "")
