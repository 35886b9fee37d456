"""DLRM in PyTorch, as its authors write it: the peer of a benchmark.

Maxim Naumov, Dheevatsa Mudigere, Hao-Jun Michael Shi, Jianyu Huang, et al.:
Deep Learning Recommendation Model for Personalization and Recommendation
Systems, 2019, https://arxiv.org/abs/1906.00091
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
  """Linear layers, each with a relu behind it."""
  layers: list[nn.Module] = []
  for wide, narrow in itertools.pairwise(sizes):
    layers += [nn.Linear(wide, narrow), nn.ReLU(inplace=True)]
  return nn.Sequential(*layers)


class DLRM(nn.Module):
  """A table for each feature with sparse gradients, dot interaction."""

  def __init__(
    self,
    table_rows: Sequence[int],
    dim: int,
    num_dense: int,
    bottom: Sequence[int],
    top: Sequence[int],
  ):
    super().__init__()
    self.tables = nn.ModuleList(
      # On "meta": nothing is drawn, whoever makes it hands in the weights.
      nn.EmbeddingBag(rows, dim, mode="sum", sparse=True, device="meta")
      for rows in table_rows
    )
    num_vectors = len(table_rows) + 1
    lower = torch.tril_indices(num_vectors, num_vectors, offset=-1)
    self.rows, self.columns = lower
    self.bottom = perceptron([num_dense, *bottom, dim])
    self.top = perceptron([dim + lower.shape[1], *top])
    self.output = nn.Linear(top[-1], 1)

  def forward(
    self, dense: torch.Tensor, ids: torch.Tensor, offsets: torch.Tensor
  ) -> torch.Tensor:
    """Logits [batch] of dense columns [batch, 13] and ids [table, batch]."""
    z = self.bottom(dense)
    vectors = [
      table(own, offsets) for table, own in zip(self.tables, ids, strict=True)
    ]
    stacked = torch.cat([z, *vectors], dim=1).view(len(z), -1, z.shape[1])
    products = torch.bmm(stacked, stacked.transpose(1, 2))
    pairs = products[:, self.rows, self.columns]
    return self.output(self.top(torch.cat([z, pairs], dim=1)))[:, 0]
