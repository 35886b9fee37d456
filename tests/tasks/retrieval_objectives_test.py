import pytest

from recjax.errors import ConfigError
from recjax.tasks.retrieval_objectives import (
  Binary,
  Mixture,
  Pairwise,
  Softmax,
  softmax_of,
)


def test_the_softmax_of_an_objective():
  softmax = Softmax(log_q=True)
  assert softmax_of(softmax) is softmax
  assert softmax_of(Mixture(0.3, softmax)) is softmax
  assert softmax_of(Binary()) is None and softmax_of(Pairwise()) is None


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Mixture(1.5), r"Mixture.weight.*\[0.0, 1.0\]; got 1.5"),
    (lambda: Pairwise("wrap"), "Pairwise.kind.*Did you mean 'warp'"),
    (lambda: Pairwise(margin=-1.0), "Pairwise.margin"),
  ],
)
def test_bad_settings_are_told(make, message):
  with pytest.raises(ConfigError, match=message):
    make()
