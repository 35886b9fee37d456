"""All launchers are launchers."""

from recjax.sweeps.launchers.launcher import Launcher
from recjax.sweeps.launchers.local import LocalLauncher
from recjax.sweeps.launchers.ray import RayLauncher
from recjax.sweeps.launchers.slurm import SlurmLauncher


def test_they_have_the_same_methods():
  for kind in (LocalLauncher, RayLauncher, SlurmLauncher):
    for name in ("start", "wait", "close"):
      assert getattr(kind, name).__annotations__ == (
        getattr(Launcher, name).__annotations__
      )
