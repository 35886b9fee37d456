import numpy as np
import pytest
from matplotlib import image

from recjax.data.data_plots import (
  save_history_length_plot,
  save_popularity_plot,
)
from recjax.data.interactions import Interactions


def made(lengths, seed=0):
  random = np.random.default_rng(seed)
  num = int(np.sum(lengths))
  return Interactions.from_columns(
    "made",
    {
      "user_id": np.repeat(np.arange(1, len(lengths) + 1), lengths),
      "item_id": np.minimum(random.geometric(0.02, num), 200),
    },
  )


@pytest.mark.parametrize(
  "save", [save_popularity_plot, save_history_length_plot]
)
@pytest.mark.parametrize(
  "lengths", [[1], [4, 4, 4], [3, 9, 2000], list(range(1, 80))]
)
def test_a_picture_is_drawn_whatever_the_lengths(tmp_path, save, lengths):
  path = save(made(lengths), tmp_path / "plots" / "plot.png")
  pixels = image.imread(path)
  assert pixels.shape[0] > 400 and pixels.shape[1] > 1000
  # Something is drawn, on white.
  assert 0.5 < (pixels[..., :3].min(axis=2) > 0.99).mean() < 0.995
  assert [p.name for p in path.parent.iterdir()] == ["plot.png"]


def test_the_same_data_gives_the_same_bytes(tmp_path):
  data = made([5, 9, 30])
  first = save_popularity_plot(data, tmp_path / "a.png").read_bytes()
  assert save_popularity_plot(data, tmp_path / "b.png").read_bytes() == first


def test_an_old_picture_survives_a_failure(tmp_path, monkeypatch):
  path = tmp_path / "plot.png"
  path.write_bytes(b"old")

  def fail(*_, **__):
    raise OSError("disk full")

  monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
  with pytest.raises(OSError, match="disk full"):
    save_history_length_plot(made([3]), path)
  assert path.read_bytes() == b"old"
  assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]
