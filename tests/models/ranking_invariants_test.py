"""What holds for every ranking model. A new one not listed here fails."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recjax.models
from recjax.errors import ConfigError
from recjax.models.autoint import AutoInt
from recjax.models.dcn import DCN
from recjax.models.dcn_v2 import DCNv2
from recjax.models.deepfm import DeepFM
from recjax.models.dlrm import DLRM
from recjax.models.finalmlp import FinalMLP
from recjax.models.fm import FM
from recjax.models.gmf import GMF
from recjax.models.lr import LR
from recjax.models.ncf_mlp import NcfMLP
from recjax.models.neumf import NeuMF
from recjax.models.wide_deep import WideDeep
from recjax.models.xdeepfm import XDeepFM

BATCH, NUM_DENSE = 6, 2
EVERY_ROW = jnp.ones(BATCH, bool)
# No rows of a ranked example but a hidden state a position: its own test.
SEQUENCE_MODELS = {"SASRec"}
# Vectors of users and of items: tests/models/two_tower_test.py.
RETRIEVAL_MODELS = {"Tower", "TwoTower"}
# Several logits an example: tests/models/multi_task_test.py.
MULTI_TASK_MODELS = {"MultiTask"}
# Modules inside a model's file that are no model.
PARTS = {"FieldAttention"}


@dataclasses.dataclass(frozen=True)
class Case:
  """A model, and what of the invariants applies to it.

  Attributes:
    model: the model, with all its options in use.
    fields: fields of each table group.
    num_dense: dense columns.
    symmetric: the order of the fields does not matter.
    dropout: training draws random numbers.
    batch_norm: there are statistics of the batch.
  """

  model: nn.Module
  fields: tuple[tuple[str, int], ...]
  num_dense: int = NUM_DENSE
  symmetric: bool = False
  dropout: bool = True
  batch_norm: bool = True


LINEAR = (("linear", 3), ("embedding", 3))
DEEP = {"dropout_rate": 0.5, "batch_norm": True}
CASES = {
  "LR": Case(LR(), LINEAR[:1], symmetric=True, dropout=False, batch_norm=False),
  "FM": Case(
    FM(dim=4), LINEAR, symmetric=True, dropout=False, batch_norm=False
  ),
  "GMF": Case(
    GMF(dim=4),
    (("gmf", 2),),
    num_dense=0,
    symmetric=True,
    dropout=False,
    batch_norm=False,
  ),
  "NcfMLP": Case(NcfMLP(layers=(8, 6), **DEEP), (("mlp", 2),), num_dense=0),
  "NeuMF": Case(
    NeuMF(dim=4, layers=(8, 6), **DEEP),
    (("gmf", 2), ("mlp", 2)),
    num_dense=0,
  ),
  "WideDeep": Case(
    WideDeep(dim=4, hidden=(8,), **DEEP), (("linear", 5), ("embedding", 3))
  ),
  "DeepFM": Case(DeepFM(dim=4, hidden=(8,), **DEEP), LINEAR),
  "DCN": Case(DCN(dim=4, num_cross_layers=2, hidden=(8,), **DEEP), LINEAR[1:]),
  "DCNv2": Case(
    DCNv2(
      dim=4,
      num_cross_layers=2,
      cross_kind="mixture",
      rank=3,
      hidden=(8,),
      **DEEP,
    ),
    LINEAR[1:],
  ),
  "DLRM": Case(
    DLRM(
      dim=4,
      bottom=(6,),
      top=(8,),
      bottom_dropout_rate=0.1,
      top_dropout_rate=0.5,
      batch_norm=True,
    ),
    LINEAR[1:],
  ),
  "XDeepFM": Case(XDeepFM(dim=4, cin_layers=(5,), hidden=(8,), **DEEP), LINEAR),
  "AutoInt": Case(
    AutoInt(
      dim=4,
      num_layers=1,
      head_dim=3,
      layer_norm=True,
      attention_dropout_rate=0.2,
      hidden=(8,),
      linear_terms=True,
      **DEEP,
    ),
    LINEAR,
  ),
  "FinalMLP": Case(
    FinalMLP(
      dim=4,
      hidden1=(8,),
      hidden2=(6,),
      gate_hidden=(5,),
      gate1_context=True,
      num_heads=2,
      dropout_rate1=0.5,
      dropout_rate2=0.2,
      batch_norm1=True,
      batch_norm2=True,
    ),
    (("embedding", 3), ("gate1", 1)),
  ),
}


@pytest.fixture(params=CASES, scope="module")
def case(request) -> Case:
  return CASES[request.param]


@pytest.fixture(scope="module")
def setting(case, oracle):
  """Random weights and inputs of the case."""
  rows, dense = oracle.inputs(case.model, dict(case.fields), case.num_dense)
  return oracle.random_variables(case.model, rows, dense), rows, dense


@functools.partial(jax.jit, static_argnums=0)
def score(model, variables, rows, dense):
  return model.apply(variables, rows, dense)["logit"]


@functools.partial(jax.jit, static_argnums=0)
def train(model, variables, rows, dense, key, where):
  """Logits in training, new statistics, and gradients of a mean loss."""
  stats = {k: v for k, v in variables.items() if k != "params"}

  def loss(params, rows):
    out, changed = model.apply(
      {"params": params, **stats},
      rows,
      dense,
      deterministic=False,
      where=where,
      rngs={"dropout": key},
      mutable=["batch_stats"],
    )
    return jnp.mean(jax.nn.softplus(out["logit"])), (out["logit"], changed)

  gradients, aux = jax.grad(loss, (0, 1), has_aux=True)(
    variables["params"], rows
  )
  return *aux, gradients


def public_modules() -> set[str]:
  """Linen modules that the files of recjax/models define."""
  found = set()
  for info in pkgutil.iter_modules(recjax.models.__path__):
    module = importlib.import_module(f"recjax.models.{info.name}")
    defined = {
      name
      for name, value in inspect.getmembers(module, inspect.isclass)
      if issubclass(value, nn.Module) and value.__module__ == module.__name__
    }
    assert defined, f"recjax/models/{info.name}.py defines no model"
    found |= defined
  return found


def test_every_model_is_listed():
  assert public_modules() == (
    set(CASES) | SEQUENCE_MODELS | RETRIEVAL_MODELS | MULTI_TASK_MODELS | PARTS
  )
  assert all(type(case.model).__name__ == name for name, case in CASES.items())


def test_a_new_file_is_noticed(tmp_path, monkeypatch):
  (tmp_path / "planted.py").write_text(
    "import flax.linen as nn\nclass Planted(nn.Module):\n  pass\n"
  )
  path = [*recjax.models.__path__, str(tmp_path)]
  monkeypatch.setattr(recjax.models, "__path__", path)
  assert "Planted" in public_modules()


def test_defaults_construct_and_hash(case):
  model = type(case.model)()
  assert hash(model) == hash(type(case.model)())
  assert model.groups and all(
    isinstance(dim, int) and dim > 0 for dim in model.groups.values()
  )
  assert set(case.model.groups) == set(dict(case.fields))


def test_parameters_and_logits_are_float32(case, oracle):
  rows, dense = oracle.inputs(case.model, dict(case.fields), case.num_dense)
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (rows, dense))
  shapes = jax.eval_shape(case.model.init, jax.random.key(0), *low)
  assert ("batch_stats" in shapes) == case.batch_norm
  logit = jax.eval_shape(case.model.apply, shapes, *low)["logit"]
  assert {x.dtype for x in jax.tree.leaves((shapes, logit))} == {
    jnp.dtype("float32")
  }


def test_jit_equals_eager(case, setting):
  eager = case.model.apply(*setting)["logit"]
  np.testing.assert_allclose(
    score(case.model, *setting), eager, rtol=1e-5, atol=1e-6
  )


def test_a_row_does_not_depend_on_the_others(case, setting):
  variables, rows, dense = setting
  before = score(case.model, variables, rows, dense)
  other = lambda x: x.at[1:].set(-2.0 * x[1:] + 1.0)
  after = score(
    case.model,
    variables,
    jax.tree.map(other, rows),
    None if dense is None else other(dense),
  )
  np.testing.assert_allclose(after[0], before[0], rtol=1e-6)
  assert np.all(np.abs(after[1:] - before[1:]) > 1e-4)


def test_gradients_are_finite_and_reach_every_field(case, setting):
  logit, _, (params, rows) = train(
    case.model, *setting, jax.random.key(1), EVERY_ROW
  )
  assert np.all(np.isfinite(logit))
  for leaf in jax.tree.leaves(params):
    assert np.all(np.isfinite(leaf))
  for leaf in rows.values():
    assert np.all(np.isfinite(leaf))
    assert np.all(np.abs(leaf).max(axis=(0, 2)) > 1e-6)


def test_the_order_of_the_fields(case, setting):
  variables, rows, dense = setting
  turned = jax.tree.map(lambda x: x[:, ::-1], rows)
  before = score(case.model, variables, rows, dense)
  after = score(case.model, variables, turned, dense)
  if case.symmetric:
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
  else:
    assert np.all(np.abs(after - before) > 1e-4)


def test_evaluation_uses_the_running_statistics(case, setting):
  variables, rows, dense = setting
  assert ("batch_stats" in variables) == case.batch_norm
  _, changed, _ = train(
    case.model, variables, rows, dense, jax.random.key(0), EVERY_ROW
  )
  before = score(case.model, variables, rows, dense)
  after = score(case.model, {**variables, **changed}, rows, dense)
  assert (np.abs(after - before).max() > 1e-3) == case.batch_norm
  for path, leaf in jax.tree.leaves_with_path(changed):
    old = functools.reduce(lambda tree, key: tree[key.key], path, variables)
    assert np.all(leaf != old)


def test_padding_rows_change_nothing_in_training(case, setting):
  """`where` keeps them out of the statistics of a batch."""
  variables, rows, dense = setting
  key, where = jax.random.key(0), jnp.arange(BATCH) < BATCH - 2
  spoil = lambda x: x.at[BATCH - 2 :].set(100.0)
  found = train(case.model, variables, rows, dense, key, where)
  spoiled = train(
    case.model, variables, *jax.tree.map(spoil, (rows, dense)), key, where
  )
  np.testing.assert_allclose(
    spoiled[0][: BATCH - 2], found[0][: BATCH - 2], rtol=1e-6
  )
  jax.tree.map(np.testing.assert_array_equal, spoiled[1], found[1])
  if case.batch_norm:
    logit, _, _ = train(case.model, variables, rows, dense, key, EVERY_ROW)
    assert np.abs(logit - found[0])[: BATCH - 2].max() > 1e-4


def test_dropout_draws_in_training_alone(case, setting):
  logits = [
    train(case.model, *setting, jax.random.key(seed), EVERY_ROW)[0]
    for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(logits[0], logits[1])
  assert (np.abs(logits[0] - logits[2]).max() > 1e-4) == case.dropout
  # Evaluation has no key at all, and would stop if it asked for one.
  assert np.all(np.isfinite(score(case.model, *setting)))


def test_a_missing_group_is_named(case, setting):
  variables, rows, dense = setting
  for name in rows:
    less = {other: x for other, x in rows.items() if other != name}
    with pytest.raises(ConfigError, match=f"needs the table group '{name}'"):
      case.model.apply(variables, less, dense)
