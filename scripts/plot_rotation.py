"""Draw what a trained network thinks of a digit as it is turned: docs/images/rotation.png.

    .venv/bin/python scripts/plot_rotation.py runs/lenet5_mnist docs/images/rotation.png

Needs matplotlib (`pip install 'bnn-jax[plot]'`) and a finished run of an image classifier.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.scipy.ndimage import map_coordinates

from bnn_jax import experiment, gaussian

ANGLES = np.arange(0, 181, 10)
SAMPLES = 200


def rotate(image: np.ndarray, degrees: float) -> jnp.ndarray:
    """A (height, width) image turned about its centre, bilinear, black outside."""
    height, width = image.shape
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    cy, cx, angle = (height - 1) / 2, (width - 1) / 2, np.deg2rad(degrees)
    ys = cy + (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    xs = cx + (y - cy) * np.sin(angle) + (x - cx) * np.cos(angle)
    return map_coordinates(jnp.asarray(image, jnp.float32), [ys, xs], order=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--digit", type=int, default=1)
    arguments = parser.parse_args()

    run = experiment.load(arguments.run)
    posterior = experiment.evaluated(run.state)
    images, labels = (np.asarray(a) for a in run.images.held_out)
    image = images[np.flatnonzero(labels == arguments.digit)[0], :, :, 0]
    turned = jnp.stack([rotate(image, degrees) for degrees in ANGLES])[..., None]

    keys = jax.random.split(jax.random.key(0), SAMPLES)
    probabilities = np.stack(
        [
            np.asarray(jax.nn.softmax(run.logits(gaussian.sample(key, posterior), turned)))
            for key in keys
        ]
    )
    mean = probabilities.mean(axis=0)
    entropy = -(mean * np.log(mean + 1e-12)).sum(axis=-1)
    expected = -(probabilities * np.log(probabilities + 1e-12)).sum(axis=-1).mean(axis=0)

    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(8, 6.2), height_ratios=[1, 2.6, 2], constrained_layout=True
    )
    shown = ANGLES[::2]
    strip = np.concatenate([np.asarray(turned[i, :, :, 0]) for i in range(0, len(ANGLES), 2)], 1)
    top.imshow(strip, cmap="gray_r", aspect="equal")
    top.set_xticks([(i + 0.5) * image.shape[1] for i in range(len(shown))])
    top.set_xticklabels([f"{a}°" for a in shown])
    top.set_yticks([])
    top.set_title(f"A test {arguments.digit} is turned; the network has never seen such digits")
    top.tick_params(length=0)
    for spine in top.spines.values():
        spine.set_visible(False)

    likely = [c for c in np.argsort(-mean.max(axis=0)) if mean[:, c].max() > 0.25][:5]
    styles = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
    palette = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"]
    for style, colour, c in zip(styles, palette, likely, strict=False):
        middle.plot(ANGLES, mean[:, c], color=colour, linestyle=style, label=f"class {c}")
    middle.set_ylabel("probability")
    middle.set_ylim(0, 1.02)
    middle.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    middle.set_title(f"Class probabilities, the mean of {SAMPLES} weight samples", fontsize=10)

    aleatoric, epistemic = "#999999", "#E69F00"
    bottom.fill_between(ANGLES, 0, expected, color=aleatoric, label="aleatoric", linewidth=0)
    bottom.fill_between(ANGLES, expected, entropy, color=epistemic, label="epistemic", linewidth=0)
    bottom.plot(ANGLES, entropy, color="black", linewidth=1, label="total")
    bottom.set_xlabel("rotation, degrees")
    bottom.set_ylabel("entropy, nats")
    bottom.set_ylim(0)
    bottom.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    bottom.set_title("Predictive entropy = expected entropy + mutual information", fontsize=10)
    for axes in (middle, bottom):
        axes.set_xlim(0, 180)
        axes.set_xticks(shown)
        axes.spines[["top", "right"]].set_visible(False)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=130)


if __name__ == "__main__":
    main()
