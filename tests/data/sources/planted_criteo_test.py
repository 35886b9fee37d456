"""The generator: its format, its model, and what is best."""

import itertools
import pathlib

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from recjax.data.sources import planted_criteo as lib
from recjax.data.sources.criteo import CATEGORIES, COLUMNS, INTEGERS, Criteo
from recjax.data.sources.planted_criteo import PlantedCriteo, expected_auc
from recjax.errors import ConfigError

FEW = (5,) * 26
HERE = pathlib.Path()


@pytest.fixture(scope="module")
def planted():
  return PlantedCriteo(30_000, validation=0, test=0)


@pytest.fixture(scope="module")
def train(planted):
  return planted.read(HERE).train


def test_rows_have_criteos_columns(train):
  assert len(train) == 30_000
  assert train.table.column_names == list(COLUMNS)
  for name in (*INTEGERS, *CATEGORIES):
    missing = train.table.column(name).null_count / 30_000
    assert abs(missing - 0.1) < 5 * np.sqrt(0.09 / 30_000)
  texts = train.table.column("C3").drop_null().to_pylist()
  assert all(len(t) == 8 and int(t, 16) >= 0 for t in texts[:100])


def test_text_files_hold_the_same_rows(planted, train, tmp_path):
  paths = planted.write(tmp_path / "text", rows_per_file=1)
  assert [path.name for path in paths] == ["part-0000.txt"]
  source = Criteo("text", validation_fraction=0, test_fraction=0)
  assert source.read(tmp_path).train.fingerprint == train.fingerprint


def test_files_are_written_once(tmp_path, monkeypatch):
  monkeypatch.setattr(lib, "_BLOCK_ROWS", 100)
  small = PlantedCriteo(450, FEW)
  paths = small.write(tmp_path / "t", rows_per_file=200)
  assert [path.name for path in paths] == [f"part-000{n}.txt" for n in range(3)]
  lines = [len(path.read_text().splitlines()) for path in paths]
  assert lines == [200, 200, 50]
  before = [path.stat().st_mtime_ns for path in paths]
  assert small.write(tmp_path / "t", rows_per_file=200) == paths
  assert [path.stat().st_mtime_ns for path in paths] == before
  other = PlantedCriteo(450, FEW, seed=1).write(tmp_path / "t", 1000)
  assert len(other) == 1


def test_labels_follow_the_logits(planted, train):
  logits = planted.logits(train.table)
  chance = special.expit(logits)
  assert abs(train.labels.mean() - 0.25) < 0.02
  # In ten bins, the share of clicks is the mean probability.
  order = np.array_split(np.argsort(logits), 10)
  for rows in order:
    error = np.sqrt(np.mean(chance[rows] * (1 - chance[rows])) / len(rows))
    assert abs(train.labels[rows].mean() - chance[rows].mean()) < 4 * error
  measured = metrics.roc_auc_score(train.labels, logits)
  assert abs(measured - expected_auc(logits, logits)) < 4 * 0.003


def test_logits_by_hand():
  few = PlantedCriteo(200, FEW, missing=0.3)
  table = few.table(0)
  integers, categories = few._random_weights
  for row, z in zip(table.to_pylist(), few.logits(table)):
    total = few.bias
    for name, weight in zip(INTEGERS, integers):
      total += weight * np.log1p(row[name] or 0)
    for place, name in enumerate(CATEGORIES):
      if row[name] is not None:
        known = few._texts[place].to_pylist()
        total += categories[place][known.index(row[name])]
    assert abs(total - z) < 1e-9


def test_frequencies(train):
  counts = train.table.column("C9").drop_null().value_counts().to_pylist()
  found = sorted((entry["counts"] for entry in counts), reverse=True)
  shares = np.log([(k + 1) / k for k in (1, 2, 3)]) / np.log(4)
  np.testing.assert_allclose(np.array(found) / sum(found), shares, atol=0.015)


def test_the_same_settings_give_the_same_rows(planted, train):
  again = PlantedCriteo(30_000, validation=0, test=0).read(HERE).train
  assert again.fingerprint == train.fingerprint
  other = PlantedCriteo(30_000, validation=0, test=0, seed=1).read(HERE).train
  assert other.fingerprint != train.fingerprint
  # More rows begin with the same ones.
  more = PlantedCriteo(31_000, validation=0, test=0).read(HERE).train
  assert more.table.slice(0, 30_000).equals(train.table)


def test_blocks_go_on(monkeypatch):
  monkeypatch.setattr(lib, "_BLOCK_ROWS", 100)
  few = PlantedCriteo(450, FEW)
  blocks = list(few.blocks(HERE))
  assert len(blocks) == 5
  rest = list(few.blocks(HERE, blocks[2].position))
  assert [b.position for b in rest] == [b.position for b in blocks[3:]]
  assert rest[0].parts["train"].equals(blocks[3].parts["train"])


def test_expected_auc_against_all_pairs_and_against_draws():
  random = np.random.default_rng(0)
  logits = random.normal(size=40)
  scores = np.round(logits + random.normal(size=40), 1)  # With ties.
  p = special.expit(logits)
  wins = total = 0.0
  for i, k in itertools.product(range(40), repeat=2):
    weight = p[i] * (1 - p[k])
    total += weight
    wins += weight * ((scores[i] > scores[k]) + (scores[i] == scores[k]) / 2)
  np.testing.assert_allclose(expected_auc(scores, logits), wins / total)
  logits = random.normal(size=4000)
  draws = [
    metrics.roc_auc_score(random.random(4000) < special.expit(logits), logits)
    for _ in range(30)
  ]
  error = np.std(draws) / np.sqrt(30)
  assert abs(np.mean(draws) - expected_auc(logits, logits)) < 4 * error


def test_nothing_beats_the_true_logits(planted, train):
  truth = planted.logits(train.table)
  best = expected_auc(truth, truth)
  random = np.random.default_rng(0)
  for noise in (0.1, 1.0):
    noisy = truth + noise * random.normal(size=len(truth))
    assert expected_auc(noisy, truth) < best
  # Another sample of the same process: deviation .002 or so.
  assert abs(planted.bayes_auc(1 << 16) - best) < 0.01


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_values": (3,)}, "num_values must hold 26 numbers; got 1"),
    ({"num_values": (0,) * 26}, "num_values must lie"),
    ({"num_rows": 0}, "num_rows must lie"),
    ({"click_rate": 0.0}, "click_rate must lie"),
    ({"missing": 1.0}, "missing must lie"),
    ({"test": 0.99, "validation": 0.5}, "together must lie"),
  ],
)
def test_bad_settings(options, message):
  with pytest.raises(ConfigError, match=message):
    PlantedCriteo(**options)
