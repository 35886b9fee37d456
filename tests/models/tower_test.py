"""A tower: its inputs in their order, gates, interests, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.layers.fusion import ConcatFusion, GatedFusion
from recjax.layers.histories import MeanHistory
from recjax.layers.interests import SelfAttentiveInterests
from recjax.layers.tower_inputs import TowerInputs
from recjax.models.tower import Tower, check_item_tower, last_items

ROWS, LEN = 4, 5
RNG = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(RNG.normal(size=shape).astype(np.float32))
WHERE = jnp.asarray(np.arange(LEN)[None] < np.array([5, 3, 1, 0])[:, None])
INPUTS = TowerInputs(
  fields={"user/b": draw(ROWS, 2), "user/a": draw(ROWS, 3)},
  context=TowerInputs(
    {"context/hour": draw(ROWS, 2)},
    None,
    draw(ROWS, 1),
    {},
    {"image": draw(ROWS, 3)},
    None,
    None,
  ),
  numbers=draw(ROWS, 1),
  tokens={"title": (draw(ROWS, 6, 2), jnp.ones((ROWS, 6), bool))},
  modalities={"image": draw(ROWS, 7)},
  history=draw(ROWS, LEN, 3),
  history_where=WHERE,
)


def run(tower: Tower, inputs: TowerInputs = INPUTS, **options):
  variables = tower.init(jax.random.key(0), inputs, deterministic=True)
  out = tower.apply(variables, inputs, deterministic=True, **options)
  return np.asarray(out), variables["params"]


def test_the_parts_stand_side_by_side():
  out, params = run(Tower(4, project=False, history=MeanHistory()))
  tokens = np.asarray(INPUTS.tokens["title"][0]).mean(axis=1)
  text = tokens @ params["text_title"]["output"]["kernel"]
  image = np.asarray(INPUTS.modalities["image"])
  image = image @ params["modality_image"]["kernel"]
  assert INPUTS.context is not None
  sight = np.asarray(INPUTS.context.modalities["image"])
  sight = sight @ params["context_modality_image"]["kernel"]
  where = np.asarray(WHERE)[..., None]
  mean = (np.asarray(INPUTS.history) * where).sum(1)
  mean /= np.maximum(where.sum(1), 1)
  expected = [
    INPUTS.fields["user/a"],
    INPUTS.fields["user/b"],
    INPUTS.numbers,
    text,
    image,
    mean,
    INPUTS.context.fields["context/hour"],
    INPUTS.context.numbers,
    sight,
  ]
  np.testing.assert_allclose(out, np.concatenate(expected, 1), atol=1e-5)


def test_a_mean_that_is_given_is_that_of_the_items():
  tower = Tower(4, history=MeanHistory())
  assert tower.reads_mean
  by_items, _ = run(tower)
  where = np.asarray(WHERE)[..., None]
  mean = (np.asarray(INPUTS.history) * where).sum(1)
  mean /= np.maximum(where.sum(1), 1)
  by_mean, _ = run(
    tower, dataclasses.replace(INPUTS, history=jnp.asarray(mean))
  )
  np.testing.assert_allclose(by_mean, by_items, atol=1e-5)


@pytest.mark.parametrize(
  "options",
  [
    {"history": MeanHistory(), "short_history": MeanHistory()},
    {"history": MeanHistory(), "history_dropout_rate": 0.5},
    {"interests": SelfAttentiveInterests()},
  ],
)
def test_a_tower_that_reads_items_takes_no_mean(options):
  tower = Tower(4, **options)
  assert not tower.reads_mean
  mean = dataclasses.replace(INPUTS, history=jnp.ones((ROWS, 3)))
  with pytest.raises(ConfigError, match="one by one"):
    run(tower, mean)


def test_hidden_layers_and_the_output():
  out, params = run(Tower(4, (6,), fusion=ConcatFusion(2)))
  layer, output = params["mlp"]["layer_0"], params["output"]
  plain, _ = run(Tower(4, project=False, fusion=ConcatFusion(2)))
  assert layer["kernel"].shape == (plain.shape[1], 6)
  assert out.shape == (ROWS, 4)
  assert output["kernel"].shape == (6, 4)


def test_masked_items_have_no_effect():
  tower = Tower(
    4, history=MeanHistory(), short_history=MeanHistory(), short_len=2
  )
  noise = jnp.where(WHERE[..., None], INPUTS.history, 1e3)
  out, _ = run(tower)
  other, _ = run(tower, INPUTS.replace(history=noise))
  np.testing.assert_allclose(out, other, rtol=1e-6)


def test_each_interest_goes_through_the_same_layers():
  tower = Tower(4, (6,), interests=SelfAttentiveInterests(3, 3))
  out, _ = run(tower)
  assert out.shape == (ROWS, 3, 4)
  # An empty history has no interests but what else is known.
  np.testing.assert_allclose(out[3, 0], out[3, 1], rtol=1e-5)
  assert np.abs(out[0, 0] - out[0, 1]).max() > 1e-3


def test_a_gate_reads_all_of_the_context_and_scales_the_rest():
  tower = Tower(4, project=False, context_gate=True)
  variables = tower.init(jax.random.key(0), INPUTS, deterministic=True)
  leaves, tree = jax.tree.flatten(variables)
  wave = lambda x: 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape)
  noisy = [x + wave(x) for x in leaves]
  variables = jax.tree.unflatten(tree, noisy)
  run_with = lambda inputs: np.asarray(
    tower.apply(variables, inputs, deterministic=True)
  )
  before, context = run_with(INPUTS), INPUTS.context
  assert context is not None and context.numbers is not None
  width = before.shape[1] - 2 - 1 - 4  # What is behind is the context itself.
  for name, other in (
    ("numbers", context.numbers + 1),
    ("fields", {"context/hour": context.fields["context/hour"] + 1}),
    ("modalities", {"image": context.modalities["image"] + 1}),
  ):
    after = run_with(INPUTS.replace(context=context.replace(**{name: other})))
    assert np.abs(after - before)[:, :width].max() > 1e-3


def test_a_fusion_joins_texts_and_vectors():
  _, params = run(Tower(4, fusion=GatedFusion(6)))
  assert set(params["fusion"]) == {"project_image", "project_title", "gates"}
  with pytest.raises(ConfigError, match="fusion joins texts and vectors"):
    run(
      Tower(4, fusion=GatedFusion(6)), INPUTS.replace(tokens={}, modalities={})
    )


def test_a_context_gate_starts_open():
  gated, _ = run(Tower(4, project=False, context_gate=True))
  plain, _ = run(Tower(4, project=False))
  np.testing.assert_allclose(gated, plain, rtol=1e-6)


def test_items_of_the_history_are_dropped_whole_in_training_alone():
  tower = Tower(
    3, project=False, history=MeanHistory(), history_dropout_rate=0.5
  )
  inputs = TowerInputs(
    {}, None, None, {}, {}, jnp.ones((64, 8, 3)), jnp.ones((64, 8), bool)
  )
  key = {"dropout": jax.random.key(0)}
  out = tower.apply({}, inputs, deterministic=False, rngs=key)
  kept = np.asarray(out) * 8 / 2  # Each that is kept counts twice.
  np.testing.assert_allclose(kept, np.round(kept), atol=1e-5)
  np.testing.assert_array_equal(kept[:, 0], kept[:, 2])
  assert 3.5 < kept.mean() < 4.5 and kept.std() > 1
  served = tower.apply({}, inputs, deterministic=True)
  np.testing.assert_array_equal(served, 1.0)


def test_the_last_items_of_short_and_long_histories():
  history = jnp.arange(ROWS * LEN, dtype=jnp.float32).reshape(ROWS, LEN, 1)
  recent, where = last_items(history, WHERE, 2)
  np.testing.assert_array_equal(
    np.where(where, recent[..., 0], -1),
    [[3, 4], [6, 7], [10, -1], [-1, -1]],
  )


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"dim": 0}, "Tower.dim"),
    ({"num_experts": 2}, "Tower.hidden"),
    ({"short_history": MeanHistory()}, "needs Tower.history"),
    (
      {"history": MeanHistory(), "interests": SelfAttentiveInterests()},
      "got both",
    ),
    ({"history_dropout_rate": 1.0}, "history_dropout_rate"),
  ],
)
def test_bad_settings_are_told(settings, message):
  with pytest.raises(ConfigError, match=message):
    Tower(**settings)


def test_what_a_tower_can_not_do_without():
  nothing = TowerInputs({}, None, None, {}, {}, None, None)
  with pytest.raises(ConfigError, match="a feature or a history"):
    run(Tower(4), nothing)
  with pytest.raises(ConfigError, match="given none"):
    run(Tower(4, history=MeanHistory()), nothing)
  with pytest.raises(ConfigError, match="context_features"):
    run(Tower(4, context_gate=True), INPUTS.replace(context=None))


@pytest.mark.parametrize(
  "item",
  [Tower(history=MeanHistory()), Tower(context_gate=True)],
)
def test_items_have_neither_history_nor_context(item):
  with pytest.raises(ConfigError, match="TwoTower.item can have no"):
    check_item_tower(item)
