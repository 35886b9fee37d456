import itertools

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.fm import FM


@pytest.mark.parametrize("num_dense", [0, 2])
def test_equals_the_sum_over_all_pairs(oracle, num_dense):
  found = oracle.run(FM(dim=4), {"linear": 5, "embedding": 5}, num_dense)
  vectors = [found.rows["embedding"][:, i] for i in range(5)]
  values = [np.ones(oracle.BATCH)] * 5
  for j in range(num_dense):
    v = found.params["vectors"]["dense"][j]
    vectors.append(np.tile(v, (oracle.BATCH, 1)))
    values.append(found.dense[:, j])
  expected = oracle.linear(found)
  for i, j in itertools.combinations(range(5 + num_dense), 2):
    product = np.sum(vectors[i] * vectors[j], axis=1)
    expected = expected + product * values[i] * values[j]
  oracle.check(found.logit, expected)


def test_bad_settings_name_the_rule():
  with pytest.raises(ConfigError, match="FM.dim must lie in"):
    FM(dim=0)
