import numpy as np
import pytest

from recjax.layers.heads.ple import PLE
from tests.layers.heads import oracle

TASKS, OWN, SHARED = 2, 3, 2


def mixed(params, x, experts):
  weights = oracle.softmax(oracle.dense(params["logits"], x))
  return sum(w * y for w, y in zip(weights, experts, strict=True))


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_layers_of_own_and_shared_experts(num_layers):
  head = PLE(num_layers, OWN, SHARED, (5, 4), (3,))
  params = oracle.drawn(head, TASKS)

  def expected(x, task):
    own, shared = [x] * TASKS, x
    for n in range(num_layers):
      of_tasks = [
        [
          oracle.expert(params[f"experts_{n}"], own[t], t * OWN + e)
          for e in range(OWN)
        ]
        for t in range(TASKS)
      ]
      of_all = [
        oracle.expert(params[f"shared_{n}"], shared, e) for e in range(SHARED)
      ]
      own = [
        mixed(params[f"gate_{n}_{t}"], own[t], of_tasks[t] + of_all)
        for t in range(TASKS)
      ]
      if n + 1 < num_layers:
        every = sum(of_tasks, []) + of_all
        shared = mixed(params[f"gate_{n}_shared"], shared, every)
    return oracle.tower(params["towers"], own[task], task)

  oracle.assert_equal(oracle.applied(head, params, TASKS), expected)
  # The last layer has no shared state.
  assert f"gate_{num_layers - 1}_shared" not in params


def test_own_experts_are_not_moved_by_other_tasks_in_one_layer():
  """What sets CGC apart from MMoE."""
  head = PLE(1, OWN, SHARED, (4,), ())
  params = oracle.drawn(head, TASKS)
  before = oracle.applied(head, params, TASKS)
  kernel = params["experts_0"]["kernel_0"].copy()
  kernel[:OWN] += 1.0
  params["experts_0"]["kernel_0"] = kernel
  after = oracle.applied(head, params, TASKS)
  assert np.abs(after[:, 0] - before[:, 0]).max() > 1e-3
  np.testing.assert_array_equal(after[:, 1], before[:, 1])
