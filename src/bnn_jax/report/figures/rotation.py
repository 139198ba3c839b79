"""The predictions for a rotated image as a function of the angle.

Rotated digits are unlike the training data, so the weight samples disagree about them and the
epistemic part increases, which a single deterministic network cannot show.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnn_jax.report import style
from bnn_jax.report.figures.images import show

MOST_CLASSES = 5
SHOWN = 10


@style.styled
def rotation(
    angles: Float[np.ndarray, " angles"],
    images: UInt8[np.ndarray, "angles h w c"],
    probabilities: Float[np.ndarray, "angles classes"],
    expected_entropy: Float[np.ndarray, " angles"],
    mutual_information: Float[np.ndarray, " angles"],
    *,
    class_names: Sequence[str],
    title: str,
    num_samples: int,
) -> Figure:
    """Draws the images, the class probabilities and the two parts of the entropy by angle.

    Args:
        angles: degrees, increasing in equal steps.
        images: the image at each angle.
        probabilities: of the predictive, at each angle.
        expected_entropy: the aleatoric part, nats.
        mutual_information: the epistemic part, nats.
        class_names: one per class.
        title: above the images.
        num_samples: number of weight samples of the predictive.
    """
    figure = Figure(figsize=(style.PAGE_WIDTH, 5.6), layout="constrained")
    strip, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[0.75, 2.3, 2.0])
    strip.set_title(style.fitted(title, 0.95 * style.PAGE_WIDTH, 9.0))

    largest = probabilities.max(axis=0)
    likely = np.argsort(-largest, kind="stable")[:MOST_CLASSES]
    likely = likely[largest[likely] > min(0.2, 0.99 * largest.max())]
    for i, c in enumerate(sorted(likely, key=lambda c: probabilities[:, c].argmax())):
        line = style.line(i)
        middle.plot(
            angles,
            probabilities[:, c],
            color=line.color,
            linestyle=line.linestyle,
            marker=line.marker,
            markersize=3.5,
            markevery=max(1, len(angles) // 18),
            label=style.fitted(class_names[c], 1.0, 8.0),
        )
    middle.set(ylim=(-0.03, 1.03), ylabel="probability")
    middle.set_title(f"Class probabilities, the mean over {num_samples} weight samples")
    middle.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    total = expected_entropy + mutual_information
    bottom.fill_between(
        angles, 0.0, expected_entropy, color="#C8C8C8", linewidth=0.0, label="aleatoric"
    )
    bottom.fill_between(
        angles,
        expected_entropy,
        total,
        facecolor="#F6D58A",
        edgecolor="#A06E00",
        hatch="///",
        linewidth=0.0,
        label="epistemic",
    )
    bottom.plot(angles, total, color="black", linewidth=1.2, label="total")
    bottom.set(ylabel="entropy, nats", xlabel="rotation, degrees")
    bottom.set_ylim(0.0, 1.08 * max(float(total.max()), 0.1))
    bottom.set_title("Predictive entropy = expected entropy + mutual information")
    bottom.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _strip(figure, strip, angles, images)
    return figure


def _strip(figure: Figure, axes: Axes, angles: np.ndarray, images: np.ndarray) -> None:
    """Draws some of the images, each above its angle on the axes below."""
    step = max(1, -(-len(angles) // SHOWN))
    spacing = step * float(angles[-1] - angles[0]) / max(len(angles) - 1, 1) or 1.0
    low, high = float(angles[0]) - 0.5 * spacing, float(angles[-1]) + 0.5 * spacing
    axes.set(xlim=(low, high), ylim=(0.0, 1.0), xticks=angles[::step])
    axes.tick_params(bottom=False, labelbottom=False, left=False, labelleft=False)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    figure.draw_without_rendering()  # computes the size of the axes
    box = axes.get_window_extent()
    side = min(box.height, 0.96 * spacing / (high - low) * box.width)
    x, y = 0.5 * side / box.width * (high - low), 0.5 * side / box.height
    for angle, image in zip(angles[::step], images[::step], strict=True):
        show(axes, image, extent=(angle - x, angle + x, 0.5 - y, 0.5 + y), aspect="auto")
    axes.set(xlim=(low, high), ylim=(0.0, 1.0))
