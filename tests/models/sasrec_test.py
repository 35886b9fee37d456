import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.models.sasrec import ITEM, SASRec

REFERENCE = np.load(
  pathlib.Path(__file__).parents[1] / "reference" / "sasrec.npz"
)
CASES = {
  "paper": {},
  "paper_2_heads_projection": {"num_heads": 2, "output_projection": True},
  "pre": {"norm": "pre"},
  "pre_2_heads_projection": {
    "norm": "pre",
    "num_heads": 2,
    "output_projection": True,
  },
}
LEN, DIM, ROWS = 12, 8, 6
# (sequence, row, offset): several a row, gaps between them, any order.
PLACES = ((4, 0, 0), (1, 0, 2), (5, 0, 9), (0, 1, 0), (3, 2, 1), (2, 2, 6))


def make(**changes):
  return SASRec(
    **{"dim": DIM, "max_len": LEN, "query_block": 5, "dropout_rate": 0.5}
    | changes
  )


def reference_params(model):
  """The stored weights that a model has, as a tree."""
  params = {}
  for name in REFERENCE.files:
    if not name.startswith("weights/") or name == "weights/item":
      continue
    if "output_" in name and not model.output_projection:
      continue
    node = params
    *folders, leaf = name.removeprefix("weights/").split("/")
    for folder in folders:
      node = node.setdefault(folder, {})
    node[leaf] = jnp.asarray(REFERENCE[name])
  return params


SEQUENCES = [row[row > 0] for row in REFERENCE["sequences"]]


def packed(places, positions="from_end"):
  """Item ids, positions and segments with sequences at the given places."""
  item, position, segment = np.zeros((3, ROWS, LEN), np.int32)
  for number, (sequence, row, offset) in enumerate(places, 1):
    items = SEQUENCES[sequence]
    cells = slice(offset, offset + len(items))
    assert not segment[row, cells].any()
    item[row, cells] = items
    segment[row, cells] = number
    first = LEN - len(items) if positions == "from_end" else 0
    position[row, cells] = first + np.arange(len(items))
  return tuple(map(jnp.asarray, (item, position, segment)))


@functools.partial(jax.jit, static_argnums=0)
def encode(model, params, item, position, segment):
  rows = jnp.asarray(REFERENCE["weights/item"])[item]
  return model.apply({"params": params}, {ITEM: rows}, position, segment)[
    "hidden"
  ]


def hidden_of(states, places):
  """sequence -> its states, wherever they stand."""
  return {
    sequence: states[row, offset : offset + len(SEQUENCES[sequence])]
    for sequence, row, offset in places
  }


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference_at_every_valid_position(name):
  assert "PyTorch 2.13" in str(REFERENCE["made_by"])
  model = make(**CASES[name])
  states = encode(model, reference_params(model), *packed(PLACES))
  found = hidden_of(states, PLACES)
  assert len(found) == len(SEQUENCES)
  for sequence, hidden in found.items():
    expected = REFERENCE[f"hidden/{name}"][sequence]
    np.testing.assert_allclose(
      hidden, expected[LEN - len(hidden) :], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("positions", ["from_end", "from_start"])
def test_packing_changes_nothing(positions):
  model = make()
  params = reference_params(model)
  alone = [(number, number, 0) for number in range(len(SEQUENCES))]
  apart = hidden_of(encode(model, params, *packed(alone, positions)), alone)
  states = encode(model, params, *packed(PLACES, positions))
  for sequence, hidden in hidden_of(states, PLACES).items():
    np.testing.assert_allclose(hidden, apart[sequence], atol=1e-6)


def test_positions_matter():
  model = make()
  params = reference_params(model)
  states = [
    encode(model, params, *packed(PLACES, positions))
    for positions in ("from_end", "from_start")
  ]
  assert np.abs(states[0] - states[1])[0, 2:9].max() > 0.1


def test_a_state_depends_on_the_items_up_to_it_and_on_no_other():
  model = make()
  params = reference_params(model)
  item, position, segment = packed(PLACES)
  before = encode(model, params, item, position, segment)
  row, place = 2, 7  # The second of five items, behind another sequence.
  moved = set()
  for r, p in np.ndindex(ROWS, LEN):
    changed = item.at[r, p].set(item[r, p] % 30 + 1)
    after = encode(model, params, changed, position, segment)
    if np.abs(after - before)[row, place].max() > 1e-6:
      moved.add((r, p))
  assert SEQUENCES[2].size == 5 and PLACES[-1] == (2, 2, 6)
  assert moved == {(2, 6), (2, 7)}


def test_padding_is_masked_by_where():
  model = make()
  params = reference_params(model)
  item, position, segment = packed(PLACES)
  states = encode(model, params, item, position, segment)
  item = np.where(segment > 0, item, 17)
  position = np.where(segment > 0, position, 5)
  spoiled = encode(model, params, item, position, segment)
  valid = np.asarray(segment) > 0
  np.testing.assert_array_equal(states[valid], spoiled[valid])
  assert np.all(np.isfinite(states))


def test_bfloat16_stays_close_and_keeps_parameters_float32():
  exact, low = make(), make(compute_dtype="bfloat16")
  params = reference_params(exact)
  args = packed(PLACES)
  valid = np.asarray(args[2]) > 0
  states = encode(low, params, *args)
  assert states.dtype == jnp.float32
  error = np.abs(states - encode(exact, params, *args))[valid]
  assert 1e-6 < error.mean() < 0.03
  shapes = initial_shapes(compute_dtype="bfloat16")
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def init(model, key):
  zeros = jnp.zeros((1, LEN), jnp.int32)
  rows = {ITEM: jnp.zeros((1, LEN, model.dim))}
  return model.init(key, rows, zeros, zeros)["params"]


def initial_shapes(**changes):
  return jax.eval_shape(
    lambda key: init(make(**changes), key), jax.random.key(0)
  )


@pytest.mark.parametrize("projection", [False, True])
def test_names_and_shapes_of_parameters(projection):
  params = initial_shapes(num_blocks=2, output_projection=projection)
  shapes = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree.leaves_with_path(params)
  }
  expected = {"position_embedding": (LEN, DIM)}
  norms, dense = ["last_norm"], []
  for block in "01":
    norms += [f"attention_norm_{block}", f"feed_forward_norm_{block}"]
    names = ["query", "key", "value", "inner", "outer"]
    dense += [f"{name}_{block}" for name in names + ["output"] * projection]
  for name in norms:
    expected |= {f"{name}/scale": (DIM,), f"{name}/bias": (DIM,)}
  for name in dense:
    expected |= {f"{name}/kernel": (DIM, DIM), f"{name}/bias": (DIM,)}
  assert shapes == expected


def test_initial_values():
  initial = jax.jit(init, static_argnums=0)
  params = initial(make(dim=32, num_blocks=1), jax.random.key(0))
  limit = np.sqrt(6 / (32 + 32))  # Glorot's bound.
  kernel = np.asarray(params["query_0"]["kernel"])
  assert 0.95 * limit < np.abs(kernel).max() <= limit
  np.testing.assert_array_equal(params["query_0"]["bias"], 0.0)
  model = make(dim=32, num_blocks=1, initializer="normal", init_stddev=0.1)
  normal = initial(model, jax.random.key(0))
  kernel = np.asarray(normal["query_0"]["kernel"])
  assert abs(kernel.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * kernel.size)


def test_dropout_acts_in_training_alone():
  model = make()
  params = reference_params(model)
  item, position, segment = packed(PLACES)
  rows = {ITEM: jnp.asarray(REFERENCE["weights/item"])[item]}

  @jax.jit
  def train(key):
    return model.apply(
      {"params": params},
      rows,
      position,
      segment,
      deterministic=False,
      rngs={"dropout": key},
    )["hidden"]

  first, second = train(jax.random.key(0)), train(jax.random.key(1))
  np.testing.assert_array_equal(first, train(jax.random.key(0)))
  assert np.abs(first - second).max() > 0.1
  calm = encode(model, params, item, position, segment)
  assert np.abs(first - calm).max() > 0.1


@pytest.mark.parametrize(
  "field,value,message",
  [
    ("dim", 0, "SASRec.dim must lie in"),
    ("num_blocks", -1, "SASRec.num_blocks must lie in"),
    ("max_len", 0, "SASRec.max_len must lie in"),
    ("query_block", 0, "SASRec.query_block must lie in"),
    (
      "num_heads",
      3,
      "num_heads must divide dim=8, so be one of 1, 2, 4, 8; got 3",
    ),
    ("dropout_rate", 1.0, "SASRec.dropout_rate must lie in"),
    ("norm", "papr", "SASRec.norm must be one of.*Did you mean 'paper'"),
    ("initializer", "norml", "SASRec.initializer.*Did you mean 'normal'"),
    ("compute_dtype", "float16", "SASRec.compute_dtype must be one of"),
  ],
)
def test_bad_settings_name_the_rule(field, value, message):
  with pytest.raises(ConfigError, match=message):
    make(**{field: value})


# --- What ablations leave out ------------------------------------------------


def numpy_norm(x, weights):
  centred = x - x.mean(-1, keepdims=True)
  scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-8)
  return scaled * weights["scale"] + weights["bias"]


def numpy_states(model, params, items):
  """The formulae at the top of the module, for one sequence."""
  dense = lambda name, y: y @ params[name]["kernel"] + params[name]["bias"]
  norm = lambda name, y: (
    y if model.norm == "none" else numpy_norm(y, params[name])
  )
  x = REFERENCE["weights/item"][items] * np.sqrt(model.dim)
  if model.position_embedding:
    x = x + np.asarray(params["position_embedding"])[: len(items)]
  future = np.triu(np.full((len(items), len(items)), -np.inf), 1)
  for b in range(model.num_blocks):
    q = norm(f"attention_norm_{b}", x)
    source = x if model.norm == "paper" else q
    logits = dense(f"query_{b}", q) @ dense(f"key_{b}", source).T
    logits = logits / np.sqrt(model.dim) + future
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    added = (q if model.norm == "paper" else x) if model.residual else 0
    x = weights @ dense(f"value_{b}", source) + added
    f = norm(f"feed_forward_norm_{b}", x)
    inner = np.maximum(dense(f"inner_{b}", f), 0)
    added = (f if model.norm == "paper" else x) if model.residual else 0
    x = dense(f"outer_{b}", inner) + added
  return norm("last_norm", x)


@pytest.mark.parametrize("norm", ["paper", "pre", "none"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("position_embedding", [True, False])
def test_what_is_left_out_is_left_out(norm, residual, position_embedding):
  model = make(
    norm=norm, residual=residual, position_embedding=position_embedding
  )
  items = SEQUENCES[0]
  batch = [jnp.asarray(x, jnp.int32)[None] for x in (
    items, np.arange(len(items)), np.ones(len(items)))]  # fmt: skip
  rows = jnp.asarray(REFERENCE["weights/item"])[batch[0]]
  params = model.init(jax.random.key(3), {ITEM: rows}, *batch[1:])["params"]
  assert ("position_embedding" in params) == position_embedding
  assert ("last_norm" in params) == (norm != "none")
  found = encode(model, params, *batch)[0]
  expected = numpy_states(model, jax.tree.map(np.asarray, params), items)
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
