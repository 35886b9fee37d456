"""The two towers of gin/runs/two_tower_gowalla.gin in PyTorch."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class TwoTower(nn.Module):
  """Mean of the history against the item, as cosines, with logQ correction.

  Args:
    items: the table at the start, [vocab, dim], of targets and histories.
    log_q: log of the share of each item in the training rows, [vocab].
    scale: one over the temperature.
  """

  def __init__(self, items: np.ndarray, log_q: np.ndarray, scale: float):
    super().__init__()
    self.items = nn.Parameter(torch.from_numpy(items.copy()))
    self.log_q = torch.from_numpy(log_q.copy())
    self.scale = scale

  def loss(
    self, item: torch.Tensor, history: torch.Tensor, offsets: torch.Tensor
  ) -> torch.Tensor:
    """Mean cross-entropy over the batch, accidental hits left out.

    Args:
      item: of each row.
      history: the items of all rows, one row after another.
      offsets: where each row begins.
    """
    means = functional.embedding_bag(
      history, self.items, offsets, mode="mean", sparse=True
    )
    vectors = functional.embedding(item, self.items, sparse=True)
    users = functional.normalize(means, dim=1)
    scores = users @ functional.normalize(vectors, dim=1).T
    log_count = self.log_q[item] + math.log(len(item) - 1)
    scores = scores * self.scale - log_count
    # The positive is no draw: it is not corrected.
    scores.diagonal().add_(log_count)
    hits = item[:, None] == item[None, :]
    hits.fill_diagonal_(False)
    scores = scores.masked_fill(hits, -1e9)
    return functional.cross_entropy(scores, torch.arange(len(item)))
