"""HTML that a parser takes, that needs nothing else, and that is escaped."""

import html.parser

from recjax.runs import html_page, tables

VOID = {"meta", "img", "br"}
EVIL = '<script>alert("&")</script>'


class Nesting(html.parser.HTMLParser):
  """Fails at a tag that is closed in the wrong place; keeps texts and tags."""

  def __init__(self):
    super().__init__()
    self.open, self.tags, self.texts = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


def parse(text):
  parser = Nesting()
  parser.feed(text)
  parser.close()
  assert parser.open == []
  return parser


def test_all_text_is_escaped():
  cell = tables.Cell(EVIL, EVIL, is_number=True, is_best=True)
  body = [
    html_page.table((EVIL,), [tables.Row((cell,), is_reference=True)]),
    html_page.details(EVIL, EVIL),
    html_page.folded(EVIL, html_page.table((), ())),
    html_page.definitions([(EVIL, EVIL)]),
    html_page.image(b"", EVIL),
  ]
  parsed = parse(html_page.page(EVIL, EVIL, body, EVIL))
  assert "script" not in {tag for tag, _ in parsed.tags}
  assert parsed.texts.count(EVIL) == 12
  assert [a["alt"] for tag, a in parsed.tags if tag == "img"] == [EVIL]


def test_a_table():
  rows = [tables.Row((tables.Cell("a"), tables.Cell("1", is_number=True)))]
  parsed = parse(html_page.table(("x", "y"), rows))
  cells = [(tag, a.get("class")) for tag, a in parsed.tags if tag[0] == "t"]
  assert cells[2:] == [
    ("tr", None), ("th", None), ("th", "number"),
    ("tbody", None), ("tr", None), ("td", None), ("td", "number"),
  ]  # fmt: skip


def test_an_image_is_shown_at_its_size():
  png = b"\x89PNG\r\n\x1a\n" + bytes(8) + (900).to_bytes(4, "big") + bytes(4)
  parsed = parse(html_page.image(png, "a", scale=2))
  attributes = dict(parsed.tags)["img"]
  assert attributes["width"] == "450"
  assert attributes["src"].startswith("data:image/png;base64,iVBORw0K")


def test_bullets():
  found = html_page.bullets(["a < b", "c"])
  assert found == "<ul><li>a &lt; b</li><li>c</li></ul>"
