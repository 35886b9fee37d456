import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from matplotlib import image

from recjax.data.describe_examples import describe_examples
from recjax.data.example_plots import save_example_plot
from recjax.data.examples import Examples, ExampleSplit


def made(num_columns, label_kind="binary", num_test=30):
  random = np.random.default_rng(0)
  parts = []
  for part, num in (("train", 200), ("validation", 0), ("test", num_test)):
    columns = {
      f"column ${number}$": random.integers(0, number + 2, num)
      for number in range(num_columns)
    }
    label = random.integers(0, 2, num).astype(np.float64)
    if label_kind == "real":
      label += random.normal(size=num)
    table = pa.table({**columns, "label": label})
    part = Examples.from_table(f"made {part}", table, label_kind=label_kind)
    parts.append(part)
  return describe_examples(ExampleSplit(*parts))


@pytest.mark.parametrize(
  "options",
  [(1, "binary", 0), (8, "real"), (0,)],
)
def test_a_picture_is_drawn_whatever_the_data(tmp_path, options):
  path = save_example_plot(made(*options), tmp_path / "plots" / "plot.png")
  pixels = image.imread(path)
  assert pixels.shape[0] >= 480 and pixels.shape[1] == 1650
  # Something is drawn, on white.
  assert 0.5 < (pixels[..., :3].min(axis=2) > 0.99).mean() < 0.995
  assert [p.name for p in path.parent.iterdir()] == ["plot.png"]


def test_more_columns_need_more_room_up_to_a_bound(tmp_path):
  heights = []
  summary = made(1)
  for num in (20, 80, 300):
    columns = summary.columns * num
    many = dataclasses.replace(summary, columns=columns)
    path = save_example_plot(many, tmp_path / "plot.png")
    heights.append(image.imread(path).shape[0])
  assert heights[0] < heights[1] == heights[2]


def test_the_same_data_gives_the_same_bytes(tmp_path):
  first = save_example_plot(made(3), tmp_path / "a.png").read_bytes()
  assert save_example_plot(made(3), tmp_path / "b.png").read_bytes() == first
