"""The flags that commands share, and how a command line is read."""

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from absl import flags

from recjax import errors

GIN_PREFIX = "--gin."
USAGE = """\
The command line of recjax.

  recjax train --gin_file=runs/sasrec_ml1m.gin --workdir=DIR --data_dir=DIR
  recjax evaluate --workdir=DIR --data_dir=DIR
  recjax report DIR...
  recjax sweep FILE --workdir=DIR --data_dir=DIR
  recjax reproduce NAME... --workdir=DIR --data_dir=DIR
  recjax compare DIR DIR...
  recjax diff DIR DIR
  recjax explain DIR DIR...
  recjax front --workdir=DIR --data_dir=DIR
  recjax ab TABLE --arm=COLUMN --control=NAME --metric=COLUMN
  recjax sample_size --rate=.05 --lift=.02
  recjax data NAME --data_dir=DIR
  recjax plan --gin_file=runs/dlrm_frappe.gin --topology=v5e:4x4
  recjax index --workdir=DIR --data_dir=DIR
  recjax query --workdir=DIR --data_dir=DIR --user=ID
  recjax export --workdir=DIR --data_dir=DIR --out=DIR

Any setting of gin is changed with --gin.NAME=VALUE, where NAME is a macro
such as SEED or a parameter such as Experiment.batch_size. `recjax COMMAND
--help` lists the flags of a command.
"""

AS_RECORDED = "takes the runs as they are recorded"

Define = Callable[[flags.FlagValues], None]


def data_flags(values: flags.FlagValues) -> None:
  """Where data sets lie."""
  flags.DEFINE_string(
    "data_dir",
    os.environ.get("RECJAX_DATA_DIR", "."),
    "The folder of raw data sets; $RECJAX_DATA_DIR by default.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "cache_dir",
    None,
    "Where prepared data lie; $RECJAX_CACHE_DIR or ~/.cache/recjax by default.",
    flag_values=values,
  )


def gin_flags(values: flags.FlagValues) -> None:
  """Which gin files are read."""
  flags.DEFINE_multi_string(
    "gin_file",
    [],
    "A gin file, as a path or within gin/; may be repeated, the last wins.",
    flag_values=values,
  )


def workdir_flag(values: flags.FlagValues) -> None:
  """The run that a command is about."""
  flags.DEFINE_string(
    "workdir", None, "The folder of the run record.", flag_values=values
  )


def process_flags(values: flags.FlagValues) -> None:
  """Which processes train together."""
  flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of the first of several processes that train together.",
    flag_values=values,
  )
  for name, help_text in (
    ("num_processes", "How many processes train together."),
    ("process_id", "Which of them this is, from 0."),
    ("num_cpu_devices", "Pretend that the CPU is so many devices."),
  ):
    flags.DEFINE_integer(name, None, help_text, flag_values=values)


def parse(
  command: str, arguments: Sequence[str], *definitions: Define
) -> tuple[dict[str, Any], list[str], list[str]]:
  """Splits arguments into flags, positional arguments and gin bindings.

  Args:
    command: the name after `recjax`.
    arguments: what follows it.
    *definitions: each defines some flags.

  Returns:
    Flags by name, positional arguments, and NAME=VALUE of --gin.NAME=VALUE.

  Raises:
    ConfigError: a flag is unknown, or its value can not be read.
    SystemExit: help was asked for, and shown.
  """
  values = flags.FlagValues()
  flags.DEFINE_boolean("help", False, "Shows this.", flag_values=values)
  for define in definitions:
    define(values)
  bindings = [
    a.removeprefix(GIN_PREFIX) for a in arguments if a.startswith(GIN_PREFIX)
  ]
  rest = [a for a in arguments if not a.startswith(GIN_PREFIX)]
  try:
    positional = values([f"recjax {command}", *rest])[1:]
  except flags.Error as error:
    raise errors.ConfigError(
      f"recjax {command}: {error} See `recjax {command} --help`."
    ) from error
  if values["help"].value:
    print(f"{USAGE}\nFlags of {command}:\n{values.get_help()}")
    raise SystemExit(0)
  return values.flag_values_dict(), positional, bindings


def check_outs(paths: Iterable[str], endings: Sequence[str]) -> None:
  """Raises ConfigError for a file of --out of another ending."""
  for path in paths:
    errors.check_choice(
      "the ending of --out", pathlib.Path(path).suffix, endings
    )


def refuse_bindings(command: str, bindings: Sequence[str], why: str) -> None:
  """Raises ConfigError for bindings that a command would not look at.

  Args:
    command: the name after `recjax`.
    bindings: NAME=VALUE of --gin.NAME=VALUE.
    why: what the command does instead, such as "reads no gin".
  """
  for text in bindings:
    raise errors.ConfigError(
      f"recjax {command} {why}; --gin.{text} would change nothing."
    )


def required(values: dict[str, Any], name: str, command: str) -> str:
  """The value of a flag that must be given.

  Raises:
    ConfigError: it is not.
  """
  value = values[name]
  if not value:
    raise errors.ConfigError(f"recjax {command} needs --{name}.")
  return value
