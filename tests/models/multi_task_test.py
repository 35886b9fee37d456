"""A trunk below a head: which vector it is given, and what all models give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.heads.separate import Separate
from recjax.layers.heads.shared_bottom import SharedBottom
from recjax.models.dcn import DCN
from recjax.models.dcn_v2 import DCNv2
from recjax.models.deepfm import DeepFM
from recjax.models.dlrm import DLRM
from recjax.models.fm import FM
from recjax.models.multi_task import MultiTask
from recjax.models.wide_deep import WideDeep
from recjax.models.xdeepfm import XDeepFM

RNG = np.random.default_rng(0)
DENSE = jnp.asarray(RNG.normal(size=(6, 2)), jnp.float32)
TRUNKS = [
  DCN(dim=4, hidden=(5,)),
  DCNv2(dim=4, hidden=(5,)),
  DeepFM(dim=4, hidden=(5,)),
  DLRM(dim=4, bottom=(5,), top=(6,)),
  WideDeep(dim=4, hidden=(5,)),
  XDeepFM(dim=4, hidden=(5,), cin_layers=(3,)),
]


def rows_of(model):
  return {
    group: jnp.asarray(RNG.normal(size=(6, 3, dim)), jnp.float32)
    for group, dim in model.groups.items()
  }


def test_without_a_trunk_the_head_reads_the_embeddings():
  model = MultiTask(Separate(()), num_tasks=2, dim=4)
  rows = rows_of(model)
  variables = model.init(jax.random.key(0), rows, DENSE)
  out = model.apply(variables, rows, DENSE)["logit"]
  x = np.concatenate([np.asarray(rows["embedding"]).reshape(6, -1), DENSE], 1)
  towers = variables["params"]["head"]["towers"]
  expected = x @ np.asarray(towers["kernel"])[..., 0].T
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trunk", TRUNKS, ids=lambda t: type(t).__name__)
def test_a_trunk_gives_what_its_output_reads(trunk):
  model = MultiTask(Separate(()), trunk, num_tasks=2)
  assert model.groups == trunk.groups
  rows = rows_of(model)
  variables = model.init(jax.random.key(0), rows, DENSE)
  out = model.apply(variables, rows, DENSE)["logit"]
  assert out.shape == (6, 2)
  own = {"params": variables["params"]["trunk"]}
  told = trunk.apply(own, rows, DENSE)
  towers = variables["params"]["head"]["towers"]
  kernel = np.asarray(towers["kernel"])[..., 0]
  expected = np.asarray(told["hidden"]) @ kernel.T + np.asarray(towers["bias"])
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
  # All tables are trained, those of single weights as well.
  loss = lambda rows: jnp.sum(
    jnp.sin(model.apply(variables, rows, DENSE)["logit"])
  )
  for group, gradient in jax.grad(loss)(rows).items():
    assert np.abs(gradient).max() > 0, group


def test_what_can_not_be_a_trunk_or_a_model():
  model = MultiTask(SharedBottom(), FM(dim=4))
  with pytest.raises(ConfigError, match="FM has no vector before its output"):
    model.init(jax.random.key(0), rows_of(model), None)
  with pytest.raises(ConfigError, match="MultiTask.num_tasks"):
    MultiTask(num_tasks=0)
  for head, shown in ((3, "3"), (None, "None"), (FM(), r"@FM\(\)")):
    with pytest.raises(ConfigError, match=f"MultiTask.head must .*{shown}"):
      MultiTask(head)
  with pytest.raises(ConfigError, match="MultiTask.head must be a head"):
    MultiTask(SharedBottom)
  for trunk, shown in ((3, "3"), (SharedBottom(), r"@SharedBottom\(\)")):
    with pytest.raises(ConfigError, match=f"MultiTask.trunk .*{shown}"):
      MultiTask(SharedBottom(), trunk)
