"""Makes sasrec.npz: what SASRec computes, from an independent reference.

The forward pass of the SASRec paper in PyTorch, float64, one left-padded
sequence a row, which does what the official code does
(https://github.com/kang205/SASRec, model.py of commit 641c378, modules.py of
2edc854): layer norm of the queries alone, residuals that add the normalized
input, a key mask besides the causal one, no output projection, scores scaled
by the width of a head. Beside it stands the usual pre-norm block. It shares
no code with recjax nor with the official repository.

    python tests/reference/make_sasrec.py

writes tests/reference/sasrec.npz: "weights/NAME" (kernels are [in, out]),
"sequences" [sequence, len] (left-padded with 0), and for every case
"hidden/CASE" [sequence, len, dim], which counts where the sequence has items.
"made_by" names the maker and the version of PyTorch.
"""

import pathlib

import numpy as np
import torch
from torch.nn import functional

DIM, LEN, NUM_ITEMS, BLOCKS = 8, 12, 30, 2
LENGTHS = (12, 7, 5, 4, 1, 3)
CASES = {
  "paper": {"norm": "paper", "heads": 1, "projection": False},
  "paper_2_heads_projection": {
    "norm": "paper",
    "heads": 2,
    "projection": True,
  },
  "pre": {"norm": "pre", "heads": 1, "projection": False},
  "pre_2_heads_projection": {"norm": "pre", "heads": 2, "projection": True},
}


def make_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
  """Random weights in which nothing is left at 0 or 1."""
  weights = {
    "item": rng.normal(0, 0.3, (NUM_ITEMS + 1, DIM)),
    "position_embedding": rng.normal(0, 0.3, (LEN, DIM)),
  }
  weights["item"][0] = 0.0
  norms = ["last_norm"]
  for block in range(BLOCKS):
    norms += [f"attention_norm_{block}", f"feed_forward_norm_{block}"]
    for name in ("query", "key", "value", "output", "inner", "outer"):
      kernel = rng.normal(0, DIM**-0.5, (DIM, DIM))
      weights[f"{name}_{block}/kernel"] = kernel
      weights[f"{name}_{block}/bias"] = rng.normal(0, 0.3, DIM)
  for name in norms:
    weights[f"{name}/scale"] = rng.uniform(0.5, 1.5, DIM)
    weights[f"{name}/bias"] = rng.normal(0, 0.3, DIM)
  return {name: array.astype(np.float32) for name, array in weights.items()}


class Reference:
  """SASRec on left-padded sequences."""

  def __init__(self, weights, *, norm, heads, projection):
    self.weights = {
      name: torch.tensor(array, dtype=torch.float64)
      for name, array in weights.items()
    }
    self.norm, self.heads, self.projection = norm, heads, projection

  def layer_norm(self, name, x):
    scale, bias = self.weights[f"{name}/scale"], self.weights[f"{name}/bias"]
    return functional.layer_norm(x, (DIM,), scale, bias, eps=1e-8)

  def dense(self, name, x):
    kernel = self.weights[f"{name}/kernel"]
    return functional.linear(x, kernel.T, self.weights[f"{name}/bias"])

  def attention(self, block, queries, keys, key_is_item):
    query = self.dense(f"query_{block}", queries)
    key = self.dense(f"key_{block}", keys)
    value = self.dense(f"value_{block}", keys)
    outputs = []
    width = DIM // self.heads
    for head in range(self.heads):
      part = slice(head * width, (head + 1) * width)
      logits = query[..., part] @ key[..., part].transpose(1, 2) / width**0.5
      logits = logits.masked_fill(~key_is_item[:, None, :], -(2.0**32) + 1)
      causal = torch.ones(LEN, LEN, dtype=torch.bool).tril()
      logits = logits.masked_fill(~causal, -(2.0**32) + 1)
      outputs.append(torch.softmax(logits, dim=-1) @ value[..., part])
    out = torch.cat(outputs, dim=-1)
    return self.dense(f"output_{block}", out) if self.projection else out

  def feed_forward(self, block, x):
    return self.dense(
      f"outer_{block}", torch.relu(self.dense(f"inner_{block}", x))
    )

  def __call__(self, sequences):
    is_item = sequences > 0
    mask = is_item[..., None].double()
    x = self.weights["item"][sequences] * DIM**0.5
    x = (x + self.weights["position_embedding"]) * mask
    for block in range(BLOCKS):
      normed = self.layer_norm(f"attention_norm_{block}", x)
      if self.norm == "paper":
        x = normed + self.attention(block, normed, x, is_item)
      else:
        x = x + self.attention(block, normed, normed, is_item)
      normed = self.layer_norm(f"feed_forward_norm_{block}", x)
      residual = normed if self.norm == "paper" else x
      x = (residual + self.feed_forward(block, normed)) * mask
    return self.layer_norm("last_norm", x)


def main():
  rng = np.random.default_rng(2018)
  weights = make_weights(rng)
  sequences = np.zeros((len(LENGTHS), LEN), np.int64)
  for row, length in zip(sequences, LENGTHS, strict=True):
    row[LEN - length :] = rng.integers(1, NUM_ITEMS + 1, length)
  arrays = {f"weights/{name}": array for name, array in weights.items()}
  arrays["sequences"] = sequences.astype(np.int32)
  for name, case in CASES.items():
    hidden = Reference(weights, **case)(torch.tensor(sequences))
    arrays[f"hidden/{name}"] = hidden.numpy()
  arrays["made_by"] = np.array(
    f"tests/reference/make_sasrec.py, PyTorch {torch.__version__}"
  )
  np.savez(pathlib.Path(__file__).with_name("sasrec.npz"), **arrays)


if __name__ == "__main__":
  main()
