"""SASRec in PyTorch, as practitioners write it: the peer of a benchmark.

Wang-Cheng Kang, Julian McAuley: Self-Attentive Sequential Recommendation,
ICDM 2018, https://arxiv.org/abs/1808.09781
"""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
  """Attention and feed-forward with the paper's layer-norm placement."""

  def __init__(self, dim: int, dropout_rate: float):
    super().__init__()
    self.attention_norm = nn.LayerNorm(dim, eps=1e-8)
    self.feed_forward_norm = nn.LayerNorm(dim, eps=1e-8)
    self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
    self.inner, self.outer = nn.Linear(dim, dim), nn.Linear(dim, dim)
    self.dropout = nn.Dropout(dropout_rate)

  def forward(self, x: torch.Tensor, hidden_from: torch.Tensor) -> torch.Tensor:
    """One block; `hidden_from` is True where a key is not to be seen."""
    normed = self.attention_norm(x)
    query, key, value = self.query(normed), self.key(x), self.value(x)
    logits = query @ key.transpose(1, 2) * x.shape[-1] ** -0.5
    logits = logits.masked_fill(hidden_from, -1e9)
    weights = self.dropout(functional.softmax(logits, dim=-1))
    normed = self.feed_forward_norm(normed + weights @ value)
    inner = self.dropout(functional.relu(self.inner(normed)))
    return normed + self.dropout(self.outer(inner))


class SASRec(nn.Module):
  """Scores of positives and negatives at each position."""

  def __init__(
    self,
    num_items: int,
    dim: int,
    num_blocks: int,
    max_len: int,
    dropout_rate: float,
  ):
    super().__init__()
    self.items = nn.Embedding(num_items + 1, dim, padding_idx=0)
    self.positions = nn.Embedding(max_len, dim)
    self.dropout = nn.Dropout(dropout_rate)
    self.blocks = nn.ModuleList(
      Block(dim, dropout_rate) for _ in range(num_blocks)
    )
    self.norm = nn.LayerNorm(dim, eps=1e-8)
    for parameter in self.parameters():
      if parameter.dim() > 1:
        nn.init.xavier_uniform_(parameter)
    with torch.no_grad():
      self.items.weight[0] = 0.0

  def forward(
    self, inputs: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
  ) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [batch, len] of the positive and of the negative ids."""
    length = inputs.shape[1]
    padding = inputs == 0
    x = self.items(inputs) * self.items.embedding_dim**0.5
    x = self.dropout(x + self.positions(torch.arange(length)))
    x = x.masked_fill(padding[..., None], 0.0)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    hidden_from = later | padding[:, None, :]
    for block in self.blocks:
      x = block(x, hidden_from)
      x = x.masked_fill(padding[..., None], 0.0)
    x = self.norm(x)
    up = (x * self.items(positive)).sum(-1)
    return up, (x * self.items(negative)).sum(-1)
