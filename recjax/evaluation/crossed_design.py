r"""Differences of two models over seeds and over users at once.

d_su is what one model has more than the other for seed s and user u:

  d_su = mu + alpha_s + beta_u + epsilon_su

with alpha, beta and epsilon of means 0 and unknown variances, for other seeds
and other users would do as well. mu is tested by the variance of the mean

  Var(mean) = var_seed / S + var_user / U + var_residual / (S U)
            = MS_seed / (S U) + (MS_user - MS_residual) / (S U) =: A + B

in terms of the expected mean squares. A is estimated with S - 1 degrees of
freedom, which are few. That makes it Behrens and Fisher's problem of two
variances, and the p-value is Fisher's fiducial one,

  p = E 2 Phi(-|mean| / sqrt(A (S - 1) / X + max(MS_user (U - 1) / Y
                                                 - MS_residual, 0) / (S U)))

over chi-squared X and Y of S - 1 and U - 1 degrees of freedom

  R. A. Fisher: The Fiducial Argument in Statistical Inference. Annals of
  Eugenics 1935. https://doi.org/10.1111/j.1469-1809.1935.tb02120.x

by quadrature. Without variance of users it is Student's test over seeds. Means
of a metric of 0 and 1 lie on a lattice of 1 / U, where those of two seeds are
equal by chance; the variance that rounding to it has is added to MS_seed. The
test keeps to its level where few seeds and small levels meet, as in a table of
many corrected comparisons (experiments/simulated_sweeps); the approximations of
Satterthwaite and of Cochran and Cox do not. It tells the power of a design,
too: the smallest difference that so many seeds and users can see.

A test over seeds alone speaks of these users, and one over users alone of these
trained models; this one speaks of new seeds and new users. The bootstrap draws
seeds and users anew, each by themselves

  Art Owen: The Pigeonhole Bootstrap. Annals of Applied Statistics 2007.
  https://doi.org/10.1214/07-AOAS122

and is a little wide in var_residual, and narrow where there are few seeds.
"""

import dataclasses
import functools
import math

import numpy as np
import scipy.special
from jaxtyping import Float
from scipy.optimize import elementwise, root_scalar

from recjax.errors import ConfigError, DataError, check_range

_NODES, _USER_NODES, _FEW_FREEDOM = 48, 8, 3
_MANY_USERS = 200


@dataclasses.dataclass(frozen=True)
class Components:
  """Variances of a difference.

  Attributes:
    seed: of alpha.
    user: of beta.
    residual: of epsilon.
  """

  seed: float | int
  user: float | int
  residual: float | int

  def __post_init__(self):
    for name in ("seed", "user", "residual"):
      value = getattr(self, name)
      if not 0 <= value < math.inf:
        raise ConfigError(
          f"Components.{name} must be finite and not negative; got {value!r}."
        )

  def of_mean(self, num_seeds: int, num_users: int) -> float:
    """Var(mean) of so many seeds and users."""
    return (
      self.seed / num_seeds
      + self.user / num_users
      + self.residual / (num_seeds * num_users)
    )


@functools.lru_cache(maxsize=64)
def _chi_squared(
  freedom: int, num: int = _NODES
) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, " node"]]:
  """Nodes and weights of X / freedom, evenly spaced in the logarithm.

  The density falls off at both ends faster than any power, so that sums over
  even nodes are nearly exact.
  """
  half = freedom / 2
  low = math.log(scipy.special.gammaincinv(half, 1e-13))
  high = math.log(scipy.special.gammainccinv(half, 1e-13))
  # A density with few degrees of freedom is the wider.
  num = num * (4 if freedom <= _FEW_FREEDOM else 1)
  logs = np.linspace(low, high, num)
  nodes = 2 * np.exp(logs)
  log_weights = half * logs - nodes / 2
  weights = np.exp(log_weights - log_weights.max())
  return nodes / freedom, weights / weights.sum()


@dataclasses.dataclass(frozen=True)
class _Squares:
  """Mean squares of some designs of one size.

  Attributes:
    seeds: of seeds.
    users: of users.
    residual: of what is left.
    num_seeds: S.
    num_users: U.
  """

  seeds: Float[np.ndarray, " design"]
  users: Float[np.ndarray, " design"]
  residual: float
  num_seeds: int
  num_users: int

  @property
  def size(self) -> int:
    return self.num_seeds * self.num_users

  @functools.cached_property
  def _variances(
    self,
  ) -> tuple[Float[np.ndarray, "design node"], Float[np.ndarray, " node"]]:
    """Var(mean) at all nodes, and their weights."""
    x, of_x = _chi_squared(self.num_seeds - 1)
    y, of_y = np.ones(1), np.ones(1)
    if self.num_users <= _MANY_USERS:  # Else they are known well enough.
      y, of_y = _chi_squared(self.num_users - 1, _NODES // 2)
    seeds = self.seeds[:, None, None] / x[:, None]
    users = np.maximum(self.users[:, None, None] / y - self.residual, 0.0)
    shape = len(self.seeds), len(x) * len(y)
    variances = np.broadcast_to(
      (seeds + users) / self.size, (*seeds.shape[:2], len(y))
    )
    return variances.reshape(shape), np.outer(of_x, of_y).ravel()

  def p_values(
    self, means: Float[np.ndarray, " design"]
  ) -> Float[np.ndarray, " design"]:
    """Two-sided, of means of |means| or more."""
    variances, weights = self._variances
    ratios = np.abs(means)[:, None] / np.sqrt(variances)
    return 2 * scipy.special.ndtr(-ratios) @ weights

  def critical(self, alpha: float) -> Float[np.ndarray, " design"]:
    """What |mean| exceeds at the rate alpha."""
    variances, weights = self._variances
    errors = np.sqrt(variances)
    # Between the normal quantile at the least variance, and at the largest.
    quantile = -scipy.special.ndtri(alpha / 2)
    low = np.log(quantile * errors.min(axis=1))
    high = np.log(quantile * errors.max(axis=1)) + 1e-9

    def missing(log, design):
      ratios = np.exp(log)[:, None] / errors[design]
      p_values = 2 * scipy.special.ndtr(-ratios) @ weights
      return np.log(p_values / alpha)

    found = elementwise.find_root(
      missing,
      (low, high),
      args=(np.arange(len(low)),),
      tolerances={"xatol": 1e-9, "xrtol": 0.0},
    )
    return np.exp(found.x)


@dataclasses.dataclass(frozen=True)
class CrossedTest:
  """What the test says.

  Attributes:
    difference: the mean of all.
    p_value: two-sided.
    effect_size: the difference over the standard deviation of one d_su.
    components: the variances; an estimate below 0 is 0.
  """

  difference: float
  p_value: float
  effect_size: float
  components: Components
  _squares: _Squares = dataclasses.field(repr=False, compare=False)

  @functools.cached_property
  def interval(self) -> tuple[float, float]:
    """The 95% interval of the difference."""
    half = float(self._squares.critical(0.05)[0])
    return self.difference - half, self.difference + half


def crossed_test(difference: Float[np.ndarray, "seed user"]) -> CrossedTest:
  """Tests whether the mean is 0 for new seeds and new users.

  Args:
    difference: d_su.

  Raises:
    DataError: fewer than two seeds or users, a NaN, or no variance at all.
  """
  values = _checked(difference)
  num_seeds, num_users = values.shape
  mean = float(values.mean())
  of_seed = values.mean(axis=1) - mean
  of_user = values.mean(axis=0) - mean
  rest = values - mean - of_seed[:, None] - of_user[None, :]
  seeds = num_users * float((of_seed**2).sum()) / (num_seeds - 1)
  users = num_seeds * float((of_user**2).sum()) / (num_users - 1)
  residual = float((rest**2).sum()) / ((num_seeds - 1) * (num_users - 1))
  components = Components(
    max(seeds - residual, 0.0) / num_users,
    max(users - residual, 0.0) / num_seeds,
    residual,
  )
  if seeds + users == 0:
    raise DataError(
      "all differences are equal, so there is no variance to test by."
    )
  rounding = _step(values) ** 2 / (6 * num_users)
  squares = _Squares(
    np.array([seeds + rounding]), np.array([users]), residual, *values.shape
  )
  spread = components.seed + components.user + components.residual
  return CrossedTest(
    mean,
    float(squares.p_values(np.array([mean]))[0]),
    mean / math.sqrt(spread),
    components,
    squares,
  )


def _step(values: np.ndarray) -> float:
  """The least distance of two different values, or of one from 0."""
  found = np.unique(np.r_[0.0, np.round(values.ravel(), 12)])
  return float(np.diff(found).min()) if len(found) > 1 else 0.0


def power_of_design(
  difference: float | int,
  components: Components,
  num_seeds: int,
  num_users: int,
  *,
  alpha: float = 0.05,
) -> float:
  """The chance that `crossed_test` finds a true difference.

  Args:
    difference: mu.
    components: such as those of a pilot's `crossed_test`.
    num_seeds: of the design, 2 at least.
    num_users: of the design, 2 at least.
    alpha: rate of false alarms; divide it by the number of comparisons to
      plan for Bonferroni's or Holm's correction.

  Raises:
    ConfigError: an option is out of range.
  """
  found = _Power.of(components, num_seeds, num_users, alpha)
  return found(difference)


@dataclasses.dataclass(frozen=True)
class _Power:
  """The power of a design, as a function of the difference.

  Attributes:
    error: the true deviation of the mean.
    criticals: what |mean| must exceed, at nodes of the mean squares.
    weights: of the nodes.
    alpha: the level.
  """

  error: float
  criticals: Float[np.ndarray, " node"]
  weights: Float[np.ndarray, " node"]
  alpha: float

  @classmethod
  def of(
    cls, components: Components, num_seeds: int, num_users: int, alpha: float
  ) -> "_Power":
    check_range("num_seeds", num_seeds, 2, integer=True)
    check_range("num_users", num_users, 2, integer=True)
    check_range("alpha", alpha, 1e-12, 1 - 1e-12)
    error = math.sqrt(components.of_mean(num_seeds, num_users))
    if error == 0:
      return cls(0.0, np.zeros(1), np.ones(1), alpha)
    x, of_x = _chi_squared(num_seeds - 1)
    y, of_y = np.ones(1), np.ones(1)
    if num_users <= _MANY_USERS:
      y, of_y = _chi_squared(num_users - 1, _USER_NODES)
    seeds = (components.residual + num_users * components.seed) * x
    users = (components.residual + num_seeds * components.user) * y
    squares = _Squares(
      np.repeat(seeds, len(users)),
      np.tile(users, len(seeds)),
      float(components.residual),
      num_seeds,
      num_users,
    )
    weights = np.outer(of_x, of_y).ravel()
    return cls(error, squares.critical(alpha), weights, alpha)

  def __call__(self, difference: float | int) -> float:
    if self.error == 0:
      return 1.0 if difference else self.alpha
    beyond = scipy.special.ndtr((difference - self.criticals) / self.error)
    beyond += scipy.special.ndtr((-difference - self.criticals) / self.error)
    return float(beyond @ self.weights)


def smallest_difference(
  components: Components,
  num_seeds: int,
  num_users: int,
  *,
  alpha: float = 0.05,
  power: float = 0.8,
) -> float:
  """The difference that a design finds with the given power.

  Args:
    components: such as those of a pilot's `crossed_test`.
    num_seeds: of the design, 2 at least.
    num_users: of the design, 2 at least.
    alpha: as of `power_of_design`.
    power: the chance to find it, above alpha.

  Raises:
    ConfigError: an option is out of range.
  """
  check_range("power", power, alpha, 1 - 1e-12)
  found = _Power.of(components, num_seeds, num_users, alpha)
  high = found.error
  if high == 0:
    return 0.0
  while found(high) < power:
    high *= 2
  missing = lambda value: found(value) - power
  return float(root_scalar(missing, bracket=(0, high), xtol=1e-9 * high).root)


def pigeonhole_interval(
  difference: Float[np.ndarray, "seed user"],
  *,
  confidence: float = 0.95,
  num_resamples: int = 1000,
  seed: int = 0,
) -> tuple[float, float]:
  """The percentile interval of the mean when both seeds and users are drawn.

  Args:
    difference: d_su.
    confidence: the share of resampled means inside the interval.
    num_resamples: how often both are drawn anew.
    seed: of the draws.

  Raises:
    ConfigError: an option is out of range.
    DataError: fewer than two seeds or two users, or a NaN.
  """
  check_range("confidence", confidence, 0.0, 1.0)
  check_range("num_resamples", num_resamples, 1, integer=True)
  values = _checked(difference)
  random = np.random.default_rng(seed)
  num_seeds, num_users = values.shape
  means = np.empty(num_resamples)
  for number in range(num_resamples):
    rows = random.integers(0, num_seeds, num_seeds)
    users = random.integers(0, num_users, num_users)
    means[number] = values[rows].mean(axis=0)[users].mean()
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return float(low), float(high)


def _checked(difference: np.ndarray) -> np.ndarray:
  values = np.asarray(difference, np.float64)
  if min(values.shape) < 2:
    raise DataError(
      "seeds and users must be two each at least; got"
      f" {values.shape[0]} seeds and {values.shape[1]} users."
    )
  if np.isnan(values).any():
    raise DataError("values of users are NaN: the model has diverged.")
  return values
