"""What the report of every run ends with: training, the posterior, the settings."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bnn_jax.config.yaml_text import write as as_yaml
from bnn_jax.report import figures
from bnn_jax.report.findings import Findings
from bnn_jax.report.page import Heading, Listing, Part
from bnn_jax.report.tables import layer_table


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the report: its file's name, what it shows, and how to read it."""

    name: str
    figure: Figure
    shows: str
    caption: str


def shared_contents(findings: Findings, numbers: Mapping[str, Any]) -> Iterator[Part | Picture]:
    """The last sections, without those that there is nothing to tell in."""
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
    return Picture(
        "training",
        figures.training(findings.epochs, held_out=findings.evaluated_on),
        "Loss, negative log likelihood, error and KL by layer over the epochs",
        "Training numbers are means over the steps of an epoch, with the weights sampled. The loss "
        "is the data part plus the KL part, each with its factor, which a KL schedule changes. "
        "Scales are logarithmic but for the loss.",
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
        "Posterior standard deviations of the weights, layer by layer",
        "Bar: median; box: 25 to 75 %; line: 5 to 95 % of the weights; in brackets their number. A "
        "weight as wide as the prior has learnt nothing from the data.",
    )
    yield Picture(
        "signal_to_noise",
        figures.signal_to_noise(np.concatenate([np.abs(w.mean) / w.std for w in weights.values()])),
        "Histogram of the weights' signal-to-noise ratios, and its running sum",
        "Weights far to the left could be zero for all that the posterior says, and could be "
        "pruned (Blundell et al. 2015, arXiv:1505.05424, section 5.1).",
    )
