import numpy as np
import pyarrow as pa
import pytest

from recjax.data.example_stream import prepare_stream
from recjax.data.sources import ali_ccp, avazu, click_features, criteo
from recjax.data.sources.planted_criteo import PlantedCriteo
from recjax.errors import ConfigError
from recjax.features.fitted import fit_features
from recjax.features.specs import Categorical


@pytest.fixture(scope="module")
def rows():
  return PlantedCriteo(500, missing=0.2).table(0)


def test_criteo_log_features(rows):
  specs = click_features.criteo_log_features(min_count=4)
  features = fit_features(specs, rows)
  assert features.dense == criteo.INTEGERS
  assert features.categorical == criteo.CATEGORIES
  encoded = features.encode(rows)
  counts = rows.column("I3").fill_null(0).to_numpy()
  np.testing.assert_allclose(encoded["I3"], np.log1p(counts), rtol=1e-6)
  # A value is known that stands in four rows.
  values = rows.column("C4").to_pylist()
  known = {v for v in values if v is not None and values.count(v) >= 4}
  assert len(known) > 10 and features.num_ids("C4") == 2 + len(known)
  ids = [0 if v is None else 1 for v in values if v not in known]
  found = [i for i, v in zip(encoded["C4"], values) if v not in known]
  assert found == ids


def test_criteo_bars_features():
  numbers = [-1, 0, 1, 2, 3, 100, None]
  columns = {name: numbers for name in criteo.INTEGERS}
  columns |= {name: ["a"] * len(numbers) for name in criteo.CATEGORIES}
  specs = click_features.criteo_bars_features(min_count=1)
  assert [spec.name for spec in specs] == list(criteo.COLUMNS[1:])
  table = pa.table(columns)
  features = fit_features(specs, table)
  # ln(3)^2 = 1.21 and ln(100)^2 = 21.2.
  ids = features.encode(table)["I5"]
  names = [features.raw_values("I5")[i] for i in ids]
  assert names == [-1, 0, 1, 2, 1, 21, None]


def test_avazu_features():
  specs = click_features.avazu_features(min_count=3)
  assert all(isinstance(spec, Categorical) for spec in specs)
  assert {spec.name for spec in specs} == set(avazu.COLUMNS) - {"click", "hour"}
  assert {spec.encoding.min_count for spec in specs} == {3}


def test_ali_ccp_features():
  specs = click_features.ali_ccp_features(("101", "210"), 2, max_len=3)
  table = pa.table(
    {"101": [7, 7, None, 8], "210": [[5, 6], [5], [], [6, 5, 5, 5]]}
  )
  features = fit_features(specs, table)
  ids = features.encode(table)
  names = features.raw_values("101")
  assert [names[i] for i in ids["101"]] == [7, 7, None, None]
  assert ids["210"].shape == (4, 3)
  assert (ids["210"] > 0).sum(axis=1).tolist() == [2, 1, 0, 3]
  # Those that are left away are as AliCcp has them.
  assert [s.name for s in click_features.ali_ccp_features()] == list(
    ali_ccp.AliCcp().fields
  )
  with pytest.raises(ConfigError, match="got '999'"):
    click_features.ali_ccp_features(("999",))


def test_the_real_avazu_sample_is_streamed(data_dir, tmp_path):
  folder = "ctr-format-samples/avazu"
  files = (f"{folder}/{part}.csv" for part in ("train", "dev", "test"))
  specs = click_features.avazu_features(min_count=2)
  split = prepare_stream(avazu.Avazu(*files), specs, data_dir, tmp_path)
  names = {spec.name for spec in specs}
  assert set(split.train.columns) == names | {"label"}
  lines = (data_dir / folder / "train.csv").read_text().splitlines()
  assert len(split.train) == len(lines) - 1
  (columns,) = split.train.groups()
  # 2014-10-21, the first day, was a Tuesday.
  days = np.array(split.features.raw_values("weekday"), object)
  hours = [line.split(",")[2] for line in lines[1:]]
  expected = [(int(hour[4:6]) - 20) % 7 for hour in hours]
  assert days[columns["weekday"]].tolist() == expected
