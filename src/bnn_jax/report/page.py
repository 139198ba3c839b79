"""A self-contained, printable HTML page: images inline, no scripts, no external resources.

A page is a sequence of parts. All text is escaped by `html.escape`.
"""

import base64
import dataclasses
from collections.abc import Iterable, Sequence
from html import escape


@dataclasses.dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A caption, the column names, and rows of cells; the first cell of a row is its name."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Image:
    """An SVG image, its alternative text (`shows`), and its caption."""

    svg: bytes
    shows: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """Preformatted text in a fixed-width font, with a title that folds it."""

    title: str
    text: str


Part = Heading | Paragraph | Table | Image | Listing

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 "DejaVu Sans", Verdana, sans-serif; color: #111; background: #fff;
       max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #bbb; }
figure { margin: 1rem 0 1.6rem; }
img { width: 100%; height: auto; }
figcaption, caption { font-size: .85rem; color: #333; text-align: left; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; }
caption { caption-side: bottom; padding-top: .4rem; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd;
         font-variant-numeric: tabular-nums; vertical-align: bottom; }
th:first-child { text-align: left; overflow-wrap: anywhere; }
tbody th { font-weight: normal; }
pre { font: .75rem/1.4 "DejaVu Sans Mono", monospace; white-space: pre-wrap;
      overflow-wrap: anywhere; background: #f6f6f6; padding: .8rem; }
@page { size: A4; margin: 16mm; }
@media print {
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; }
  h2 { break-after: avoid; }
  figure, table, tr { break-inside: avoid; }
  .wide { overflow: visible; }
}
"""


def render(title: str, parts: Iterable[Part]) -> str:
    """Returns the HTML document."""
    body = "\n".join(_part(part) for part in parts)
    # The policy prevents the page from loading anything, even if a part refers to it.
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def _part(part: Part) -> str:
    match part:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Table():
            return _table(part)
        case Image(svg, shows, caption):
            data = base64.b64encode(svg).decode("ascii")
            return (
                f'<figure><img alt="{escape(shows)}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
        case Listing(title, text):
            return (
                f"<details open><summary>{escape(title)}</summary>"
                f"<pre>{escape(text)}</pre></details>"
            )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="wide"><table><caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )
