"""`recjax sweep`: many runs by one file, and what they say together."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import rich.console
from absl import flags

from recjax.command_flags import data_flags, parse, required, workdir_flag
from recjax.data.prepare import default_cache_dir
from recjax.errors import ConfigError, RunError, check_choice, check_range
from recjax.sweeps import carry_out, sweep_report
from recjax.sweeps.carry_out import Made, Places
from recjax.sweeps.folder import SweepFolder
from recjax.sweeps.launchers.launcher import Launcher
from recjax.sweeps.launchers.local import LocalLauncher
from recjax.sweeps.launchers.ray import RayLauncher
from recjax.sweeps.launchers.slurm import SlurmLauncher
from recjax.sweeps.spec import Sweep, load_sweep
from recjax.sweeps.trials import Trial

_LAUNCHERS = ("local", "ray", "slurm")
_RAY_OPTIONS = ("address", "cores_per_trial", "gpus_per_trial")


def _flags(values: flags.FlagValues) -> None:
  flags.DEFINE_integer("num_workers", 1, "Trials at once.", flag_values=values)
  flags.DEFINE_enum(
    "launcher", "local", _LAUNCHERS, "Where trials run.", flag_values=values
  )
  flags.DEFINE_multi_string(
    "launcher_option",
    [],
    "NAME=VALUE of the launcher; may be repeated. Of ray: address,"
    " cores_per_trial, gpus_per_trial; of slurm: cluster, or a parameter of"
    " submitit such as slurm_partition, timeout_min, cpus_per_task.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "retry_failed", False, "Tries trials again that failed twice.",
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_boolean(
    "dry_run", False, "Lists the trials and starts none.", flag_values=values
  )
  flags.DEFINE_boolean(
    "share_compilations", True, "Trials of one shape share compiled programs.",
    flag_values=values,
  )  # fmt: skip


def sweep(arguments: Sequence[str]) -> None:
  """Carries out a sweep, or goes on with it, and reports on it."""
  values, names, bindings = parse(
    "sweep", arguments, workdir_flag, data_flags, _flags
  )
  if len(names) != 1:
    raise ConfigError(
      f"recjax sweep needs one sweep file; got {len(names)}. See"
      " docs/sweeps.md."
    )
  for text in bindings:
    raise ConfigError(
      f"recjax sweep: put {text} into the bindings of {names[0]}, so that the"
      " file says all."
    )
  found = load_sweep(names[0])
  if values["dry_run"]:
    _list(found, carry_out.make(found))
    return
  folder = SweepFolder(required(values, "workdir", "sweep"))
  folder.check(found)
  options = _options(values["launcher"], values["launcher_option"])
  made = carry_out.make(found, folder.read_trials(), folder.read_refused())
  with folder.locked():
    # What may refuse comes first: a refused call changes nothing.
    carry_out.check_configs(made, folder)
    launcher = _launcher(values, options, folder)
    try:
      folder.take_up(found)
      if values["retry_failed"]:
        num = carry_out.retry_failed(folder)
        print(f"{num} failed trials are tried again.")
      trials = carry_out.carry_out(
        found, made, folder, launcher, _places(values)
      )
    except KeyboardInterrupt:
      raise KeyboardInterrupt(
        f"the sweep in {folder.path} was stopped; the same command goes on."
      ) from None
    finally:
      launcher.close()
  sweep_report.print_report(folder.path)
  for note in carry_out.notes(found, trials, folder.read_refused()):
    print(f"NOTE {note}")
  _check_all_went_well(folder, trials)


def _check_all_went_well(folder: SweepFolder, trials: Sequence[Trial]) -> None:
  """Raises RunError where trials failed, so that scripts can tell."""
  failed = carry_out.failed(folder, trials)
  if failed:
    raise RunError(
      f"{len(failed)} of {len(trials)} trials failed, the first is"
      f" {failed[0].combination!r}, seed {failed[0].seed}:"
      f" {folder.crashes(failed[0].key)[-1]['error']}. --retry_failed tries"
      " them again."
    )


def _places(values: dict[str, Any]) -> Places:
  shared = ""
  if values["share_compilations"]:
    root = pathlib.Path(values["cache_dir"] or default_cache_dir())
    shared = str((root / "xla").absolute())
  data_dir = str(pathlib.Path(values["data_dir"]).absolute())
  cache_dir = values["cache_dir"] and str(
    pathlib.Path(values["cache_dir"]).absolute()
  )
  return Places(data_dir, cache_dir, shared)


def _options(launcher: str, texts: Sequence[str]) -> dict[str, Any]:
  options: dict[str, Any] = {}
  for text in texts:
    name, equals, value = text.partition("=")
    if not equals or not name:
      raise ConfigError(f"--launcher_option must be NAME=VALUE; got {text!r}.")
    if launcher == "local":
      raise ConfigError(
        f"--launcher_option={name}: the launcher 'local' has no options."
      )
    if launcher == "ray":
      check_choice("--launcher_option of 'ray'", name, _RAY_OPTIONS)
    options[name] = value if name == "address" else _number(value)
    if launcher == "ray" and name != "address":
      check_range(f"--launcher_option={name}", options[name], 0)
  return options


def _number(text: str) -> int | float | str:
  """4, 0.5 and .5 as numbers; all else, such as inf, as it is."""
  if not re.fullmatch(r"\d+|\d*\.\d+", text, re.ASCII):
    return text
  return float(text) if "." in text else int(text)


def _launcher(
  values: dict[str, Any], options: dict[str, Any], folder: SweepFolder
) -> Launcher:
  num = values["num_workers"]
  match values["launcher"]:
    case "ray":
      return RayLauncher(num, **options)
    case "slurm":
      cluster = options.pop("cluster", "slurm")
      path = folder.path.absolute() / "slurm"
      return SlurmLauncher(path, num, cluster=cluster, parameters=options)
    case _:
      return LocalLauncher(num, folder.path / "logs")


def _list(found: Sweep, made: Made) -> None:
  console = rich.console.Console()
  console.print(f"{found.title}: {len(made.trials)} trials", markup=False)
  for trial in made.trials:
    text = f"{trial.key}  {trial.combination}, seed {trial.seed}"
    console.print(text, markup=False, soft_wrap=True, highlight=False)
  if found.shape == "bayesian":
    print(f"... and those that follow from them, {found.num_trials} in all.")
    return
  for note in carry_out.notes(found, made.trials, made.refused):
    print(f"NOTE {note}")
