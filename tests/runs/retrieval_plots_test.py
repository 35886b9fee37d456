"""What the plots of retrieval draw, read back from the figures."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from recjax.errors import DataError
from recjax.runs import retrieval_plots
from recjax.runs.retrieval_plots import (
  GROUPS,
  item_space_figure,
  principal_plane,
  recall_qps_figure,
)

PNG = b"\x89PNG\r\n\x1a\n"
TRIED = [(0.5, 900.0), (0.9, 300.0), (0.9, 100.0), (1.0, 50.0)]
FRONTIER = [(1.0, 50.0), (0.5, 900.0), (0.9, 300.0)]


def legend_of(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_recall_against_speed():
  figure = recall_qps_figure(
    TRIED,
    FRONTIER,
    exact_qps=40.0,
    chosen=(0.9, 300.0),
    wanted_recall=0.85,
    kind="scann",
    k=7,
    title="shop",
  )
  (axes,) = figure.axes
  dots = axes.collections[0].get_offsets()
  np.testing.assert_array_equal(dots, TRIED)
  line, star, exact, wanted = axes.get_lines()
  np.testing.assert_array_equal(line.get_xdata(), [0.5, 0.9, 1.0])
  np.testing.assert_array_equal(line.get_ydata(), [900, 300, 50])
  assert (star.get_xdata()[0], star.get_ydata()[0]) == (0.9, 300)
  assert list(exact.get_ydata()) == [40, 40]
  assert list(wanted.get_xdata()) == [0.85, 0.85]
  assert axes.get_yscale() == "log"
  assert "recall@7" in axes.get_xlabel()
  assert legend_of(axes)[2:] == [
    "chosen: 300 at 0.900",
    "exact search: 40",
    "wanted recall: 0.85",
  ]
  assert axes.get_title(loc="left") == "shop"


def test_exact_search_alone_can_be_drawn(tmp_path):
  path = tmp_path / "plots" / "recall.png"
  retrieval_plots.plot_recall_qps(path, [], [], exact_qps=40.0)
  assert path.read_bytes().startswith(PNG)


def test_the_principal_plane_is_that_of_scikit_learn():
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1] + 7
  plane, shares = principal_plane(vectors.astype(np.float32))
  pca = PCA(2).fit(vectors)
  expected = pca.transform(vectors)
  # The sign of an axis: its largest component is positive.
  for axis in range(2):
    largest = np.abs(pca.components_[axis]).argmax()
    expected[:, axis] *= np.sign(pca.components_[axis, largest])
  np.testing.assert_allclose(plane, expected, atol=1e-4)
  np.testing.assert_allclose(shares, pca.explained_variance_ratio_, rtol=1e-4)


def test_the_plane_does_not_depend_on_the_order_or_the_sign_of_a_solver():
  rng = np.random.default_rng(1)
  vectors = rng.normal(size=(40, 5)) * [4, 2, 1, 1, 1]
  plane, _ = principal_plane(vectors)
  order = rng.permutation(40)
  np.testing.assert_allclose(
    principal_plane(vectors[order])[0], plane[order], atol=1e-9
  )


@pytest.mark.parametrize("shape", [(1, 3), (4, 1), (4, 3)])
def test_a_plane_of_too_little(shape):
  plane, shares = principal_plane(np.ones(shape))
  np.testing.assert_array_equal(plane, np.zeros((shape[0], 2)))
  assert shares == (0, 0)


@pytest.mark.parametrize("vectors", [np.zeros((0, 3)), np.array([[1, np.nan]])])
def test_no_plane(vectors):
  with pytest.raises(DataError, match="a projection needs"):
    principal_plane(vectors)


@pytest.fixture
def space():
  rng = np.random.default_rng(2)
  counts = rng.permutation(60)
  names = [f"item {i}" for i in range(60)]
  names[int(np.argmax(counts))] = "one that has a name of $$ and many letters"
  return rng.normal(size=(60, 4)), counts, names


def test_items_coloured_by_a_number(space):
  vectors, counts, names = space
  figure = item_space_figure(
    vectors, np.log10(1 + counts), counts, names, colour_name="log count",
    num_labels=3,
  )  # fmt: skip
  axes, bar = figure.axes
  plane, _ = principal_plane(vectors)
  order = np.argsort(counts, kind="stable")
  dots = axes.collections[0]
  np.testing.assert_allclose(dots.get_offsets(), plane[order])
  np.testing.assert_allclose(dots.get_array(), np.log10(1 + counts)[order])
  assert bar.get_ylabel() == "log count"
  labels = [text.get_text() for text in axes.texts]
  # Dollars would start a formula, and a long name would cover the plot.
  assert labels[0].startswith(r"one that has a name of \$\$")
  assert labels[0].endswith("…") and len(labels) == 3
  figure.draw_without_rendering()


def test_labels_do_not_cover_each_other(space):
  vectors, counts, names = space
  together = np.concatenate([vectors[:1]] * 5 + [vectors])
  counts = np.concatenate([[99, 98, 97, 96, 95], counts])
  names = [f"twin {i}" for i in range(5)] + names
  figure = item_space_figure(
    together, counts.astype(float), counts, names, colour_name="x",
  )  # fmt: skip
  labels = [text.get_text() for text in figure.axes[0].texts]
  # Of those in one place only the most popular is named.
  assert [label for label in labels if "twin" in label] == ["twin 0"]


def test_items_coloured_by_a_text(space):
  vectors, counts, names = space
  groups = np.array([f"g{min(i // 4, 9)}" for i in range(60)])
  figure = item_space_figure(
    vectors, groups, counts, names, colour_name="genre"
  )
  (axes,) = figure.axes
  assert axes.get_legend().get_title().get_text() == "genre"
  # The most frequent first, then by name; what is left is grey.
  shown = ["g9", *(f"g{i}" for i in range(len(GROUPS) - 1))]
  assert legend_of(axes) == [*shown, f"{10 - len(GROUPS)} others"]
  sizes = [len(dots.get_offsets()) for dots in axes.collections]
  assert sizes[:3] == [24, 4, 4] and sum(sizes) == 60


def test_as_png(space, tmp_path):
  vectors, counts, names = space
  path = tmp_path / "item_space.png"
  retrieval_plots.plot_item_space(
    path, vectors, counts.astype(float), counts, names, colour_name="x"
  )
  assert path.read_bytes().startswith(PNG)
