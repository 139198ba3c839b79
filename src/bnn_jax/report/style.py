"""The style of the figures: one palette, one font size, one width that fits a printed page.

No figure depends on color alone: every series has its own dashes and marker, and every area its own
hatching, so they can be printed without color. Figures are `matplotlib.figure.Figure` objects;
nothing here uses pyplot or changes a global setting.

Palette: M. Okabe, K. Ito 2008, "Color Universal Design", which readers with any color vision can
distinguish. Its yellow is left out because it is too pale on white.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GRAY = "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"

PAGE_WIDTH = 7.0  # inches: the text width of A4 and letter paper
SMALL = 7.0  # points: captions of small images
PNG_DPI = 200

FONT = "DejaVu Sans"  # ships with matplotlib, so figures are the same on every machine
RC: Any = {
    "font.family": FONT,
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "text.hinting": "none",  # the same widths at every resolution, as `fitted` measures them
    "hatch.linewidth": 0.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the page needs no font
    "svg.hashsalt": "bnn_jax",  # the same figure gives the same file
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Returns a function that draws a figure in this style, independent of global settings."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(RC):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # creates the ticks and computes the layout
        return figure

    return wrapper


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes stem.png and stem.svg; the same figure gives the same bytes."""
    png, svg = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    with matplotlib.rc_context(RC):
        figure.savefig(png, dpi=PNG_DPI)
        figure.savefig(svg, metadata={"Date": None})
    return png, svg


LineStyle = str | tuple[int, tuple[int, ...]]


class Line(NamedTuple):
    """The style of a series; any one of its three values identifies the series."""

    color: str
    linestyle: LineStyle
    marker: str


_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
_DASHES: tuple[LineStyle, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("///", "\\\\\\", "...", "xxx", "+++")


def line(index: int) -> Line:
    """Returns the style of series number `index` of a figure, counted from 0."""
    return Line(
        _COLORS[index % len(_COLORS)],
        _DASHES[index % len(_DASHES)],
        _MARKERS[index % len(_MARKERS)],
    )


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())


def safe(name: object) -> str:
    """Returns a name as text to draw: no formula, no hidden label, no missing glyph."""
    text = " ".join(str(name).split())
    text = "".join(c if ord(c) in _glyphs() else "?" for c in text)
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")


def fitted(name: object, width: float, size: float = SMALL) -> str:
    """Returns `safe(name)`, cut to at most `width` inches at `size` points."""
    text = " ".join(str(name).split())
    cuts = itertools.chain([text], (text[:n].rstrip() + "…" for n in range(len(text) - 1, 0, -1)))
    return next((safe(cut) for cut in cuts if inches(safe(cut), size) <= width), "")


def inches(text: str, size: float) -> float:
    """Returns the width of a text at `size` points."""
    font = FontProperties(family=FONT, size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72.0
