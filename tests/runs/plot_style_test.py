from recjax.runs import plot_style


def test_a_figure_in_the_style():
  figure = plot_style.new_figure(4.0, 3.0)
  axes = figure.subplots()
  plot_style.style_axes(axes, grid="y")
  plot_style.title_axes(axes, "a title")
  assert axes.get_title(loc="left") == "a title"
  assert not axes.spines["top"].get_visible()
  assert axes.spines["left"].get_visible()
  visible = lambda axis: any(
    line.get_visible() for line in axis.get_gridlines()
  )
  assert visible(axes.yaxis) and not visible(axes.xaxis)


def test_png_has_the_pixels_of_a_screen():
  figure = plot_style.new_figure(4.0, 3.0)
  content = plot_style.png_bytes(figure)
  assert content.startswith(b"\x89PNG\r\n\x1a\n")
  # Width and height stand in the header of a PNG.
  size = [int.from_bytes(content[i : i + 4], "big") for i in (16, 20)]
  scale = 96 * plot_style.PIXELS_PER_POINT
  assert size == [4 * scale, 3 * scale]
