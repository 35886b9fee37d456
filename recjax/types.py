"""Names for arrays and containers that cross module borders.

The axes of shape annotations come from one glossary:

| axis | meaning |
| --- | --- |
| batch | examples of one step, or users of one evaluation block |
| len | positions of a sequence |
| dim | width of an embedding or a hidden state |
| field | columns of a table of features |
| cand | candidate items that are scored together |
| item, user | all items or users; ids start at 1, so index 0 is padding |
| vocab | rows of an embedding table |
| expert, task, head, k | as in the papers |

Ids are int32, start at 1 and never share an array with floats; 0 is padding.
"""

from collections.abc import Mapping
from typing import Any

import jax

Array = jax.Array
Batch = Mapping[str, jax.Array]
"""A flat dict of named arrays; padding is marked by a mask or by id 0."""
Params = Any
"""A pytree of arrays: {"model": Linen parameters, "tables": {name: table}}."""

ITEM = "item_id"
"""The feature under which a sequence model finds the rows of its items."""
