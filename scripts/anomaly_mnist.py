"""Anomaly detection on MNIST: a VAE is trained on nine digits and must detect the tenth.

    .venv/bin/python scripts/anomaly_mnist.py --output runs/anomaly_mnist.json

For each digit, the script trains on the training images of the other nine, scores all 10,000 test
images, and reports the area under the ROC curve (AUROC) for the detection of the held-out digit.
docs/vae.md has the results, the selection of the score and the sizes (`--validation`), and
published figures.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from sklearn.metrics import roc_auc_score

from bnn_jax import data
from bnn_jax.toolbox.anomaly_detection import VAEAnomalyDetection
from bnn_jax.toolbox.outlier_scores import SCORES

SCORE = "relative_distance"
WIDTH, HIDDEN_SIZE, LATENT_SIZE = 256, 64, 5
BATCH_SIZE, LEARNING_RATE = 128, 2e-3
NUM_SAMPLES = 16  # samples for the scores that require them
VALIDATION = 10_000  # the last training images, for the selection of settings

# VAEs with the same model, x ~ N(decoder(z), 1/2), scored by the ELBO of 128 samples: L.
# Tonnaer, "Linearly symmetry-based disentangled representations and their out-of-distribution
# behaviour", thesis, TU Eindhoven 2023, table 3.3. Convolutional, 50 epochs; digits 0 to 9.
PUBLISHED = {
    "latent 2": [0.96, 0.73, 0.97, 0.94, 0.73, 0.92, 0.95, 0.77, 0.92, 0.66],
    "latent 32": [0.81, 0.09, 0.92, 0.87, 0.78, 0.86, 0.87, 0.51, 0.89, 0.58],
}


class Encoder(nnx.Module):
    """Two dense layers that map images to (n, HIDDEN_SIZE)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(784, WIDTH, rngs=rngs)
        self.fc2 = nnx.Linear(WIDTH, HIDDEN_SIZE, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(self.fc2(nnx.relu(self.fc1(x.reshape(len(x), -1)))))


class Decoder(nnx.Module):
    """Two dense layers that map codes to images with pixels in (0, 1)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(HIDDEN_SIZE, WIDTH, rngs=rngs)
        self.fc2 = nnx.Linear(WIDTH, 784, rngs=rngs)

    def __call__(self, h: jax.Array) -> jax.Array:
        pixels = nnx.sigmoid(self.fc2(nnx.relu(self.fc1(nnx.relu(h)))))
        return pixels.reshape(-1, 28, 28, 1)


def splits(dataset: data.ImageDataset, validation: bool) -> tuple[Any, Any]:
    """Returns (images, labels) for training and for testing, or for training and validation."""
    images = np.float32(dataset.train.images) / 255.0
    labels = np.asarray(dataset.train.labels)
    if validation:
        cut = len(images) - VALIDATION
        return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])
    test = dataset.test
    return (images, labels), (np.float32(test.images) / 255.0, np.asarray(test.labels))


def evaluate_digit(
    digit: int, train: Any, test: Any, *, epochs: int, latent_size: int, seed: int
) -> dict[str, Any]:
    """Trains without this digit, and returns the AUROC of each score on the test images."""
    started = time.monotonic()
    key = jax.random.fold_in(jax.random.key(seed), digit)
    init_key, train_key, score_key = jax.random.split(key, 3)
    normal = train[0][train[1] != digit]
    rngs = nnx.Rngs(init_key)
    steps = epochs * (len(normal) // BATCH_SIZE)
    detector = VAEAnomalyDetection(
        Encoder(rngs),
        Decoder(rngs),
        HIDDEN_SIZE,
        latent_size,
        optimizer=optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps)),
        rngs=rngs,
    )
    detector.train(train_key, normal, epochs, batch_size=BATCH_SIZE)
    seconds = time.monotonic() - started
    auroc = {}
    for detector.score in SCORES:
        for draws in [None, NUM_SAMPLES] if detector.score != "negative_bound" else [NUM_SAMPLES]:
            options = {"key": score_key, "num_samples": draws} if draws else {}
            scores = detector.predict_outlier_score(test[0], **options)
            name = f"{detector.score}, {draws} draws" if draws else detector.score
            auroc[name] = float(roc_auc_score(test[1] == digit, scores))
    return {
        "digit": digit,
        "auroc": auroc,
        "train_loss": detector.get_train_loss(),
        "train_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the metrics, as JSON")
    parser.add_argument("--manual-dir", type=Path, help="a folder with MNIST's original files")
    parser.add_argument("--data-dir", type=Path, help="where prepared data is kept")
    parser.add_argument("--digits", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--latent-size", type=int, default=LATENT_SIZE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--validation", action="store_true", help="hold out training images instead of the test's"
    )
    arguments = parser.parse_args()
    if not set(arguments.digits) <= set(range(10)):
        parser.error(f"--digits are from 0 to 9, got {arguments.digits}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    dataset = data.load("mnist", data_dir=arguments.data_dir, manual_dir=arguments.manual_dir)
    train, test = splits(dataset, arguments.validation)
    settings = {
        "epochs": arguments.epochs,
        "latent_size": arguments.latent_size,
        "seed": arguments.seed,
    }
    digits: list[dict[str, Any]] = []
    for digit in arguments.digits:
        digits.append(evaluate_digit(digit, train, test, **settings))
        latest = digits[-1]
        print(
            f"digit {digit}: AUROC {latest['auroc'][SCORE]:.3f}, published "
            + ", ".join(f"{values[digit]:.2f} ({name})" for name, values in PUBLISHED.items())
            + f"; {latest['train_seconds']:.0f} s",
            flush=True,
        )
        mean = {
            name: float(np.mean([d["auroc"][name] for d in digits])) for name in latest["auroc"]
        }
        result = {
            "settings": {**settings, "validation": arguments.validation, "score": SCORE},
            "mean_auroc": mean,
            "published": PUBLISHED,
            "digits": digits,
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for name, value in mean.items():
        print(f"mean AUROC, {name}: {value:.4f}")


if __name__ == "__main__":
    main()
