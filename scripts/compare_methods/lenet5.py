"""Every inference method on LeNet-5: accuracy, NLL, ECE, OOD AUROC, seconds of fit and prediction.

    python scripts/compare_methods/lenet5.py --output runs/lenet5.jsonl
    python scripts/compare_methods/lenet5.py --output runs/lenet5.jsonl --table

LeNet-5 on MNIST and Fashion-MNIST with the prior N(0, 1) on all weights, at temperature 1. Images
of the other data set are out of distribution, scored by mutual information and by entropy; one
network has no mutual information (an AUROC of 0.5). `--validation` trains on 55,000 examples and
scores the other 5,000 in place of the test set; the step size of SGHMC and the augmentation of the
mixture were chosen that way.

A finished (set, method) is a line of the output file, and is not run again.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bnn_jax import BayesianModel, Fit, NormalPrior, data, fit, infer, likelihoods, to_bnn
from bnn_jax.infer import Method
from bnn_jax.models import LeNet5, banded_conv
from bnn_jax.toolbox import out_of_distribution

SETS = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}  # pixel mean and std
HELD_OUT = 5000
WARM_UP = {"mnist": 0.7, "fashion_mnist": 0.4}  # fraction of the steps
SHIFTS = {"mnist": (2, False), "fashion_mnist": None}  # of the mixture's training images


@dataclasses.dataclass(frozen=True)
class Setting:
    """A method as it is run on LeNet-5.

    Attributes:
        method: the method.
        epochs: passes over the training set.
        initial_std: of the posterior, by data set.
        samples: weight samples of predictions; None for all that a posterior has.
        augment: the largest shift of training images in pixels, and whether half are mirrored.
    """

    method: Method
    epochs: int
    initial_std: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"mnist": 0.0486, "fashion_mnist": 0.0067}
    )
    samples: int | None = None
    augment: tuple[int, bool] | None = None


def bayes_by_backprop(kl_warmup: float) -> Method:
    return infer.bayes_by_backprop(learning_rate=2e-3, kl_warmup=kl_warmup)


SETTINGS: dict[str, Callable[[str], Setting]] = {
    "map": lambda name: Setting(infer.map(), 10),
    "ensemble": lambda name: Setting(infer.ensemble(infer.map(), size=5), 10),
    "laplace": lambda name: Setting(infer.laplace(), 10),
    "mc_dropout": lambda name: Setting(infer.mc_dropout(rate=0.1), 20, samples=32),
    "swag": lambda name: Setting(infer.swag(), 20, samples=32),
    "multiswag": lambda name: Setting(infer.ensemble(infer.swag(), size=5), 20, samples=40),
    "ivon": lambda name: Setting(infer.ivon(learning_rate=0.1), 20, samples=32),
    "sgld": lambda name: Setting(infer.sgld(step_size=0.01), 20),
    "sghmc": lambda name: Setting(infer.sghmc(step_size=0.01), 20),
    "csghmc": lambda name: Setting(infer.sghmc(step_size=0.02, cycles=4, num_samples=32), 20),
    "bayes_by_backprop": lambda name: Setting(bayes_by_backprop(WARM_UP[name]), 40, samples=32),
    "mixture": lambda name: Setting(
        infer.ensemble(bayes_by_backprop(WARM_UP[name]), size=5),
        40,
        samples=40,
        augment=SHIFTS[name],
    ),
}


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set with pixels scaled by its own mean and std, and the other set's test images."""

    train: tuple[Float[np.ndarray, "n 32 32 1"], Int[np.ndarray, " n"]]
    test: tuple[Float[np.ndarray, "m 32 32 1"], Int[np.ndarray, " m"]]
    foreign: Float[np.ndarray, "k 32 32 1"]


def load(name: str, manual_dir: Path | None, validation: bool) -> Images:
    """Returns a data set, padded to 32x32; with `validation`, the last 5,000 as its test set."""
    mean, std = SETS[name]

    def of(set_name: str) -> data.ImageDataset:
        return data.load(set_name, manual_dir=manual_dir and manual_dir / set_name)

    def scaled(images: np.ndarray) -> np.ndarray:
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return ((padded / 255.0 - mean) / std).astype(np.float32)

    own = of(name)
    other = of(next(s for s in SETS if s != name))
    train, foreign = (scaled(own.train.images), own.train.labels), scaled(other.test.images)
    if validation:
        held_out = tuple(a[-HELD_OUT:] for a in train)
        return Images(tuple(a[:-HELD_OUT] for a in train), held_out, foreign[:HELD_OUT])
    return Images(train, (scaled(own.test.images), own.test.labels), foreign)


def model_of(setting: Setting, name: str, key: Array) -> BayesianModel:
    """Returns the Bayesian LeNet-5 of a method."""
    network = LeNet5(conv_general_dilated=banded_conv)
    variables = network.init(key, jnp.zeros((1, 32, 32, 1)))
    return to_bnn(
        network,
        variables,
        estimator={"fc*": "flipout", "*": "reparam"},
        prior=NormalPrior(0.0, 1.0),
        initial_std=setting.initial_std[name],
    )


def augmentation(images: Images, setting: Setting) -> Callable[[Array, Array], Array] | None:
    """Returns the augmentation of training batches; shifted images continue the background."""
    if setting.augment is None:
        return None
    padding, flip = setting.augment
    background = images.train[0].min()
    return lambda key, x: (
        background + data.pad_crop_flip(key, x - background, padding=padding, flip=flip)
    )


def run_one(name: str, set_name: str, images: Images, folder: Path) -> dict[str, object]:
    """Fits and evaluates one method on one data set; returns the row of the table."""
    setting = SETTINGS[name](set_name)
    key = jax.random.key(0)
    start = time.perf_counter()
    result = fit(
        key,
        model_of(setting, set_name, jax.random.fold_in(key, 1)),
        images.train,
        method=setting.method,
        likelihood=likelihoods.Categorical(),
        epochs=setting.epochs,
        augment=augmentation(images, setting),
        checkpoint=folder / f"{set_name}_{name}",
        checkpoint_every=5,
    )
    fit_seconds = time.perf_counter() - start
    start = time.perf_counter()
    scores = result.evaluate(*images.test, setting.samples)
    predict_seconds = time.perf_counter() - start
    return {
        "set": set_name,
        "method": name,
        **{k: scores[k] for k in ("accuracy", "nll", "ece")},
        **auroc_of_foreign(result, images, setting.samples),
        "fit_seconds": round(fit_seconds, 1),
        "predict_seconds": round(predict_seconds, 2),
        "diagnosis": [finding.problem for finding in result.diagnosis],
    }


def auroc_of_foreign(result: Fit, images: Images, samples: int | None) -> dict[str, float]:
    """Returns the AUROC of the other data set's images by mutual information and by entropy."""
    own, foreign = (result.predict(x, samples) for x in (images.test[0], images.foreign))
    is_out = np.repeat([False, True], [len(images.test[0]), len(images.foreign)])
    scores = {}
    for short, field in (("mi", "mutual_information"), ("entropy", "predictive_entropy")):
        both = np.concatenate([getattr(own, field), getattr(foreign, field)])
        scores[f"auroc_{short}"] = float(out_of_distribution.auroc(both, is_out))
    return scores


def table(rows: list[dict[str, Any]]) -> str:
    """Returns a Markdown table, a row for each set and method."""
    lines = [
        "| set | method | accuracy | NLL | ECE | AUROC, MI | by entropy | fit, s | predict, s |",
        "| --- " * 9 + "|",
    ]
    for row in rows:
        scores = [f"{row[k]:.4f}" for k in ("nll", "ece", "auroc_mi", "auroc_entropy")]
        seconds = f"{row['fit_seconds']:.0f} | {row['predict_seconds']:.1f}"
        accuracy = f"{100 * row['accuracy']:.2f} %"
        lines.append(
            f"| {row['set']} | {row['method']} | {accuracy} | {' | '.join(scores)} | {seconds} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Every inference method on LeNet-5.")
    parser.add_argument("--manual-dir", type=Path, help="a folder with mnist/ and fashion_mnist/")
    parser.add_argument("--output", type=Path, required=True, help="a file of JSON lines")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS))
    parser.add_argument("--validation", action="store_true", help="score held-out training images")
    parser.add_argument("--table", action="store_true", help="print the table of the output file")
    given = parser.parse_args()
    lines = given.output.read_text().splitlines() if given.output.exists() else []
    rows = [json.loads(line) for line in lines]
    if given.table:
        print(table(rows))
        return
    done = {(row["set"], row["method"]) for row in rows}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    for set_name in given.sets:
        images = load(set_name, given.manual_dir, given.validation)
        for name in given.methods:
            if (set_name, name) not in done:
                row = run_one(name, set_name, images, given.output.with_suffix(""))
                with given.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
