"""The two towers of gin/runs/two_tower_gowalla.gin in PyTorch."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class TwoTower(nn.Module):
  """User id and mean of the history against the id of the item, as cosines."""

  def __init__(self, weights: Any, scale: float):
    super().__init__()
    tensor = lambda x: nn.Parameter(torch.from_numpy(x.copy()))
    tables = weights["tables"]
    self.users = nn.Embedding(1, 1, sparse=True)
    self.users.weight = tensor(tables["user"])
    # One table for targets and histories.
    self.items = tensor(tables["item"])
    dense = weights["model"]["user"]["output"]
    self.output = nn.Linear(*dense["kernel"].shape)
    self.output.weight = tensor(dense["kernel"].T)
    self.output.bias = tensor(dense["bias"])
    self.scale = scale

  def loss(
    self, user: torch.Tensor, item: torch.Tensor, history: torch.Tensor
  ) -> torch.Tensor:
    """Mean cross-entropy over the batch, accidental hits left out."""
    mean = functional.embedding_bag(
      history, self.items, mode="mean", sparse=True, padding_idx=0
    )
    known = torch.cat([self.users(user), mean], dim=1)
    users = functional.normalize(self.output(known), dim=1)
    vectors = functional.embedding(item, self.items, sparse=True)
    scores = users @ functional.normalize(vectors, dim=1).T * self.scale
    hits = item[:, None] == item[None, :]
    hits.fill_diagonal_(False)
    scores = scores.masked_fill(hits, -1e9)
    return functional.cross_entropy(scores, torch.arange(len(item)))
