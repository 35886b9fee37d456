"""Ranking metrics by brute force: every order of every group of ties."""

import itertools
import math

import numpy as np


def orders(scores: np.ndarray) -> list[list[int]]:
  """All orders of the candidates with falling scores, each equally likely."""
  groups = [
    list(itertools.permutations(np.flatnonzero(scores == value)))
    for value in sorted(set(scores), reverse=True)
  ]
  return [sum(map(list, choice), []) for choice in itertools.product(*groups)]


def settled(
  scores: np.ndarray, labels: np.ndarray, ties: str
) -> list[list[bool]]:
  """The relevance lists that a tie rule allows."""
  if ties == "expected":
    return [[bool(labels[i]) for i in order] for order in orders(scores)]
  # Targets before others among equals, or after them.
  sign = -1 if ties == "optimistic" else 1
  order = sorted(
    range(len(scores)), key=lambda i: (-scores[i], sign * labels[i])
  )
  return [[bool(labels[i]) for i in order]]


def hit_rate(rel, k, num):
  return float(any(rel[:k]))


def recall_targets(rel, k, num):
  return sum(rel[:k]) / num


def recall_min_k_targets(rel, k, num):
  return sum(rel[:k]) / min(k, num)


def precision(rel, k, num):
  return sum(rel[:k]) / k


def _dcg(rel):
  return sum(r / math.log2(i + 2) for i, r in enumerate(rel))


def ndcg_min_k_targets(rel, k, num):
  return _dcg(rel[:k]) / _dcg([1] * min(k, num))


def ndcg_retrieved(rel, k, num):
  hits = sum(rel[:k])
  return _dcg(rel[:k]) / _dcg([1] * hits) if hits else 0.0


def mrr(rel, k, num):
  rel = rel if k is None else rel[:k]
  return 1 / (rel.index(True) + 1) if any(rel) else 0.0


def average_precision(rel, k, num):
  k = len(rel) if k is None else k
  hits = [i for i, r in enumerate(rel[:k]) if r]
  return sum((n + 1) / (i + 1) for n, i in enumerate(hits)) / min(k, num)


def value(function, scores, labels, where, k, ties):
  """The mean of a metric over the orders that the tie rule allows."""
  scores, labels = scores[where], labels[where]
  if not labels.any():
    return 0.0
  lists = settled(scores, labels, ties)
  return float(np.mean([function(rel, k, labels.sum()) for rel in lists]))
