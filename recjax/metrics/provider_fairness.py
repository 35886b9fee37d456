r"""Fairness to providers: what share of all attention each group of items gets.

A place r of a list gets the attention v_r = 1 / log2(1 + r), as in DCG. With
s_g(i) the part of item i that belongs to group g (1, or shared evenly where an
item is of several groups), the exposure of a group and what it merits are

  e_g = \sum_u \sum_r v_r s_g(L_u[r])
  m_g = \sum_i s_g(i)  over the catalogue: demographic parity, or
        \sum_t s_g(t)  over the targets of the test: disparate treatment

both as shares of their sums over all groups. The disparity is the share of all
exposure that would have to move for them to be equal, the total variation

  disparity = 1 / 2 \sum_g |e_g - m_g|  in [0, 1].

Deviations from the paper: Singh and Joachims compare two groups, by the ratio
of their e_g / m_g; those ratios are `exposure_ratios`, the disparity is for
any number of groups. Their merit is a relevance that is known; here it is how
many test targets a group has.

References:
  Ashudeep Singh, Thorsten Joachims. Fairness of Exposure in Rankings. KDD 2018.
  https://doi.org/10.1145/3219819.3220088
"""

import numpy as np
from jaxtyping import Float, Int


def group_exposures(
  lists: Int[np.ndarray, "query k"], shares: Float[np.ndarray, "vocab value"]
) -> Float[np.ndarray, "query value"]:
  """The attention that each list gives to each group.

  Args:
    lists: item ids, the best first; 0 is no item.
    shares: s_g of each item id; row 0 is padding.

  Returns:
    Sums of v_r s_g(i), one row a query.
  """
  out = np.zeros((len(lists), shares.shape[1]))
  for place in range(lists.shape[1]):
    items = lists[:, place]
    given = np.where((items > 0)[:, None], shares[items], 0.0)
    out += given / np.log2(place + 2.0)
  return out


def exposure_ratios(
  exposure: Float[np.ndarray, "*resample value"],
  merit: Float[np.ndarray, "*#resample value"],
) -> Float[np.ndarray, "*resample value"]:
  """(e_g / sum e) / (m_g / sum m): 1 is what the group merits.

  Args:
    exposure: e_g of each group.
    merit: m_g of each group, the same of all resamples or one of each.

  Returns:
    One value a group; NaN where it merits nothing.
  """
  e, m = _as_shares(exposure), _as_shares(merit)
  return np.where(m > 0, e / np.where(m > 0, m, 1.0), np.nan)


def exposure_disparity(
  exposure: Float[np.ndarray, "*resample value"],
  merit: Float[np.ndarray, "*#resample value"],
) -> Float[np.ndarray, "*resample"]:
  """The total variation between exposure and merit; see the module.

  Args:
    exposure: e_g of each group; not all 0.
    merit: m_g of each group, likewise; not all 0.

  Returns:
    Values in [0, 1]; NaN where nothing is exposed, or nothing has a merit.
  """
  apart = np.abs(_as_shares(exposure) - _as_shares(merit))
  return np.asarray(0.5 * apart.sum(-1))


def _as_shares(
  sums: Float[np.ndarray, "*resample value"],
) -> Float[np.ndarray, "*resample value"]:
  total = sums.sum(-1, keepdims=True)
  return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)
