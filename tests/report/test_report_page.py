"""The page is self-contained and escapes every name."""

import base64
from html.parser import HTMLParser

from bnn_jax.report.page import Heading, Image, Listing, Paragraph, Table, render

NASTY = "<script>alert('&')</script> \"quoted\" $x$"


class Reader(HTMLParser):
    """Every tag with its attributes, every text, and whether tags close in order."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def assert_self_contained(html: str) -> Reader:
    """No script and nothing to load: pictures are inside, and a policy forbids all else."""
    reader = Reader(html)
    assert reader.open == []
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "a", "base", "form"}
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag
        if tag == "img":
            assert attributes["alt"]
            prefix, data = (attributes["src"] or "").split(",", 1)
            assert prefix == "data:image/svg+xml;base64"
            assert b"<svg" in base64.b64decode(data, validate=True)
    (policy,) = (a for tag, a in reader.tags if a.get("http-equiv"))
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert (policy["content"] or "").startswith("default-src 'none';")
    assert "url(" not in html
    assert "@import" not in html
    return reader


def test_every_text_is_escaped() -> None:
    parts = [
        Heading(NASTY),
        Paragraph(NASTY),
        Table(NASTY, [NASTY, NASTY], [[NASTY, NASTY]]),
        Image(b"<svg/>", NASTY, NASTY),
        Listing(NASTY, NASTY),
    ]
    reader = assert_self_contained(render(NASTY, parts))
    assert sum(text == NASTY for text in reader.texts) == 12
    (image,) = (attributes for tag, attributes in reader.tags if tag == "img")
    assert image["alt"] == NASTY


def test_table_has_headers_and_all_cells() -> None:
    table = Table("the caption", ["", "a", "b"], [["first", "1", "2"], ["second", "3", "4"]])
    reader = assert_self_contained(render("t", [table]))
    scopes = [a.get("scope") for tag, a in reader.tags if tag == "th"]
    assert scopes == ["col"] * 3 + ["row"] * 2
    cells = [text for text in reader.texts if text.strip() and text not in ("t", "the caption")]
    assert cells == ["a", "b", "first", "1", "2", "second", "3", "4"]


def test_the_page_has_rules_for_printing() -> None:
    html = render("t", [])
    for rule in ("@page", "@media print", "break-inside: avoid"):
        assert rule in html
