from recjax.layers.heads.separate import Separate
from tests.layers.heads import oracle


def test_each_task_is_an_mlp_of_its_own():
  head = Separate((6, 3))
  params = oracle.drawn(head, 2)
  oracle.assert_equal(
    oracle.applied(head, params, 2),
    lambda x, t: oracle.tower(params["towers"], x, t),
  )
