"""Losses of retrieval: a positive against the candidates of its batch.

Candidates that are drawn, and a batch draws popular items often, are corrected
by how many copies of them are expected (logQ); all of these losses are
`losses.softmax.sampled_softmax_loss` with other candidates.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from recjax.errors import check_range
from recjax.losses.softmax import sampled_softmax_loss


def candidate_softmax_loss(
  positive: Float[Array, "*positions"],
  negative: Float[Array, "*positions cand"],
  log_expected_count: Float[Array, "*#positions cand"] | None,
  log_expected_positive: Float[Array, "*positions"] | None,
  ignored: Bool[Array, "*#positions cand"] | None,
  where: Bool[Array, "*positions"],
) -> Float[Array, "*positions"]:
  r"""Cross-entropy of a positive against candidates, with logQ.

  loss = log(exp s'+ + sum_{j not ignored} exp(s_j - log c_j)) - s'+

  where c_j is how many copies of candidate j are expected among the
  candidates. There are two forms. With s'+ = s+ the sum estimates that over
  the whole catalogue, provided the positive itself is ignored among the
  candidates: it is there with certainty, and not as a draw. With
  s'+ = s+ - log c+ the positive is corrected like a draw, as in Yi et al.;
  the loss then asks which of the candidates came with the query.

  Args:
    positive: scores of the positives.
    negative: scores of the candidates.
    log_expected_count: log c of the candidates, or None for no correction.
    log_expected_positive: log c of the positives, or None to leave them.
    ignored: candidates that do not count, such as accidental hits.
    where: which positions count.

  Returns:
    The loss at each position, 0 where masked.

  References:
    Bengio and Senecal: Adaptive Importance Sampling to Accelerate Training
    of a Neural Probabilistic Language Model, 2008; Yi et al.:
    Sampling-Bias-Corrected Neural Modeling, RecSys 2019,
    https://doi.org/10.1145/3298689.3346996; Khrylchenko et al.: Correcting
    the LogQ Correction, RecSys 2025, https://arxiv.org/abs/2507.09331
  """
  if ignored is None:
    ignored = jnp.zeros(negative.shape, bool)
  if log_expected_positive is not None:
    positive = positive - log_expected_positive.astype(positive.dtype)
  if log_expected_count is not None:
    log_expected_count = jnp.broadcast_to(
      log_expected_count.astype(negative.dtype), negative.shape
    )
  return sampled_softmax_loss(
    positive,
    negative,
    jnp.broadcast_to(ignored, negative.shape),
    log_expected_count,
    where,
  )


def in_batch_ignored(
  item_id: Int[Array, " batch"],
  where: Bool[Array, " batch"],
  *,
  remove_accidental_hits: bool = True,
) -> Bool[Array, "batch batch"]:
  """Which rows are no negatives of a row: itself, padding, accidental hits.

  Args:
    item_id: the positive of each row.
    where: which rows count.
    remove_accidental_hits: also rows with the same positive.

  Returns:
    At [i, j] whether the positive of row j is left out for row i.
  """
  if remove_accidental_hits:
    ignored = item_id[:, None] == item_id[None, :]
  else:
    ignored = jnp.eye(item_id.shape[0], dtype=bool)
  return ignored | ~where[None, :]


def in_batch_softmax_loss(
  scores: Float[Array, "batch batch"],
  item_id: Int[Array, " batch"],
  log_q: Float[Array, " batch"] | None,
  where: Bool[Array, " batch"],
  *,
  correct_positive: bool = True,
  remove_accidental_hits: bool = True,
) -> Float[Array, " batch"]:
  r"""Cross-entropy of each row against the positives of the other rows.

  loss_i = log(exp s'_ii + sum_{j != i} exp(s_ij - log((n - 1) q_j))) - s'_ii
  s'_ii  = s_ii - log((n - 1) q_i), or s_ii without `correct_positive`

  with n rows that count. Corrected rows learn log p(item | query); without
  the correction they learn log p(item | query) - log q(item). With the
  positive corrected and accidental hits kept this is exact for any n: the
  loss asks which of the items came with the query. With the positive left
  and accidental hits removed it is approached as n grows. With both options
  on, the positive stands for less than exp s_ii in the sum, and scores come
  out a little too far apart, whatever n; with both off, too close.

  Args:
    scores: at [i, j] the query of row i against the positive of row j.
    item_id: the positive of each row.
    log_q: log-probability with which a row holds this positive, or None for
      no correction at all.
    where: which rows count; the others are no candidates either.
    correct_positive: the form of Yi et al.; see `candidate_softmax_loss`.
    remove_accidental_hits: a row with the same positive is no negative.

  Returns:
    The loss of each row, 0 where masked.

  References:
    Yi et al.: Sampling-Bias-Corrected Neural Modeling, RecSys 2019,
    https://doi.org/10.1145/3298689.3346996
  """
  log_count = None
  if log_q is not None:
    num_others = jnp.maximum(jnp.sum(where) - 1, 1).astype(log_q.dtype)
    log_count = log_q + jnp.log(num_others)
  ignored = in_batch_ignored(
    item_id, where, remove_accidental_hits=remove_accidental_hits
  )
  return candidate_softmax_loss(
    jnp.diagonal(scores),
    scores,
    None if log_count is None else log_count[None, :],
    log_count if correct_positive else None,
    ignored,
    where,
  )


def symmetric_in_batch_loss(
  scores: Float[Array, "batch batch"],
  item_id: Int[Array, " batch"],
  log_q: Float[Array, " batch"] | None,
  where: Bool[Array, " batch"],
  user_id: Int[Array, " batch"] | None = None,
  user_log_q: Float[Array, " batch"] | None = None,
  *,
  correct_positive: bool = True,
  remove_accidental_hits: bool = True,
) -> Float[Array, " batch"]:
  r"""The mean of `in_batch_softmax_loss` over rows and over columns.

  loss_i = (in_batch(s)_i + in_batch(s transposed)_i) / 2

  A column asks which of the batch's queries belongs to an item.

  Args:
    scores: at [i, j] the query of row i against the positive of row j.
    item_id: the positive of each row.
    log_q: log-probability of the positives, or None.
    where: which rows count.
    user_id: whose query a row holds; rows of one user are accidental hits in
      a column. None takes the rows for different users.
    user_log_q: log-probability with which a row holds this user, or None for
      no correction of the columns.
    correct_positive: see `in_batch_softmax_loss`.
    remove_accidental_hits: see `in_batch_softmax_loss`.

  Returns:
    The loss of each row, 0 where masked.

  References:
    Radford et al.: Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021, https://arxiv.org/abs/2103.00020
  """
  if user_id is None:
    user_id = jnp.arange(scores.shape[0], dtype=jnp.int32)
  of_rows, of_columns = (
    in_batch_softmax_loss(
      sides,
      ids,
      log_probability,
      where,
      correct_positive=correct_positive,
      remove_accidental_hits=remove_accidental_hits,
    )
    for sides, ids, log_probability in (
      (scores, item_id, log_q),
      (scores.T, user_id, user_log_q),
    )
  )
  return (of_rows + of_columns) / 2


def info_nce_loss(
  scores: Float[Array, "batch batch"],
  where: Bool[Array, " batch"],
  *,
  temperature: float = 1.0,
) -> Float[Array, " batch"]:
  r"""InfoNCE: a row against all rows of the batch, nothing corrected.

  loss_i = log sum_j exp(s_ij / temperature) - s_ii / temperature

  Its best scores are log p(item | query) - log p(item), up to a constant of
  the query: the pointwise mutual information.

  Args:
    scores: at [i, j] the query of row i against the positive of row j.
    where: which rows count; the others are no candidates either.
    temperature: what scores are divided by; a learned one is the model's.

  Returns:
    The loss of each row, 0 where masked.

  Raises:
    ConfigError: the temperature is not above 0.

  References:
    van den Oord, Li, Vinyals: Representation Learning with Contrastive
    Predictive Coding, 2018, https://arxiv.org/abs/1807.03748
  """
  check_range("info_nce_loss temperature", temperature, 1e-6)
  rows = jnp.arange(scores.shape[0], dtype=jnp.int32)
  return in_batch_softmax_loss(scores / temperature, rows, None, where)


def mixture_loss(
  contrastive: Float[Array, "*positions"],
  bce: Float[Array, "*positions"],
  *,
  weight: float,
) -> Float[Array, "*positions"]:
  r"""A contrastive loss and a pointwise one, mixed.

  loss = weight * contrastive + (1 - weight) * bce

  Args:
    contrastive: such as of `in_batch_softmax_loss`.
    bce: such as of `losses.pointwise.binary_cross_entropy_loss`.
    weight: of the contrastive loss, in [0, 1].

  Returns:
    The loss at each position.

  Raises:
    ConfigError: the weight is not in [0, 1].
  """
  check_range("mixture_loss weight", weight, 0.0, 1.0)
  return weight * contrastive + (1.0 - weight) * bce
