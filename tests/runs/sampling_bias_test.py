"""The table of what sampling did, from records with made-up numbers."""

import json

import pytest

from recjax.runs import sampling_bias, tables
from recjax.runs.collection import group_runs, load_runs

SAMPLED = {"candidates": {"kind": "uniform", "num": 100}}


def bias_of(full, corrected, sampled=0.5, **changes):
  row = {
    "sampled": sampled,
    "full": full,
    "full_interval": [full - 0.01, full + 0.01],
    "bias": sampled - full,
    "bias_interval": [sampled - full - 0.02, sampled - full + 0.02],
    "corrected": {
      "mle": {"value": corrected, "interval": [0.05, 0.25]},
      "bv": {"value": 0.9, "interval": [0.8, 0.95]},
    },
  }
  return {
    "metrics": {"ndcg@10": row},
    "headline": "mle",
    "full_protocol_hash": "e" * 12,
    "full_protocol_text": "full catalogue",
    "not_corrected": "",
    "blind_below": 33.2,
    **changes,
  }


@pytest.fixture
def bias(make_workdir, tmp_path):
  """The table of runs, each with what its result holds."""

  def make(*results):
    for number, result in enumerate(results):
      make_workdir(
        f"runs/{number}",
        **{
          "name": f"run{number}",
          "config_hash_without_seed": str(number),
          "protocol": SAMPLED,
          "metrics": {"ndcg@10": 0.5},
          "intervals": {"ndcg@10": [0.49, 0.51]},
          **result,
        },
      )
    groups, _ = group_runs(load_runs([tmp_path / "runs"])[0])
    (table,) = tables.protocol_tables(groups)
    return sampling_bias.bias_table(table)

  return make


def texts(row):
  return [f"{cell.text} {cell.note}".strip() for cell in row.cells[2:]]


def test_a_run_beside_its_full_ranking(bias):
  found = bias({"sampled_bias": bias_of(0.13, 0.125)})
  (row,) = found.rows
  assert texts(row) == [
    "NDCG@10",
    "0.5000 [0.4900, 0.5100]",
    "0.1300 [0.1200, 0.1400]",
    "+0.3700 [0.3500, 0.3900]",
    "0.1250 [0.0500, 0.2500]",
  ]
  lead, full, corrected, blind = found.notes
  assert "reverse the order of models" in lead
  assert full == f"Full is protocol {'e' * 12}: full catalogue."
  assert "`mle`" in corrected and blind.startswith("Ranks below 33,")
  assert found.lines()[0] == (
    "NDCG@10 of run0 on ml-1m: sampled 0.5000, full 0.1300, bias +0.3700,"
    " corrected 0.1250"
  )


def test_seeds_are_one_row(bias):
  same = {"name": "run", "config_hash_without_seed": "same"}
  found = bias(
    {"sampled_bias": bias_of(0.10, 0.2), "seed": 0, **same},
    {"sampled_bias": bias_of(0.20, 0.2), "seed": 1, **same},
  )
  (row,) = found.rows
  assert texts(row)[2:] == [
    "0.1500 ± 0.0707 n = 2",
    "+0.3500 ± 0.0707 n = 2",
    "0.2000 ± 0.0000 n = 2",
  ]


def test_a_negative_bias_keeps_its_sign(bias):
  found = bias({"sampled_bias": bias_of(0.6, 0.6)})
  assert texts(found.rows[0])[3].startswith("-0.1000 [")


@pytest.mark.parametrize(
  "full,said",
  [
    ([0.1, 0.2, 0.3], "the same (Kendall's tau +1.00)"),
    # Of three pairs one is turned around: (2 - 1) / 3.
    ([0.1, 0.3, 0.2], "not the same (Kendall's tau +0.33)"),
    ([0.3, 0.2, 0.1], "not the same (Kendall's tau -1.00)"),
    ([0.2, 0.2, 0.2], "all runs are equal"),
  ],
)
def test_the_order_of_runs(bias, full, said):
  found = bias(
    *(
      {"sampled_bias": bias_of(value, value, sampled=0.5 + place / 10)}
      for place, value in enumerate(full)
    )
  )
  note = found.notes[-1]
  assert note.startswith(
    f"Order of the 3 runs on ml-1m by NDCG@10, sampled and full: {said}"
  )
  if said != "all runs are equal":
    assert note.endswith("corrected and full: the same (Kendall's tau +1.00).")


def test_runs_of_other_data_are_not_put_in_order(bias):
  found = bias(
    {"sampled_bias": bias_of(0.1, 0.1)},
    {"sampled_bias": bias_of(0.2, 0.2), "dataset": "beauty",
     "data_fingerprint": "9" * 64},
  )  # fmt: skip
  assert len(found.rows) == 2
  assert not any("Order of" in note for note in found.notes)


def test_without_corrected_or_full_values(bias):
  record = bias_of(0.1, 0.1, not_corrected="they are popular", blind_below=None)
  record["metrics"]["ndcg@10"]["corrected"] = {}
  found = bias({"sampled_bias": record})
  assert texts(found.rows[0])[4] == "–"
  assert found.notes[-1] == "Not corrected: they are popular."
  assert not any("`mle`" in note or "alike" in note for note in found.notes)


def test_without_a_full_ranking(bias):
  record = bias_of(0.1, 0.1, full_protocol_hash="", full_protocol_text="")
  record["metrics"]["ndcg@10"] |= {
    "full": None, "full_interval": None, "bias": None, "bias_interval": None,
  }  # fmt: skip
  found = bias({"sampled_bias": record})
  assert texts(found.rows[0])[2:4] == ["–", "–"]
  assert not any(note.startswith("Full is") for note in found.notes)


def test_runs_that_do_not_tell_are_named(bias, tmp_path):
  found = bias({"sampled_bias": bias_of(0.1, 0.1)}, {})
  assert len(found.rows) == 1
  workdir = tmp_path / "runs" / "1"
  assert found.notes[-1] == (
    f"{workdir} does not tell the bias of its metrics:"
    f" `recjax evaluate --workdir={workdir}` measures it."
  )
  # As it does.
  path = workdir / "sampled_bias" / f"test-{'a' * 12}.json"
  path.parent.mkdir()
  path.write_text(json.dumps(bias_of(0.2, 0.2)))
  groups, _ = group_runs(load_runs([tmp_path / "runs"])[0])
  (table,) = tables.protocol_tables(groups)
  found = sampling_bias.bias_table(table)
  assert [texts(row)[2][:6] for row in found.rows] == ["0.1000", "0.2000"]


def test_only_runs_that_do_not_tell(bias):
  found = bias({})
  assert found.rows == () and len(found.notes) == 2
  assert len(found.lines()) == 2


def test_the_whole_catalogue_has_no_table(bias):
  assert bias({"protocol": {"candidates": {"kind": "all_items"}}}) is None


def test_a_terminal_gets_few_lines(bias):
  found = bias(*({"sampled_bias": bias_of(0.1, 0.1)} for _ in range(15)))
  lines = found.lines()
  assert lines[12] == "... and 3 more in the report"
