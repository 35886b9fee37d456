"""What a lookup asks of a batch."""

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.embeddings.lookups import Lookup
from recjax.errors import ConfigError

BASKET = Lookup("basket", "item", combiner="mean", weights="amounts")
BATCH = {"basket": jnp.ones((6, 5), jnp.int32), "amounts": jnp.ones((6, 5))}


def test_ids_and_weights_are_found_by_their_names():
  assert BASKET.ids_in(BATCH) is BATCH["basket"]
  assert BASKET.weights_in(BATCH) is BATCH["amounts"]
  assert Lookup("basket", "item").weights_in(BATCH) is None
  assert Lookup("a", "item").output == "a"
  assert Lookup("a", "item", name="b").output == "b"


@pytest.mark.parametrize(
  "make,message",
  [
    (
      lambda: Lookup("a", "item", combiner="avg"),
      r"Lookup\('a'\).combiner must be one of",
    ),
    (lambda: Lookup("a", "item", weights="w"), "weights needs a combiner"),
  ],
)
def test_bad_lookups_name_the_rule(make, message):
  with pytest.raises(ConfigError, match=message):
    make()


@pytest.mark.parametrize(
  "change,message",
  [
    (
      {"basket": None},
      r"Lookup\('basket'\).feature must be one of .*; got 'basket'",
    ),
    (
      {"basket": np.array([1, 2])},
      r"Lookup\('basket'\).combiner must be 'none' .* 'basket' is no list",
    ),
    ({"amounts": None}, r"weights must be one of .*; got 'amounts'"),
    (
      {"amounts": np.ones((6, 2))},
      r"shape of the ids 'basket', \(6, 5\); 'amounts' has \(6, 2\)",
    ),
  ],
)
def test_bad_batches_name_the_rule(change, message):
  batch = {k: v for k, v in (BATCH | change).items() if v is not None}
  with pytest.raises(ConfigError, match=message):
    BASKET.ids_in(batch)
    BASKET.weights_in(batch)
