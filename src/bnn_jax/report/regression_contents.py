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
    yield _residuals(findings, numbers)
    yield _intervals(findings)
    if findings.dependences:
        yield Heading("The inputs")
        yield _dependence(findings)
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


def _residuals(findings: RegressionFindings, numbers: Record) -> Picture:
    predicted = findings.predictive
    return Picture(
        "residuals",
        figures.residuals(
            findings.targets - predicted.mean,
            predicted.std,
            pit=np.asarray(numbers["pit_histogram"]),
            y_label=findings.target_name,
        ),
        "Residuals against the predicted standard deviation, and the PIT histogram",
        "Left: about 95 % of the examples should lie between the dashed lines. If the predicted "
        "standard deviation is right, the orange marks, of groups of examples in its order, lie on "
        "them. Right: the share of the targets in equally probable intervals of their predictive, "
        "which is the same for all intervals if the predictive is calibrated. High bars at both "
        "ends: the predictive is too narrow; a high middle: too wide; a slope: biased.",
    )


def _intervals(findings: RegressionFindings) -> Picture:
    predicted = findings.predictive
    return Picture(
        "intervals",
        figures.predictive_intervals(
            findings.targets,
            predicted.mean,
            wide=predicted.interval(0.9),
            narrow=predicted.interval(0.5),
            y_label=findings.target_name,
        ),
        "Predictive intervals of held-out examples, and their targets",
        "Central intervals of the predictive. If there are many examples, equal steps through "
        "their order are shown. About one target of ten should lie outside of its 90 % interval.",
    )


def _dependence(findings: RegressionFindings) -> Picture:
    return Picture(
        "partial_dependence",
        figures.partial_dependence(findings.dependences, y_label=findings.target_name),
        "Partial dependence of the prediction on the most important inputs",
        "The prediction when one input takes each value and the other inputs are those of training "
        "examples, as a mean over these. The bands are the uncertainty of the prediction of one "
        "example (root mean variance), not of the mean. Inputs are in the order of their "
        "importance: the increase of the root mean squared error when the input is permuted among "
        "the held-out examples. Combinations of inputs that do not occur in the data can raise the "
        "epistemic part.",
    )
