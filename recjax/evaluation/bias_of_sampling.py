"""Measures what sampling did to metrics: the same weights, all candidates.

Metrics among sampled candidates can reverse the order of two models, so a run
that is judged by them is judged in the whole catalogue as well, or tells what
the draws can tell of it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from recjax.errors import DataError
from recjax.evaluation.candidates import (
  AllItems,
  GivenLists,
  PopularityNegatives,
)
from recjax.evaluation.evaluate import EvalResult
from recjax.evaluation.protocol import Protocol
from recjax.evaluation.resampling import user_intervals
from recjax.evaluation.sampled_bias import (
  MetricBias,
  SampledBias,
  full_counterpart,
)
from recjax.evaluation.sampled_estimators import Corrected, corrected_metrics

_WHY_NOT = {
  PopularityNegatives: "draws by popularity tell which items stand above a"
  " target more than how many, so that its rank can not be told from them",
  GivenLists: "nobody knows how given lists were drawn",
}


def tell_bias(
  result: EvalResult,
  judge: Callable[[Protocol], EvalResult],
  *,
  measure: bool = True,
) -> EvalResult:
  """A result with what sampling did to it, where its candidates are sampled.

  Args:
    result: of `evaluate`.
    judge: judges the same scorer on the same queries under another protocol,
      with intervals.
    measure: whether the whole catalogue is ranked; else only what the draws
      tell of it is told.

  Returns:
    The result, with `sampled_bias`; unchanged where nothing was sampled.

  Raises:
    DataError: `judge` took other users.
  """
  protocol = result.protocol
  if isinstance(protocol.candidates, AllItems):
    return result
  corrected, why_not = _corrected(result)
  found = SampledBias(
    {
      key: MetricBias(
        value, corrected={name: of[key] for name, of in corrected.items()}
      )
      for key, value in result.metrics.items()
    },
    not_corrected=why_not,
  )
  ranks = result.sampled_ranks
  if ranks is not None:
    median = float(np.median(ranks.pool_size)) / ranks.num_draws
    found = dataclasses.replace(found, blind_below=median)
  if measure:
    found = _beside_full(found, result, judge(full_counterpart(protocol)))
  return dataclasses.replace(result, sampled_bias=found)


def _beside_full(
  found: SampledBias, result: EvalResult, full: EvalResult
) -> SampledBias:
  if not np.array_equal(full.user_id, result.user_id):
    raise DataError(
      "the full ranking is of other users than the sampled one; give both the"
      " same evaluation set."
    )
  keys = list(result.per_user)
  gaps: Float[np.ndarray, "metric query"] = np.stack(
    [result.per_user[key] - full.per_user[key] for key in keys]
  )
  intervals = dict(zip(keys, user_intervals(gaps, result.user_id)))
  metrics = {
    key: dataclasses.replace(
      row,
      full=full.metrics[key],
      full_interval=full.intervals.get(key),
      bias=row.sampled - full.metrics[key],
      bias_interval=intervals[key],
    )
    for key, row in found.metrics.items()
  }
  more: dict[str, Any] = {
    "full_protocol": full.protocol,
    "wall_secs": full.wall_secs,
  }
  return dataclasses.replace(found, metrics=metrics, **more)


def _corrected(
  result: EvalResult,
) -> tuple[dict[str, dict[str, Corrected]], str]:
  """Estimates by estimator and key; or none, and why."""
  why_not = _WHY_NOT.get(type(result.protocol.candidates))
  if why_not is not None:
    return {}, why_not
  if result.sampled_ranks is None:
    return {}, (
      "some queries have several targets, and the estimators are of the rank"
      " of one"
    )
  try:
    values = result.protocol.values()
    return corrected_metrics(result.sampled_ranks, values), ""
  except DataError as error:
    return {}, str(error)
