import jax
import numpy as np

from recjax.layers.heads.aitm import AITM
from tests.layers.heads import oracle


def test_what_a_step_knows_is_passed_to_the_next():
  head = AITM((6, 3), (4,))
  params = oracle.drawn(head, 3)

  def expected(x, task):
    state = oracle.expert(params["bottoms"], x, 0)
    for t in range(1, task + 1):
      passed = np.maximum(oracle.dense(params[f"pass_{t}"], state), 0)
      both = [passed, oracle.expert(params["bottoms"], x, t)]
      scores = [
        oracle.dense(params["key"], u) @ oracle.dense(params["query"], u)
        for u in both
      ]
      weights = oracle.softmax(np.array(scores) / np.sqrt(3))
      values = [oracle.dense(params["value"], u) for u in both]
      state = weights[0] * values[0] + weights[1] * values[1]
    return oracle.tower(params["towers"], state, task)

  oracle.assert_equal(oracle.applied(head, params, 3), expected)


def test_the_first_step_knows_nothing_of_later_ones():
  head = AITM()
  # Small weights: an attention that is all on one side passes nothing else.
  params = jax.tree.map(lambda leaf: 0.3 * leaf, oracle.drawn(head, 3))
  before = oracle.applied(head, params, 3)
  params["bottoms"]["kernel_0"][2] += 1.0
  after = oracle.applied(head, params, 3)
  np.testing.assert_array_equal(after[:, :2], before[:, :2])
  assert np.abs(after[:, 2] - before[:, 2]).max() > 1e-3
