"""DeepFM in PyTorch, as practitioners write it: the peer of a benchmark.

Huifeng Guo, Ruiming Tang, Yunming Ye, Zhenguo Li, Xiuqiang He: DeepFM: A
Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017,
https://arxiv.org/abs/1703.04247
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn


class DeepFM(nn.Module):
  """All fields in one table, batch norm and dropout in the deep part."""

  def __init__(
    self,
    num_rows: int,
    num_fields: int,
    dim: int,
    hidden: Sequence[int],
    dropout_rate: float,
  ):
    super().__init__()
    self.linear = nn.Embedding(num_rows, 1)
    self.vectors = nn.Embedding(num_rows, dim)
    self.bias = nn.Parameter(torch.zeros(()))
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise([num_fields * dim, *hidden]):
      layers += [
        nn.Linear(wide, narrow),
        nn.BatchNorm1d(narrow),
        nn.ReLU(),
        nn.Dropout(dropout_rate),
      ]
    self.deep = nn.Sequential(*layers)
    self.output = nn.Linear(hidden[-1], 1, bias=False)

  def forward(self, rows: torch.Tensor) -> torch.Tensor:
    """Logits [batch] of the rows [batch, field] that the fields stand for."""
    vectors = self.vectors(rows)
    pairs = vectors.sum(1).square().sum(1) - vectors.square().sum((1, 2))
    deep = self.output(self.deep(vectors.flatten(1)))[:, 0]
    return self.bias + self.linear(rows).sum((1, 2)) + 0.5 * pairs + deep
