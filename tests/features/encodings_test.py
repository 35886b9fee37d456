import dataclasses

import pytest

from recjax.errors import ConfigError
from recjax.features import encodings as e


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: e.Vocabulary(min_count=0), r"min_count must lie in \[1, inf\]"),
    (lambda: e.Vocabulary(max_size=-1), "max_size must lie in"),
    (lambda: e.Vocabulary(oov="eror"), "Did you mean 'error'"),
    (lambda: e.Vocabulary(oov="error", min_count=2), "must be 1 and max_size"),
    (lambda: e.Vocabulary(oov="error", max_size=9), "got 1 and 9"),
    (lambda: e.Hashed(0), r"num_buckets must lie in \[1, 2147483646\]; got 0"),
    (lambda: e.Hashed(2**31), "num_buckets must lie in"),
    (lambda: e.Hashed(10, seed=-1), "seed must lie in"),
    (lambda: e.GivenIds(1), r"num_ids must lie in \[2, 2147483647\]; got 1"),
    (lambda: e.SharedWith(""), "must name a feature"),
  ],
)
def test_bad_settings(make, message):
  with pytest.raises(ConfigError, match=message):
    make()


def test_they_are_frozen_and_hashable():
  made = (e.Vocabulary(), e.Hashed(5), e.GivenIds(5), e.SharedWith("a"))
  assert len(set(made)) == 4 and {type(one) for one in made} == set(e.ENCODINGS)
  with pytest.raises(dataclasses.FrozenInstanceError):
    made[1].num_buckets = 6
