"""TFDS sets as interactions, on small sets prepared by our own builder."""

import sys

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds

from recjax.data.interactions import Interactions
from recjax.data.prepare import prepare
from recjax.data.sources.tfds import TfdsSource
from recjax.data.tfds_builders import RecjaxInteractions
from recjax.errors import ConfigError, DataError

NAME = "recjax_interactions/toy"


def _toy():
  random = np.random.default_rng(0)
  num_users, num_items = 30, 20
  raw = lambda num: pa.array([str(7 * index) for index in range(1, num + 1)])
  users = np.concatenate([np.arange(1, 31), random.integers(1, 31, 170)])
  items = np.concatenate([np.arange(200) % 20 + 1])
  return Interactions.from_columns(
    "toy",
    {
      "user_id": users,
      "item_id": items,
      "timestamp": random.permutation(200) + 10**9,
      "rating": random.integers(1, 11, 200) / 2,
      "place": random.choice(["home", "work", "ü"], 200),
    },
    users=pa.table({"raw_id": raw(num_users)}),
    items=pa.table({"raw_id": raw(num_items)}),
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A data folder with the toy set in its folder `tfds`."""
  tfds.disable_progress_bar()
  path = tmp_path_factory.mktemp("data")
  builder = RecjaxInteractions.from_interactions(_toy(), str(path / "tfds"))
  builder.download_and_prepare()
  tfds.enable_progress_bar()
  return path


def _source(**options):
  settings = {
    "builder": NAME,
    "user_column": "user_id",
    "item_column": "item_id",
    "timestamp_column": "timestamp",
    "rating_column": "rating",
    "context_columns": ("place",),
    "tfds_dir": "tfds",
  }
  return TfdsSource(**(settings | options))


def test_what_was_written_is_read(folder):
  data = _source().read(folder)
  toy = _toy()
  assert data.table.equals(toy.table)
  assert data.fingerprint == toy.fingerprint
  assert data.name == NAME
  assert "tensorflow" not in sys.modules


def test_chunks_do_not_matter(folder, monkeypatch):
  monkeypatch.setattr("recjax.data.sources.tfds._CHUNK", 7)
  assert _source().read(folder).fingerprint == _toy().fingerprint


def test_prepared_once_and_cached(folder, tmp_path, monkeypatch):
  first = prepare(_source(), folder, tmp_path)

  def refuse(self, data_dir):
    raise AssertionError("read a second time")

  monkeypatch.setattr(TfdsSource, "read", refuse)
  assert prepare(_source(), folder, tmp_path).fingerprint == first.fingerprint


def test_files_are_those_of_the_prepared_set(folder):
  names = {path.name for path in _source().files(folder)}
  assert "dataset_info.json" in names
  assert any(".array_record" in name for name in names)


def test_splits_and_options(folder):
  data = _source(split="train[:25%]").read(folder)
  assert len(data) == 50
  data = _source(min_rating=4, context_columns=[]).read(folder)
  assert len(data) == int((_toy().rating >= 4).sum())
  assert not data.has("place")
  assert len(_source(min_user_count=3).read(folder)) <= 200


@pytest.mark.parametrize(
  "options, message",
  [
    (
      {"user_column": "user"},
      "has no column 'user'; it has item_id, .* Did you mean 'user_id'",
    ),
    ({"split": "tests"}, "can not read the split 'tests' .* It has train"),
    (
      {"builder": "no_such_set_at_all"},
      "TFDS knows no data set 'no_such_set_at_all'; looked in .*tfds",
    ),
    ({"builder": f"{NAME}:9.9.9"}, "TFDS (knows no|can not open)"),
    (
      {"timestamp_column": "place", "context_columns": ()},
      "record 0: .* in column 'place'",
    ),
    (
      {"timestamp_column": "", "context_columns": (), "rating_column": ""},
      "record .*the same user and item",
    ),
  ],
)
def test_errors(folder, options, message):
  with pytest.raises(DataError, match=message):
    _source(**options).read(folder)


class Nested(tfds.core.GeneratorBasedBuilder):
  """A set with a nested feature, a list and a label."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description="a test",
      features=tfds.features.FeaturesDict(
        {
          "who": {"id": np.int32},
          "what": tfds.features.ClassLabel(names=["a", "b", "c"]),
          "tags": tfds.features.Sequence(np.int64),
          "liked": np.bool_,
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for row, what in enumerate("cab"):
      yield (
        row,
        {"who": {"id": row}, "what": what, "tags": [1, 2], "liked": row == 1},
      )


def test_a_set_with_code_is_prepared_on_demand(tmp_path):
  tfds.disable_progress_bar()
  source = TfdsSource(
    "nested", "who/id", "what", tfds_dir="t", context_columns=("liked",)
  )
  refused = TfdsSource("nested", "who/id", "what", tfds_dir="t", download=False)
  with pytest.raises(DataError, match="is not prepared .*download=False"):
    refused.read(tmp_path)
  data = source.read(tmp_path)
  assert data.users.column("raw_id").to_pylist() == ["0", "1", "2"]
  assert data.item_id.tolist() == [3, 1, 2]
  assert data.column("liked").tolist() == [0, 1, 0]
  assert len(refused.read(tmp_path)) == 3
  with pytest.raises(DataError, match="'tags' .* has shape .* only scalars"):
    TfdsSource("nested", "who/id", "tags", tfds_dir="t").read(tmp_path)
  tfds.enable_progress_bar()


def test_a_failing_download_is_told(tmp_path, monkeypatch):
  def fail(self, *args, **kwargs):
    raise ConnectionError("no route to host")

  monkeypatch.setattr(Nested, "download_and_prepare", fail)
  with pytest.raises(DataError, match="could not fetch .*no route to host"):
    TfdsSource("nested", "who/id", "what", tfds_dir="t2").files(tmp_path)


def test_without_tensorflow_datasets(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(DataError, match=r"pip install 'recjax\[tfds\]'"):
    _source().read(tmp_path)


def test_names_and_bad_options():
  assert _source(builder="a/b:1.0.0").name == "a/b"
  assert hash(_source(context_columns=["place"]))
  with pytest.raises(ConfigError, match="name of a builder"):
    _source(builder="")
  with pytest.raises(ConfigError, match="must be a tuple of names"):
    _source(context_columns="place")
  with pytest.raises(ConfigError, match="duplicates must be one of"):
    _source(duplicates="no")


def test_the_older_sets_of_the_catalogue_are_known_without_tensorflow(tmp_path):
  source = TfdsSource(
    "movielens/100k-ratings",
    user_column="user_id",
    item_column="movie_id",
    tfds_dir="tfds",
    download=False,
  )
  with pytest.raises(DataError, match="is not prepared .* and download=False"):
    source.read(tmp_path)
