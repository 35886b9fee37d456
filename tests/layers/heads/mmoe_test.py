import pytest

from recjax.layers.heads.mmoe import MMoE
from tests.layers.heads import oracle


@pytest.mark.parametrize("one_gate", [False, True])
def test_each_task_mixes_all_experts(one_gate):
  head = MMoE(3, (6, 2), (4,), one_gate=one_gate)
  params = oracle.drawn(head, 2)
  kernel = params["gate"]["logits"]["kernel"].reshape(oracle.IN, -1, 3)

  def expected(x, task):
    weights = oracle.softmax(x @ kernel[:, 0 if one_gate else task])
    experts = [oracle.expert(params["experts"], x, e) for e in range(3)]
    mixed = sum(w * y for w, y in zip(weights, experts, strict=True))
    return oracle.tower(params["towers"], mixed, task)

  oracle.assert_equal(oracle.applied(head, params, 2), expected)
