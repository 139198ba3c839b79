"""The last sections of every report: training, the posterior, the settings."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from bnn_jax.config.yaml_text import write as as_yaml
from bnn_jax.experiment.folder import Record
from bnn_jax.report import figures
from bnn_jax.report.findings import Findings
from bnn_jax.report.page import Heading, Listing, Part
from bnn_jax.report.tables import layer_table


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the report: its file name, alternative text (`shows`), and caption."""

    name: str
    figure: Figure
    shows: str
    caption: str


def shared_contents(findings: Findings, numbers: Record) -> Iterator[Part | Picture]:
    """Yields the last sections, without empty ones."""
    if findings.epochs:
        yield Heading("Training")
        yield _training(findings)
    if findings.weights:
        yield Heading("The posterior")
        yield layer_table(numbers)
        yield from _posterior(findings)
    yield Heading("Settings")
    yield Listing("config.yaml", as_yaml(dict(findings.settings)))


def _training(findings: Findings) -> Picture:
    has_kl = all("kl" in line for line in findings.epochs)
    parts = (
        "The loss is the data part plus the KL part, each times its factor; a KL schedule changes "
        "the factor of the KL. "
    )
    return Picture(
        "training",
        figures.training(findings.epochs, held_out=findings.evaluated_on),
        "Loss, negative log likelihood, error" + " and KL by layer" * has_kl + " over the epochs",
        "Training values are means over the steps of an epoch, with the weights of each step. "
        + parts * has_kl
        + "All scales are logarithmic except for the loss.",
    )


def _posterior(findings: Findings) -> Iterator[Picture]:
    prior = findings.settings["prior"]
    weights = findings.weights
    yield Picture(
        "posterior_width",
        figures.posterior_width(
            {path: w.std for path, w in weights.items()},
            prior_std=prior["std"] if prior["name"] == "normal" else None,
        ),
        "Posterior standard deviations of the weights by layer",
        "Bar: median; box: 25 to 75 %; line: 5 to 95 % of the weights; in brackets: the number of "
        "weights. A weight with the standard deviation of the prior has learned little from the "
        "data.",
    )
    yield Picture(
        "signal_to_noise",
        figures.signal_to_noise(np.concatenate([np.abs(w.mean) / w.std for w in weights.values()])),
        "Histogram of the weights' signal-to-noise ratios, and its cumulative sum",
        "The posterior of weights with a low ratio is compatible with zero, so they can be pruned "
        "(Blundell et al. 2015, arXiv:1505.05424, section 5.1).",
    )
