"""The runs of recipes, carried out as the ledger has them.

A seed of a recipe is a workdir NAME/seed_S. It is what `recjax train` would
make there: a killed one goes on, a finished one is not run again.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from recjax import errors, files, named_run
from recjax.named_run import NamedRun
from recjax.runs import published, results_tables
from recjax.runs.ledger import Check, Entry, Ledger
from recjax.runs.recipes import Recipe
from recjax.runs.record import RunRecord

OVERLAYS = {
  "Experiment": "overlays/tiny.gin",
  "MultiTaskExperiment": "overlays/tiny_multi_task.gin",
  "PairsExperiment": "overlays/tiny_pairs.gin",
  "RankingExperiment": "overlays/tiny_ranking.gin",
  "RetrievalExperiment": "overlays/tiny_retrieval.gin",
}
"""What shrinks a smoke run, by the kind of experiment."""

Tell = Callable[[str], None]
REFUSALS = (errors.ConfigError, errors.DataError, errors.RunError, OSError)


@dataclasses.dataclass(frozen=True)
class Places:
  """Where recipes find what they need.

  Attributes:
    workdir: holds NAME/seed_S.
    data_dir: the folder of raw data sets.
    cache_dir: where prepared data lie; None is the default.
  """

  workdir: files.PathLike
  data_dir: files.PathLike
  cache_dir: files.PathLike | None = None


@dataclasses.dataclass(frozen=True)
class Reproduction:
  """The runs of one recipe.

  Attributes:
    entries: the cells that are of these runs.
    recipe: how they are made.
    places: where.
  """

  entries: tuple[Entry, ...]
  recipe: Recipe
  places: Places

  @property
  def name(self) -> str:
    """What the command calls it."""
    return self.recipe.run

  @property
  def folder(self) -> pathlib.Path:
    """Of its experiment."""
    return self.entries[0].folder

  def workdir(self, seed: int) -> pathlib.Path:
    """The workdir of a seed."""
    return pathlib.Path(self.places.workdir) / self.name / f"seed_{seed}"

  def read(
    self, seed: int, overlays: Sequence[str] = (), bindings: Sequence[str] = ()
  ) -> NamedRun:
    """The run of a seed.

    Args:
      seed: one of the recipe's.
      overlays: gin files after those of the recipe.
      bindings: NAME=VALUE after those of the recipe.

    Raises:
      ConfigError: a gin file is missing, or a setting is refused.
    """
    try:
      return named_run.read_run(
        (*self.recipe.gin_files, *overlays),
        (*self.recipe.bindings_of(seed), *bindings),
        (self.folder,),
      )
    except errors.ConfigError as error:
      toml = self.folder / "published.toml"
      raise errors.ConfigError(
        f"the recipe {self.name!r} of {toml}: {error}"
      ) from error

  def check(self) -> Check:
    """What this machine says of it; refuses nothing."""
    try:
      run = self.read(min(self.recipe.seeds))
    except errors.ConfigError as error:
      return Check(problem=str(error))
    try:
      _find_data(run, self.places)
    except errors.DataError as error:
      return Check(run.config_hash, missing_data=str(error))
    return Check(run.config_hash)

  def finished_seeds(self) -> tuple[int, ...]:
    """The seeds of the recipe whose runs have a result."""
    return tuple(
      seed
      for seed in self.recipe.seeds
      if RunRecord(self.workdir(seed)).is_finished()
    )

  def minutes_left(self) -> float | None:
    """What the seeds that have no result cost; None where nobody knows."""
    left = len(self.recipe.seeds) - len(self.finished_seeds())
    if not left:
      return 0.0
    known = [each.minutes_a_seed for each in self.entries]
    return next((left * each for each in known if each is not None), None)

  def train(self, seed: int) -> dict[str, Any]:
    """The result of a seed, after training it if need be.

    Raises:
      DataError: a data file is missing; nothing was written then.
      RunError: the workdir is of another config.
    """
    return self._carry_out(self.read(seed), self.workdir(seed), seed)

  def smoke(self, bindings: Sequence[str] = ()) -> dict[str, Any]:
    """The result of three tiny steps of the first seed, beside the others.

    Args:
      bindings: NAME=VALUE that shrink it further.
    """
    seed = self.recipe.seeds[0]
    kind = type(self.read(seed).settings).__name__
    overlay = self.recipe.overlay or OVERLAYS[kind]
    workdir = pathlib.Path(self.places.workdir) / self.name / "smoke"
    # Bindings of the recipe win over the overlay, but not over these.
    bindings = ("TrainConfig.max_steps=3", *bindings)
    run = self.read(seed, (overlay,), bindings)
    return self._carry_out(run, workdir, seed, (overlay,), bindings)

  def _carry_out(
    self,
    run: NamedRun,
    workdir: pathlib.Path,
    seed: int,
    overlays: Sequence[str] = (),
    bindings: Sequence[str] = (),
  ) -> dict[str, Any]:
    record = RunRecord(workdir)
    if not (workdir / "operative.gin").exists():
      _find_data(run, self.places)
    run.take_up(record)
    if record.is_finished():
      return record.read_result()
    command = named_run.train_command(
      (*self.recipe.files_from_checkout(self.folder), *overlays),
      (*self.recipe.bindings_of(seed), *bindings),
      str(workdir),
    )
    data_dir, cache_dir = self.places.data_dir, self.places.cache_dir
    try:
      return run.train(record, data_dir, cache_dir, command=command)
    finally:
      record.close()  # This process may go on with other runs.

  def workdirs(self) -> list[pathlib.Path]:
    """Those of the finished seeds."""
    return [self.workdir(seed) for seed in self.finished_seeds()]

  def rows(self) -> list[dict[str, Any]]:
    """The rows of results.json that the finished seeds give.

    Raises:
      ConfigError: they are of another data set or protocol than the cells.
    """
    first = self.entries[0]
    cells = tuple(entry.cell for entry in self.entries)
    paper = published.Published(first.paper, first.link, cells)
    workdirs = self.workdirs()
    return published.collect(paper, workdirs) if workdirs else []


def _find_data(run: NamedRun, places: Places) -> None:
  """Raises DataError unless the files of the data set are there."""
  run.settings.source.files(pathlib.Path(places.data_dir))


def make_reproduction(
  ledger: Ledger, name: str, places: Places
) -> Reproduction:
  """The runs of a name of the ledger.

  Raises:
    ConfigError: there is no such name, or no model for it yet.
  """
  entries = ledger.of(name)
  recipe = entries[0].recipe
  if recipe is None:
    raise errors.ConfigError(
      f"{name} can not be reproduced yet: {entries[0].why} "
      f"({entries[0].folder / 'published.toml'} lists what we aim at.)"
    )
  return Reproduction(entries, recipe, places)


def check_ledger(ledger: Ledger, places: Places) -> Ledger:
  """The ledger with what this machine says of each recipe."""
  checks = {}
  for name in ledger.names:
    recipe = ledger.of(name)[0].recipe
    if recipe is not None:
      entries = ledger.of(name)
      checks[name] = Reproduction(entries, recipe, places).check()
  return ledger.checked(checks)


class Budget:
  """Minutes that may be spent, from now on; `clock` tells seconds."""

  def __init__(
    self,
    minutes: float | int = math.inf,
    clock: Callable[[], float] = time.monotonic,
  ):
    errors.check_range("--budget (minutes)", minutes, 0)
    self._minutes, self._clock, self._start = minutes, clock, clock()

  def left(self) -> float:
    """How many minutes are left; below 0 after that."""
    return self._minutes - (self._clock() - self._start) / 60

  def refuses(self, cost: float) -> str:
    """Why something of so many minutes is not started; "" if it is."""
    left = self.left()
    if cost == 0 or cost <= left:
      return ""
    if math.isinf(cost):
      return "for nothing tells what it costs"
    return (
      f"for it takes about {cost:.1f} minutes, and {max(left, 0):.1f} are left"
    )


def train_seeds(reproduction: Reproduction, budget: Budget, tell: Tell) -> None:
  """Trains the seeds of a recipe, and starts none when the budget is spent."""
  recipe, name = reproduction.recipe, reproduction.name
  for seed in recipe.seeds:
    workdir = reproduction.workdir(seed)
    if RunRecord(workdir).is_finished():
      tell(f"{name} seed {seed}: finished in {workdir}")
    elif budget.left() <= 0:
      tell(f"{name} seed {seed}: not started, the budget is spent")
      continue
    else:
      tell(f"{name} seed {seed}: {workdir}")
    reproduction.train(seed)


def train_all(
  reproductions: Iterable[Reproduction],
  budget: Budget,
  tell: Tell,
  on_trained: Callable[[Reproduction], None],
) -> list[str]:
  """Carries out what the budget allows, the cheapest first.

  A recipe is started if what it costs on two cores fits into what is left.

  Args:
    reproductions: in any order.
    budget: in minutes of this process.
    tell: is told what is left out, and why.
    on_trained: called with each when its seeds have been trained.

  Returns:
    What failed, and why.
  """
  failed: list[str] = []

  def fail(each: Reproduction, error: Exception) -> None:
    tell(f"{each.name}: failed: {error}")
    failed.append(f"{each.name}: {error}")

  costs: list[tuple[float, Reproduction]] = []
  for each in reproductions:
    try:
      cost = each.minutes_left()
    except REFUSALS as error:  # A result that can not be read.
      fail(each, error)
      continue
    costs.append((math.inf if cost is None else cost, each))
  for cost, each in sorted(costs, key=lambda pair: pair[0]):
    missing = each.check().missing_data
    reason = f"data not at hand: {missing}" if missing else budget.refuses(cost)
    if reason:
      tell(f"{each.name}: left out, {reason}")
      continue
    try:
      train_seeds(each, budget, tell)
      on_trained(each)
    except REFUSALS as error:
      fail(each, error)
  return failed


def update(reproduction: Reproduction, experiments: pathlib.Path) -> list[str]:
  """Writes the results of a recipe into the files that show them.

  These are results.json and README.md of its experiment, and README.md and
  docs/results.md beside the folder of experiments, as far as they are there.

  Args:
    reproduction: with all seeds finished.
    experiments: the folder of all experiments.

  Returns:
    The files that were written.

  Raises:
    RunError: a seed is not finished.
  """
  left = set(reproduction.recipe.seeds) - set(reproduction.finished_seeds())
  if left:
    raise errors.RunError(
      f"{reproduction.name}: not finished are the seeds "
      f"{', '.join(map(str, sorted(left)))}; results.json stays as it is."
    )
  folder, root = reproduction.folder, experiments.absolute().parent
  results, readme = folder / "results.json", folder / "README.md"
  results_tables.publish(
    folder / "published.toml",
    reproduction.workdirs(),
    results,
    readme if readme.exists() else None,
  )
  written = [path for path in (results, readme) if path.exists()]
  if (root / "README.md").exists():
    rows = results_tables.load_all_results(experiments)
    results_tables.update_readme(root / "README.md", rows)
    written.append(root / "README.md")
  page = root / "docs" / "results.md"
  if page.exists():
    results_tables.update_results_page(experiments, page)
    written.append(page)
  return [str(path) for path in written]
