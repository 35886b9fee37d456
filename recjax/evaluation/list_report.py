"""What is asked of the lists that users get, beside the protocol's metrics."""

import dataclasses

from recjax.data.interactions import Interactions
from recjax.errors import ConfigError, check_choice, check_range
from recjax.evaluation.feature_values import check_feature, feature_values
from recjax.evaluation.protocol import Protocol
from recjax.metrics.genre_calibration import ALPHA
from recjax.metrics.list_diversity import DISTANCES


@dataclasses.dataclass(frozen=True)
class ListReport:
  """Which metrics of lists a test gives; each name ends with "@k".

  Always novelty, average_popularity, popularity_lift, serendipity, coverage and
  gini; what else is asked for by features. Lists are of the whole catalogue,
  also where the protocol ranks targets among drawn candidates; see
  `recjax.evaluation.top_lists` for what is left out of them.

  Attributes:
    k: items a list.
    item_features: for each, "diversity@k/FEATURE" and
      "miscalibration@k/FEATURE".
    distance: "cosine" or "jaccard", of diversity.
    alpha: what miscalibration is smoothed by.
    provider: an item feature whose values share the exposure:
      "exposure_disparity@k/FEATURE" against the catalogue,
      "merit_disparity@k/FEATURE" against the targets; "" is none.
    user_groups: user features; for each, and each metric M of `group_metrics`,
      "M_gap@k/FEATURE" and, if M is never negative, "M_ratio@k/FEATURE".
    group_metrics: such as "ndcg@10" or "novelty@10"; () is the first one of the
      protocol at k, or else its first.
    min_group_users: groups of fewer judged users have no part in these.
  """

  k: int = 10
  item_features: tuple[str, ...] = ()
  distance: str = "cosine"
  alpha: float = ALPHA
  provider: str = ""
  user_groups: tuple[str, ...] = ()
  group_metrics: tuple[str, ...] = ()
  min_group_users: int = 20

  def __post_init__(self):
    name = "ListReport"
    check_range(f"{name}.k", self.k, 1, integer=True)
    check_choice(f"{name}.distance", self.distance, DISTANCES)
    check_range(f"{name}.alpha", self.alpha, 1e-12, 1.0)
    check_range(
      f"{name}.min_group_users", self.min_group_users, 1, integer=True
    )
    for field in ("item_features", "user_groups", "group_metrics"):
      check_names(f"{name}.{field}", getattr(self, field))
    if not isinstance(self.provider, str):
      raise ConfigError(
        f"{name}.provider must be the name of an item feature; got"
        f" {self.provider!r}."
      )

  def query_metrics(self) -> tuple[str, ...]:
    """The names of what every query has a value of."""
    kinds = ("novelty", "average_popularity", "popularity_lift", "serendipity")
    names = [f"{kind}@{self.k}" for kind in kinds]
    for feature in self.item_features:
      for kind in ("diversity", "miscalibration"):
        names.append(f"{kind}@{self.k}/{feature}")
    return tuple(names)

  def compared(self, protocol: Protocol) -> tuple[str, ...]:
    """The metrics that groups of users are compared by."""
    if not self.user_groups:
      return ()
    names = [(name, k) for name, _, k in protocol.values()]
    at_k = [name for name, k in names if k == self.k]
    return self.group_metrics or ((at_k or [names[0][0]])[0],)

  def check(
    self, interactions: Interactions, protocol: Protocol, num_candidates: int
  ) -> None:
    """Raises ConfigError where the data or the protocol lack what is asked for.

    Args:
      interactions: the data.
      protocol: how targets are judged.
      num_candidates: how many items lists can be made of.
    """
    if self.k > num_candidates:
      raise ConfigError(
        f"ListReport.k is {self.k}, but lists are made of {num_candidates}"
        " items; it must not be larger."
      )
    providers = (self.provider,) if self.provider else ()
    for feature in dict.fromkeys((*self.item_features, *providers)):
      check_feature(interactions.items, feature, "item")
      assert interactions.items is not None
      feature_values(interactions.items, feature)
    for feature in self.user_groups:
      check_feature(interactions.users, feature, "user")
    known = [key for key, _, _ in protocol.values()]
    known += self.query_metrics()
    for metric in self.group_metrics:
      check_choice("a metric of ListReport.group_metrics", metric, known)


def check_names(what: str, names: object) -> None:
  """Raises ConfigError unless `names` is a tuple of distinct names."""
  right = isinstance(names, tuple) and all(
    isinstance(name, str) and name for name in names
  )
  if not right or len(set(names)) < len(names):  # pyright: ignore
    raise ConfigError(
      f"{what} must be a tuple of different names, such as ('genres',); got"
      f" {names!r}."
    )
