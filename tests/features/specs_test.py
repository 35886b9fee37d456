import pytest

from recjax.errors import ConfigError
from recjax.features import specs as s
from recjax.features.encodings import Hashed, SharedWith

NUMBER = s.Numeric("n")


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: s.Categorical(""), "needs a name other than 'label'"),
    (lambda: s.Numeric("label"), "got 'label'"),
    (lambda: s.Cross("where", ("a", "b")), "got 'where'"),
    (lambda: s.Categorical("a", discretize="log"), "discretize must be one of"),
    (lambda: s.MultiHot("a", max_len=0), "feature 'a': max_len must lie in"),
    (lambda: s.Sequence("a", max_len=0), "feature 'a': max_len must lie in"),
    (lambda: s.Vector("a"), "feature 'a': dim must lie in"),
    (lambda: s.Numeric("a", transform="zscore"), "Did you mean 'z_score'"),
    (lambda: s.Numeric("a", fill="median"), r"feature 'a': fill \(if no"),
    (lambda: s.Numeric("a", fill=float("nan")), "fill must lie in"),
    (lambda: s.Numeric("a", num_quantiles=1), "num_quantiles must lie in"),
    (lambda: s.Bucketized("a"), "either boundaries or num_quantiles"),
    (lambda: s.Bucketized("a", num_quantiles=1), "either boundaries or"),
    (lambda: s.Bucketized("a", "", (1,), 5), "either boundaries or"),
    (lambda: s.Bucketized("a", "", (1, 1)), r"increase; got \(1, 1\)"),
    (lambda: s.Bucketized("a", "", (1, float("inf"))), "must be finite"),
    (lambda: s.Cross("a", ("b",)), "at least two different columns"),
    (lambda: s.Cross("a", ("b", "b")), "at least two different columns"),
    (lambda: s.Cross("a", "bc"), "columns must be a tuple of names"),
    (lambda: s.Cross("a", ("b", "c"), num_buckets=0), "num_buckets must lie"),
  ],
)
def test_bad_settings(make, message):
  with pytest.raises(ConfigError, match=message):
    make()


def test_the_column_is_the_name_unless_said_otherwise():
  assert s.Categorical("a").column == "a"
  assert s.Categorical("a", "b").column == "b"
  assert s.columns_of(s.Vector("v", dim=2)) == ("v",)
  assert s.columns_of(s.Cross("c", ["x", "y"])) == ("x", "y")
  assert s.columns_of(s.Cross("c", ["x"], ["f"])) == ("x",)


def test_specs_are_hashable_though_lists_are_given():
  cross = s.Cross("c", ["x", "y"])
  bucket = s.Bucketized("b", boundaries=[1, 2])
  assert len({cross, s.Cross("c", ("x", "y")), bucket}) == 2


@pytest.mark.parametrize(
  ("specs", "message"),
  [
    ([], "at least one feature"),
    ([NUMBER, s.Categorical("n", "x")], "two features are named 'n': Numeric"),
    (
      [s.Categorical("item"), s.Sequence("h", encoding=SharedWith("itm"))],
      "'h' refers to a feature 'itm'; there are item, h. Did you mean 'item'",
    ),
    (
      [NUMBER, s.Sequence("h", encoding=SharedWith("n"))],
      "'h' refers to 'n', which is a Numeric",
    ),
    (
      [
        s.Categorical("a"),
        s.Categorical("b", encoding=SharedWith("a")),
        s.Categorical("c", encoding=SharedWith("b")),
      ],
      "'c' shares ids with 'b', which shares those of 'a': name that one",
    ),
    (
      [s.MultiHot("m"), s.Categorical("a"), s.Cross("c", (), ("m", "a"))],
      "'c' refers to 'm', which is a MultiHot",
    ),
    (
      [s.Categorical("a"), s.ListWeights("w", "a")],
      "'w' refers to 'a', which is a Categorical",
    ),
    ([s.MultiHot("tags"), s.ListWeights("w", "tag")], "Did you mean 'tags'"),
  ],
)
def test_specs_that_do_not_fit_together(specs, message):
  with pytest.raises(ConfigError, match=message):
    s.check_specs(specs)


def test_specs_that_do():
  specs = [
    s.Sequence("h", encoding=SharedWith("item")),
    s.Categorical("item", encoding=Hashed(10)),
    s.Bucketized("age", boundaries=(1, 2)),
    s.Cross("both", features=("item", "age")),
  ]
  assert s.check_specs(specs) == tuple(specs)
