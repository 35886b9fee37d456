import numpy as np

from recjax.layers.heads.shared_bottom import SharedBottom
from tests.layers.heads import oracle


def test_all_towers_stand_on_one_bottom():
  head = SharedBottom((6, 3), (4,))
  params = oracle.drawn(head, 3)

  def expected(x, task):
    for number in range(2):
      x = np.maximum(oracle.dense(params["bottom"][f"layer_{number}"], x), 0)
    return oracle.tower(params["towers"], x, task)

  oracle.assert_equal(oracle.applied(head, params, 3), expected)
