"""Rows of images, each with two lines below it: the predicted class and the true class."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from bnn_jax.report import style
from bnn_jax.report.figures.images import show

PER_ROW = 8
# Inches. Positions are computed without a layout engine, so rows look the same in all figures.
_CELL = style.PAGE_WIDTH / PER_ROW
_IMAGE = 0.74 * _CELL
_TITLE, _CAPTION, _GAP = 0.26, 0.30, 0.12


@dataclasses.dataclass(frozen=True)
class Row:
    """Images under a title; the first 8 are drawn.

    Attributes:
        title: one line.
        images: uint8, 1 or 3 channels.
        predicted: the predicted class of each image.
        confidence: its probability.
        truth: the true class of each image.
        wrong: whether to mark an image by a thick frame.
    """

    title: str
    images: UInt8[np.ndarray, "n h w c"]
    predicted: Sequence[str]
    confidence: Float[np.ndarray, " n"]
    truth: Sequence[str]
    wrong: Sequence[bool]


@style.styled
def gallery(rows: Sequence[Row]) -> Figure:
    """Draws the rows below each other."""
    row_height = _TITLE + _IMAGE + _CAPTION + _GAP
    height = row_height * len(rows)
    figure = Figure(figsize=(style.PAGE_WIDTH, height))
    for r, row in enumerate(rows):
        top = height - r * row_height
        figure.text(
            0.5 * (_CELL - _IMAGE) / style.PAGE_WIDTH,
            (top - 0.5 * _TITLE) / height,
            style.fitted(row.title, 0.97 * style.PAGE_WIDTH, 9.0),
            fontsize=9.0,
            verticalalignment="center",
        )
        for i in range(min(len(row.images), PER_ROW)):
            left = (i + 0.5) * _CELL - 0.5 * _IMAGE
            place = (left / style.PAGE_WIDTH, (top - _TITLE - _IMAGE) / height)
            size = (_IMAGE / style.PAGE_WIDTH, _IMAGE / height)
            _cell(figure, (*place, *size), row, i)
    return figure


def _cell(figure: Figure, place: tuple[float, float, float, float], row: Row, i: int) -> None:
    axes = figure.add_axes(place)
    show(axes, row.images[i])
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=2.2 if row.wrong[i] else 0.5)
        spine.set_edgecolor(style.VERMILLION if row.wrong[i] else style.GRAY)
    percent = f": {100 * row.confidence[i]:.0f} %"
    room = 0.97 * _CELL
    predicted = style.fitted(row.predicted[i], room - style.inches(percent, style.SMALL)) + percent
    truth = style.fitted(f"true: {row.truth[i]}", room)
    for text, below in ((predicted, 0.13), (truth, 0.25)):
        axes.text(
            0.5,
            -below / _IMAGE,
            text,
            transform=axes.transAxes,
            fontsize=style.SMALL,
            horizontalalignment="center",
        )
