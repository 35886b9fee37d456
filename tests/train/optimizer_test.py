import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.errors import ConfigError
from recjax.train.optimizer import Optimizer, ParamGroup

_rng = np.random.default_rng(0)


def tree(scale=1.0):
  normal = lambda *shape: jnp.asarray(
    scale * _rng.normal(size=shape), jnp.float32
  )
  return {
    "model": {"kernel": normal(3, 2), "bias": normal(2)},
    "tables": {"item": normal(4, 2)},
  }


PARAMS = tree()
GRADS = [tree(0.1) for _ in range(3)]


def train(transformation):
  """Parameters after three steps with fixed gradients."""
  params, state = PARAMS, transformation.init(PARAMS)
  update = jax.jit(transformation.update)
  for grads in GRADS:
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params


def allclose(got, want):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
    got,
    want,
  )


def trained(*groups, **settings):
  return train(Optimizer(groups=groups, **settings).build(PARAMS))


# -- One group ----------------------------------------------------------------


def test_one_group_of_adam_is_optax_adam():
  group = ParamGroup(learning_rate=0.01, b1=0.8, b2=0.98, eps=1e-6)
  expected = train(optax.adam(0.01, 0.8, 0.98, 1e-6))
  jax.tree.map(np.testing.assert_array_equal, trained(group), expected)


def adam(params, grads, decay=0.0):
  m = v = 0.0
  for t, g in enumerate(grads, 1):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    params = params - 0.01 * (step + decay * params)
  return params


def sgd(params, grads):
  return params - 0.01 * sum(grads)


def momentum(params, grads):
  velocity = 0.0
  for g in grads:
    velocity = 0.9 * velocity + g
    params = params - 0.01 * velocity
  return params


def adagrad(params, grads):
  total = 0.1  # Where optax starts the sum of squares.
  for g in grads:
    total = total + g**2
    params = params - 0.01 * g / np.sqrt(total + 1e-8)
  return params


FORMULAS = {
  "adam": ({}, adam),
  "adamw": ({"weight_decay": 0.3}, lambda p, g: adam(p, g, decay=0.3)),
  "sgd": ({}, sgd),
  "momentum": ({}, momentum),
  "adagrad": ({}, adagrad),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_optimizers_are_their_formulas(name):
  settings, formula = FORMULAS[name]
  got = trained(ParamGroup(optimizer=name, learning_rate=0.01, **settings))
  expected = jax.tree.map(
    lambda p, *g: formula(
      np.asarray(p, np.float64), [np.asarray(x, np.float64) for x in g]
    ),
    PARAMS,
    *GRADS,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    got,
    expected,
  )


# -- Schedules ----------------------------------------------------------------

STEPS = np.array([0, 1, 5, 10, 11, 60, 109, 110, 500])


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_are_their_formulas(schedule, warmup):
  decay_steps = 0 if schedule == "constant" else 110
  group = ParamGroup(
    learning_rate=0.2,
    schedule=schedule,
    warmup_steps=warmup,
    decay_steps=decay_steps,
  )
  progress = np.clip((STEPS - warmup) / (110 - warmup), 0, 1)
  main = {
    "constant": np.ones(len(STEPS)),
    "linear": 1 - progress,
    "cosine": (1 + np.cos(np.pi * progress)) / 2,
  }[schedule]
  rising = STEPS / warmup if warmup else np.ones(len(STEPS))
  expected = 0.2 * np.where(STEPS < warmup, rising, main)
  rate = group.rate()
  got = [float(rate(jnp.int32(step))) for step in STEPS]
  np.testing.assert_allclose(got, expected, atol=1e-6)


# -- Groups -------------------------------------------------------------------


def test_a_parameter_belongs_to_the_first_group_it_matches():
  got = trained(
    ParamGroup("tables/", optimizer="sgd", learning_rate=0.1),
    ParamGroup("bias$", optimizer="sgd", learning_rate=0.2),
    ParamGroup(optimizer="sgd", learning_rate=0.3),
  )
  rates = {
    "model": {"kernel": 0.3, "bias": 0.2},
    "tables": {"item": 0.1},
  }
  expected = jax.tree.map(
    lambda rate, p, *g: p - rate * sum(g), rates, PARAMS, *GRADS
  )
  allclose(got, expected)


def test_frozen_parameters_stay_and_the_others_move():
  got = trained(ParamGroup("tables/", frozen=True), ParamGroup())
  np.testing.assert_array_equal(got["tables"]["item"], PARAMS["tables"]["item"])
  assert np.all(got["model"]["kernel"] != PARAMS["model"]["kernel"])


def clipped(grads, norm, trained=("model", "tables")):
  leaves = jax.tree.leaves({name: grads[name] for name in trained})
  total = np.sqrt(sum(np.sum(np.square(x)) for x in leaves))
  return jax.tree.map(lambda x: x * min(1.0, norm / total), grads)


@pytest.mark.parametrize("norm", [0.05, 100.0])
def test_clipping_scales_the_whole_gradient(norm):
  got = trained(ParamGroup(optimizer="sgd", learning_rate=1.0), clip_norm=norm)
  expected = jax.tree.map(
    lambda p, *g: p - sum(g), PARAMS, *[clipped(g, norm) for g in GRADS]
  )
  allclose(got, expected)


def test_frozen_parameters_have_no_part_in_the_norm():
  got = trained(
    ParamGroup("tables/", frozen=True),
    ParamGroup(optimizer="sgd", learning_rate=1.0),
    clip_norm=0.05,
  )
  scaled = [clipped(g, 0.05, trained=("model",)) for g in GRADS]
  expected = jax.tree.map(
    lambda p, *g: p - sum(g),
    PARAMS["model"],
    *[grads["model"] for grads in scaled],
  )
  allclose(got["model"], expected)


# -- Errors -------------------------------------------------------------------


def test_a_parameter_of_no_group_is_named():
  with pytest.raises(ConfigError, match="'model/bias' matches no ParamGroup"):
    trained(ParamGroup("tables/"), ParamGroup("kernel"))


def test_a_group_without_parameters_is_named():
  with pytest.raises(ConfigError, match="pattern='tabels/'.*tables/item"):
    trained(ParamGroup("tabels/"), ParamGroup())


def test_there_must_be_a_group():
  with pytest.raises(ConfigError, match="at least one ParamGroup"):
    Optimizer(groups=())


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"optimizer": "adamm"}, "Did you mean 'adam'"),
    ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"learning_rate": -1.0}, "ParamGroup.learning_rate must lie in"),
    ({"b1": 1.0}, "ParamGroup.b1 must lie in"),
    ({"eps": -1.0}, "ParamGroup.eps must lie in"),
    ({"warmup_steps": -1}, "ParamGroup.warmup_steps must lie in"),
    (
      {"schedule": "linear", "warmup_steps": 5, "decay_steps": 5},
      "decay_steps must be larger than warmup_steps",
    ),
    ({"weight_decay": 0.1}, "weight_decay is used by optimizer='adamw' alone"),
    ({"pattern": "*"}, "pattern must be a regular expression; got '\\*'"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    ParamGroup(**settings)


def test_a_negative_norm_is_refused():
  with pytest.raises(ConfigError, match="Optimizer.clip_norm must lie in"):
    Optimizer(clip_norm=-1.0)
