"""Made-up A/B tests."""

import numpy as np


def planted(seed, *, num=600, num_arms=2, lift=0.0):
  """Clicks and impressions of users, and their clicks of the week before."""
  random = np.random.default_rng(seed)
  arm = random.integers(0, num_arms, num)
  taste = random.beta(2, 18, num)
  shown = random.geometric(0.1, num)
  before = random.binomial(40, taste)
  rate = np.minimum(taste * (1 + lift * (arm > 0)), 1)
  return arm, random.binomial(shown, rate), shown, before[:, None]
