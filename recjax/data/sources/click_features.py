"""What the columns of Criteo, Avazu and Ali-CCP are, in the usual ways."""

from collections.abc import Sequence

from recjax.data.sources import ali_ccp, avazu, criteo
from recjax.data.sources.ali_ccp_features import LIST_FIELDS
from recjax.errors import check_choice
from recjax.features.encodings import Vocabulary
from recjax.features.specs import Categorical, MultiHot, Numeric, Spec


def criteo_log_features(min_count: int = 10) -> tuple[Spec, ...]:
  """ln(1 + I) of the 13 counts, and the 26 categories; as DLRM has it.

  A missing count is 0, and so is a negative one. A missing category has no
  embedding.

  Args:
    min_count: rarer categories share the id of unknown ones.

  Returns:
    13 Numeric and 26 Categorical features, in the order of the columns.

  References:
    Maxim Naumov et al. Deep Learning Recommendation Model for Personalization
    and Recommendation Systems. 2019. https://arxiv.org/abs/1906.00091
  """
  numbers = [Numeric(name, transform="log") for name in criteo.INTEGERS]
  encoding = Vocabulary(min_count=min_count)
  names = criteo.CATEGORIES
  return *numbers, *(Categorical(name, encoding=encoding) for name in names)


def criteo_bars_features(min_count: int = 10) -> tuple[Spec, ...]:
  """39 categories: counts are cut to floor(ln(I)^2), as BARS has it.

  Deviation from the benchmark: there a missing value is a category like any
  other, and here it has no embedding.

  Args:
    min_count: rarer values share the id of unknown ones.

  Returns:
    39 Categorical features, in the order of the columns.

  References:
    Jieming Zhu et al. BARS: Towards Open Benchmarking for Recommender
    Systems. SIGIR 2022. https://arxiv.org/abs/2205.09626
  """
  encoding = Vocabulary(min_count=min_count)
  numbers = [
    Categorical(name, encoding=encoding, discretize="log_square")
    for name in criteo.INTEGERS
  ]
  names = criteo.CATEGORIES
  return *numbers, *(Categorical(name, encoding=encoding) for name in names)


def avazu_features(min_count: int = 2) -> tuple[Spec, ...]:
  """23 categories: all columns, with hour of day and weekday for the hour.

  The hour itself is left out: rows that are dealt out at random share it.

  Args:
    min_count: rarer values share the id of unknown ones.

  Returns:
    Categorical features, in the order of the columns.
  """
  encoding = Vocabulary(min_count=min_count)
  names = [name for name in avazu.COLUMNS if name not in ("click", "hour")]
  return tuple(Categorical(name, encoding=encoding) for name in names)


def ali_ccp_features(
  fields: Sequence[str] = (), min_count: int = 10, max_len: int = 5
) -> tuple[Spec, ...]:
  """A category of each field, and the mean of several where it is a list.

  Args:
    fields: as of `AliCcp`; () are its default ones.
    min_count: rarer ids share the id of unknown ones.
    max_len: ids of a list that are kept.

  Returns:
    Categorical and MultiHot features, in the order of the fields.

  Raises:
    ConfigError: there is no such field.
  """
  encoding = Vocabulary(min_count=min_count)
  found: list[Spec] = []
  for name in tuple(fields) or ali_ccp.AliCcp().fields:
    known = (*ali_ccp.USER_FIELDS, *ali_ccp.SAMPLE_FIELDS)
    check_choice("ali_ccp_features.fields", name, known)
    if name in LIST_FIELDS:
      found.append(MultiHot(name, max_len=max_len, encoding=encoding))
    else:
      found.append(Categorical(name, encoding=encoding))
  return tuple(found)
