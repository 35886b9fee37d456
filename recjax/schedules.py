"""Learning rates over the steps, for optax and for row-wise optimizers."""

import optax

from recjax.errors import ConfigError, check_choice, check_range

SCHEDULES = ("constant", "linear", "cosine")


def check_schedule(
  owner: str, schedule: str, warmup_steps: int, decay_steps: int
) -> None:
  """Raises ConfigError unless `make_schedule` takes these settings."""
  check_choice(f"{owner}.schedule", schedule, SCHEDULES)
  check_range(f"{owner}.warmup_steps", warmup_steps, 0, integer=True)
  check_range(f"{owner}.decay_steps", decay_steps, 0, integer=True)
  if schedule != "constant" and decay_steps <= warmup_steps:
    raise ConfigError(
      f"{owner}.decay_steps must be larger than warmup_steps with"
      f" schedule={schedule!r}; got {decay_steps} and {warmup_steps}."
    )


def make_schedule(
  learning_rate: float, schedule: str, warmup_steps: int, decay_steps: int
) -> optax.Schedule:
  """The learning rate as a function of the step.

  Args:
    learning_rate: the highest one.
    schedule: what follows the warm-up: "constant", or down to zero at
      `decay_steps` by "linear" or "cosine".
    warmup_steps: linear, from zero.
    decay_steps: warm-up included.

  Returns:
    step -> rate.
  """
  steps = decay_steps - warmup_steps
  match schedule:
    case "linear":
      main = optax.linear_schedule(learning_rate, 0.0, steps)
    case "cosine":
      main = optax.cosine_decay_schedule(learning_rate, steps)
    case _:
      main = optax.constant_schedule(learning_rate)
  if not warmup_steps:
    return main
  warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
  return optax.join_schedules([warmup, main], [warmup_steps])
