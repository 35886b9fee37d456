"""Two regression tasks whose relatedness is a dial.

  w_1 = c u_1,   w_2 = c (p u_1 + sqrt(1 - p^2) u_2)
  x ~ N(0, I),   y_k = w_k x + sum_i sin(alpha_i w_k x + beta_i) + eps_k

with orthogonal unit vectors u_1, u_2, the scale c, the correlation p of the
weights, and eps_k ~ N(0, s^2). From

  Jiaqi Ma et al. Modeling Task Relationships in Multi-task Learning with
  Multi-gate Mixture-of-Experts. KDD 2018, section 3.2.
  https://doi.org/10.1145/3219819.3220007

Deviations from the paper: it gives no alpha and beta, so those here are a
choice; its noise has s = .1, which is the default.

The correlation of the labels grows with p. The two w_k x are normal, of
variance c^2 and covariance p c^2, so that with q_i = exp(-alpha_i^2 c^2 / 2)

  Cov(w_1 x, sin_i of w_2 x) = p c^2 alpha_i q_i cos(beta_i)
  E sin_i of w_k x           = q_i sin(beta_i)
  E sin_i of w_1 x sin_j of w_2 x
    = 1/2 (exp(-v_- / 2) cos(beta_i - beta_j)
           - exp(-v_+ / 2) cos(beta_i + beta_j)),
  v_+- = c^2 (alpha_i^2 + alpha_j^2 +- 2 p alpha_i alpha_j).
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from recjax.data.examples import PARTS, Examples, ExampleSplit
from recjax.errors import ConfigError, check_range

_WEIGHTS, _ROWS = 1, 2


@dataclasses.dataclass(frozen=True)
class PlantedTasks:
  """Rows with the columns x_0, x_1, ... and the labels `first` and `second`.

  Only w_2 and what follows from it depends on the correlation: x, w_1 and
  `first` are the same for all of them.

  Attributes:
    num_train: rows for training.
    num_validation: rows for validation.
    num_test: rows for test.
    num_features: d, the length of x.
    correlation: p, the cosine of w_1 and w_2, in [-1, 1].
    scale: c, the length of w_1 and w_2.
    alphas: frequency of each sine.
    betas: shift of each sine.
    noise_stddev: s.
    seed: draws u_1, u_2 and the rows.
    name: how reports call it.
  """

  num_train: int = 10_000
  num_validation: int = 2_000
  num_test: int = 2_000
  num_features: int = 100
  correlation: float | int = 0.5
  scale: float | int = 1.0
  alphas: Sequence[float | int] = (1.0, 1.5, 2.0, 2.5, 3.0)
  betas: Sequence[float | int] = (0.0, 1.0, 2.0, 3.0, 4.0)
  noise_stddev: float | int = 0.1
  seed: int = 0
  name: str = "planted_tasks"

  def __post_init__(self):
    where = "PlantedTasks."
    for field in ("alphas", "betas"):
      values = tuple(getattr(self, field))
      object.__setattr__(self, field, values)
      for value in values:
        check_range(where + field, value)
    if len(self.alphas) != len(self.betas):
      raise ConfigError(
        f"{where}alphas and betas must be as many; got {len(self.alphas)} and"
        f" {len(self.betas)}."
      )
    check_range(where + "num_train", self.num_train, 1, integer=True)
    check_range(where + "num_validation", self.num_validation, 0, integer=True)
    check_range(where + "num_test", self.num_test, 0, integer=True)
    check_range(where + "num_features", self.num_features, 2, integer=True)
    check_range(where + "correlation", self.correlation, -1, 1)
    check_range(where + "scale", self.scale, 0)
    check_range(where + "noise_stddev", self.noise_stddev, 0)
    check_range(where + "seed", self.seed, 0, integer=True)

  @property
  def label_columns(self) -> tuple[str, ...]:
    """`first` and `second`."""
    return ("first", "second")

  @property
  def mask_columns(self) -> tuple[str, ...]:
    """There are none: every label is known."""
    return ()

  @property
  def weights(self) -> Float64[np.ndarray, "task dim"]:
    """w_1 and w_2."""
    random = np.random.default_rng([self.seed, _WEIGHTS])
    first, other = random.normal(size=(2, self.num_features))
    first /= np.linalg.norm(first)
    other -= first * (first @ other)
    other /= np.linalg.norm(other)
    turned = np.sqrt(1 - self.correlation**2) * other
    return self.scale * np.stack([first, self.correlation * first + turned])

  @property
  def label_correlation(self) -> float:
    """The correlation of the two labels, by the formulae at the top."""
    between = self._covariance(self.correlation)
    # A label's own variance: that of two alike, and the noise.
    return between / (self._covariance(1.0) + self.noise_stddev**2)

  def _covariance(self, p: float) -> float:
    alpha, beta = np.array(self.alphas), np.array(self.betas)
    variance = self.scale**2
    shrink = np.exp(-(alpha**2) * variance / 2)
    linear = p * variance
    mixed = 2 * p * variance * np.sum(alpha * shrink * np.cos(beta))
    squares = alpha[:, None] ** 2 + alpha[None, :] ** 2
    product = 2 * p * alpha[:, None] * alpha[None, :]
    minus = np.exp(-variance * (squares - product) / 2)
    plus = np.exp(-variance * (squares + product) / 2)
    both = minus * np.cos(beta[:, None] - beta[None, :])
    both -= plus * np.cos(beta[:, None] + beta[None, :])
    means = shrink * np.sin(beta)
    return float(linear + mixed + both.sum() / 2 - means.sum() ** 2)

  def means(
    self, x: Float64[np.ndarray, "row dim"]
  ) -> Float64[np.ndarray, "row task"]:
    """The labels without noise, which is the best prediction."""
    places = x @ self.weights.T
    total = places.copy()
    for alpha, beta in zip(self.alphas, self.betas):
      total += np.sin(alpha * places + beta)
    return total

  def files(self, data_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """None: the data is generated."""
    del data_dir
    return ()

  def read(self, data_dir: pathlib.Path) -> ExampleSplit:
    """Draws all rows."""
    del data_dir
    sizes = (self.num_train, self.num_validation, self.num_test)
    parts = []
    for place, (part, num_rows) in enumerate(zip(PARTS, sizes)):
      random = np.random.default_rng([self.seed, _ROWS, place])
      x = random.normal(size=(num_rows, self.num_features)).astype(np.float32)
      noise = random.normal(size=(num_rows, 2)) * self.noise_stddev
      labels = (self.means(x.astype(np.float64)) + noise).astype(np.float32)
      columns = {f"x_{i}": x[:, i].copy() for i in range(self.num_features)}
      for task, label in enumerate(self.label_columns):
        columns[label] = labels[:, task].copy()
      parts.append(
        Examples.from_table(
          f"{self.name} {part}",
          pa.table(columns),
          label=self.label_columns[0],
          label_kind="real",
        )
      )
    return ExampleSplit(*parts)
