"""MMoE in PyTorch: the peer of a benchmark.

Jiaqi Ma, Zhe Zhao, Xinyang Yi, Jilin Chen, Lichan Hong, Ed H. Chi: Modeling
Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
KDD 2018, https://doi.org/10.1145/3219819.3220007
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


class MMoE(nn.Module):
  """A module for each expert, gate and tower, as such models are published."""

  def __init__(
    self,
    dim: int,
    expert: Sequence[int],
    tower: Sequence[int],
    num_experts: int,
    num_tasks: int,
  ):
    super().__init__()
    self.experts = nn.ModuleList(
      perceptron([dim, *expert]) for _ in range(num_experts)
    )
    self.gates = nn.ModuleList(
      nn.Linear(dim, num_experts, bias=False) for _ in range(num_tasks)
    )
    self.towers = nn.ModuleList(
      nn.Sequential(
        perceptron([expert[-1], *tower]), nn.Linear([*expert, *tower][-1], 1)
      )
      for _ in range(num_tasks)
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Logits [batch, task] of x [batch, dim]."""
    outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
    logits = []
    for gate, tower in zip(self.gates, self.towers, strict=True):
      weights = torch.softmax(gate(x), dim=1)
      mixed = torch.bmm(weights[:, None], outputs)[:, 0]
      logits.append(tower(mixed))
    return torch.cat(logits, dim=1)


class _Layers(nn.Module):
  """Perceptrons of one shape, one batched product a layer."""

  def __init__(self, num: int, sizes: Sequence[int]):
    super().__init__()
    pairs = list(itertools.pairwise(sizes))
    self.kernels = nn.ParameterList(
      torch.empty(num, wide, narrow) for wide, narrow in pairs
    )
    self.biases = nn.ParameterList(
      torch.zeros(num, 1, narrow) for _, narrow in pairs
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """[num, batch, last] of [num, batch, first]."""
    for kernel, bias in zip(self.kernels, self.biases, strict=True):
      x = torch.relu(torch.baddbmm(bias, x, kernel))
    return x


class BatchedMMoE(nn.Module):
  """The same, all experts and all towers at once."""

  def __init__(
    self,
    dim: int,
    expert: Sequence[int],
    tower: Sequence[int],
    num_experts: int,
    num_tasks: int,
  ):
    super().__init__()
    self.num_experts, self.num_tasks = num_experts, num_tasks
    # The first layer of all experts reads one input: it is one wide product.
    self.first = nn.Linear(dim, num_experts * expert[0])
    self.rest = _Layers(num_experts, expert)
    self.gate = nn.Linear(dim, num_tasks * num_experts, bias=False)
    self.towers = _Layers(num_tasks, [expert[-1], *tower])
    last = [*expert, *tower][-1]
    self.kernel = nn.Parameter(torch.empty(num_tasks, last, 1))
    self.bias = nn.Parameter(torch.zeros(num_tasks, 1, 1))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Logits [batch, task] of x [batch, dim]."""
    first = torch.relu(self.first(x)).view(len(x), self.num_experts, -1)
    outputs = self.rest(first.transpose(0, 1))
    gates = self.gate(x).view(len(x), self.num_tasks, self.num_experts)
    mixed = torch.einsum("bte,ebh->tbh", torch.softmax(gates, 2), outputs)
    logits = torch.baddbmm(self.bias, self.towers(mixed), self.kernel)
    return logits[..., 0].T
