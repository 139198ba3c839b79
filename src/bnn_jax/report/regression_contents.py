"""The sections of the report of a regression."""

from collections.abc import Iterator

import numpy as np

from bnn_jax.experiment.folder import Record
from bnn_jax.report import figures
from bnn_jax.report.findings import RegressionFindings
from bnn_jax.report.page import Heading, Paragraph, Part
from bnn_jax.report.regression_scores import INTERVALS, covered
from bnn_jax.report.shared_contents import Picture, shared_contents
from bnn_jax.report.tables import regression_table


def regression_contents(findings: RegressionFindings, numbers: Record) -> Iterator[Part | Picture]:
    """Yields the parts of the page, with figures that are not yet written."""
    predictive = numbers["posterior_predictive"]
    yield Paragraph(
        f"Root mean squared error {predictive['rmse']:.4g} and negative log likelihood "
        f"{predictive['nll']:.4f} nats on the {numbers['num_held_out']:,} {findings.evaluated_on} "
        f"examples of {findings.data}, from the mean over {findings.num_samples} weight samples; "
        f"{100 * predictive['coverage_of_90_percent']:.1f} % of the targets lie in their 90 % "
        "interval. All numbers that come from weight samples vary slightly with the number of "
        "samples and the key; evaluation.num_samples sets the number."
    )
    yield Heading("Quality and calibration")
    yield regression_table(numbers)
    if findings.line is not None and findings.train_inputs is not None:
        yield _function(findings)
    yield _observed(findings)
    yield from shared_contents(findings, numbers)


def _function(findings: RegressionFindings) -> Picture:
    assert findings.line is not None
    assert findings.train_inputs is not None
    x, predicted = findings.line
    return Picture(
        "function",
        figures.function(
            x,
            predicted.mean,
            np.sqrt(predicted.aleatoric_variance),
            np.sqrt(predicted.epistemic_variance),
            train_x=findings.train_inputs,
            train_y=findings.train_targets,
            x_label=findings.input_name,
            true_mean=findings.true_mean,
            y_label=findings.target_name,
        ),
        "The predicted function with its two uncertainty bands",
        "The gray band is two standard deviations of the predictive, where targets are expected. "
        "The hatched band inside it is two standard deviations of the epistemic part, which should "
        "be wider where there is no data; the rest is the predicted noise of the data.",
    )


def _observed(findings: RegressionFindings) -> Picture:
    predicted = findings.predictive
    return Picture(
        "observed",
        figures.observed(
            findings.targets,
            predicted.mean,
            np.sqrt(predicted.aleatoric_variance),
            np.sqrt(predicted.epistemic_variance),
            nominal=np.asarray(INTERVALS),
            covered=covered(predicted, findings.targets),
            y_label=findings.target_name,
        ),
        "Observed against predicted values, and coverage of the predictive intervals",
        "Left: about 95 % of the gray bars should reach the dashed line. Right: the share of "
        "targets inside the central interval of each probability; below the diagonal the network "
        "is overconfident.",
    )
