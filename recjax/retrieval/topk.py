"""The k best items for a query, exactly, in memory that the catalogue spares.

Blocks of items pass by; each block's best k are merged with the best so far.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from recjax.errors import check_range
from recjax.retrieval.scorers import Scorer, scorer_kind


def top_k(
  scorer: Scorer,
  queries: Num[Array, "batch *rest"],
  excluded: Int[Array, "batch len"] | None = None,
  allowed: Bool[Array, " vocab"] | None = None,
  *,
  k: int,
  num_items: int,
  item_block: int = 2048,
) -> tuple[Float[Array, "batch k"], Int[Array, "batch k"]]:
  """The k items with the highest scores; of equal ones the lower ids.

  Args:
    scorer: what scores.
    queries: one a user.
    excluded: item ids never returned, such as those seen; 0 is padding.
    allowed: of each item id, whether it is ever returned; all by default.
    k: how many items.
    num_items: the size of the catalogue; ids run from 1 to it.
    item_block: items scored at once.

  Returns:
    Scores in falling order, and item ids. Where fewer than k items are left,
    the rest has score -inf and id 0.

  Raises:
    ConfigError: k is not in [1, num_items].
  """
  check_range("k", k, 1, num_items, integer=True)
  check_range("item_block", item_block, 1, integer=True)
  return _top_k(
    scorer,
    queries,
    excluded,
    allowed,
    kind=scorer_kind(scorer),
    k=k,
    num_items=num_items,
    item_block=item_block,
  )


@functools.partial(
  jax.jit, static_argnames=("kind", "k", "num_items", "item_block")
)
def _top_k(
  scorer: Scorer,
  queries: Num[Array, "batch *rest"],
  excluded: Int[Array, "batch len"] | None,
  allowed: Bool[Array, " vocab"] | None,
  *,
  kind: tuple[type, ...],
  k: int,
  num_items: int,
  item_block: int,
) -> tuple[Float[Array, "batch k"], Int[Array, "batch k"]]:
  del kind
  width = max(k, -(-min(item_block, num_items) // 64) * 64)
  batch = queries.shape[0]
  users = jnp.arange(batch)[:, None]

  def step(best: tuple, start: Int[Array, ""]) -> tuple[tuple, None]:
    ids = start + jnp.arange(width)
    ids = jnp.where(ids <= num_items, ids, 0)
    scores = scorer.scores(queries, ids)
    valid = ids > 0 if allowed is None else (ids > 0) & allowed[ids]
    scores = jnp.where(valid[None, :], scores, -jnp.inf)
    if excluded is not None:
      column = excluded - start
      # Below zero would count from the end; past the width is dropped.
      column = jnp.where(column < 0, width, column)
      scores = scores.at[users, column].set(-jnp.inf, mode="drop")
    values, columns = jax.lax.top_k(scores, k)
    # Those found earlier stand first, so that equal ones keep their order.
    values = jnp.concatenate([best[0], values], 1)
    found = jnp.concatenate([best[1], ids[columns]], 1)
    values, columns = jax.lax.top_k(values, k)
    return (values, jnp.take_along_axis(found, columns, 1)), None

  ids = jax.ShapeDtypeStruct((width,), jnp.int32)
  dtype = jax.eval_shape(scorer.scores, queries, ids).dtype
  none = jnp.full((batch, k), -jnp.inf, dtype)
  best = none, jnp.zeros((batch, k), jnp.int32)
  starts = jnp.arange(1, num_items + 1, width)
  (values, ids), _ = jax.lax.scan(step, best, starts)
  return values, jnp.where(values > -jnp.inf, ids, 0)
