"""The sections of the report of a classifier."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from bnn_jax.experiment.folder import Record
from bnn_jax.predictive.posterior_predictive import Classification
from bnn_jax.report import figures
from bnn_jax.report.classifier_scores import mistakes, uncertainties
from bnn_jax.report.findings import ClassifierFindings, Group
from bnn_jax.report.page import Heading, Paragraph, Part
from bnn_jax.report.shared_contents import Picture, shared_contents
from bnn_jax.report.tables import detection_table, quality_table
from bnn_jax.toolbox import calibration, selective

PER_ROW = figures.PER_ROW


def classifier_contents(findings: ClassifierFindings, numbers: Record) -> Iterator[Part | Picture]:
    """Yields the parts of the page, with figures that are not yet written."""
    yield _summary(findings, numbers)
    yield Heading("Quality and calibration")
    yield quality_table(numbers)
    yield _reliability(findings, numbers)
    yield _risk_coverage(findings, numbers)
    if findings.others:
        yield Heading("Uncertainty, in and out of distribution")
        yield detection_table(numbers)
    else:
        yield Heading("Uncertainty")
    yield _uncertainty(findings)
    if findings.held_out.has_images:
        yield Heading("The most and the least certain images")
        yield _own_images(findings)
    for other in findings.others:
        yield _other_images(findings, other)
    if findings.rotation is not None:
        yield Heading("A rotated image")
        yield _rotation(findings)
    if findings.dependences:
        yield Heading("The inputs")
        yield _dependence(findings)
    yield from shared_contents(findings, numbers)


def _summary(findings: ClassifierFindings, numbers: Record) -> Paragraph:
    predictive = numbers["posterior_predictive"]
    return Paragraph(
        f"Accuracy {100 * predictive['accuracy']:.2f} %, negative log likelihood "
        f"{predictive['nll']:.4f} nats and expected calibration error "
        f"{100 * predictive['ece']:.2f} % on the {numbers['num_held_out']:,} "
        f"{numbers['evaluated_on']} examples of {numbers['data']}, from the mean over "
        f"{findings.num_samples} weight samples. All numbers that come from weight samples vary "
        "slightly with the number of samples and the key. A small number of samples underestimates "
        "the mutual information; evaluation.num_samples sets the number."
    )


def _reliability(findings: ClassifierFindings, numbers: Record) -> Picture:
    group, bins = findings.held_out, numbers["ece_bins"]

    def bins_of(name: str, predicted: Classification, ece: float) -> figures.Calibration:
        found = calibration.reliability(
            jnp.asarray(predicted.probabilities), jnp.asarray(group.labels), bins=bins
        )
        return figures.Calibration(
            f"{name}: ECE {100 * ece:.2f} %",
            np.asarray(found.confidence),
            np.asarray(found.accuracy),
            np.asarray(found.counts).astype(np.int64),
        )

    ece = {name: numbers[name]["ece"] for name in ("posterior_predictive", "posterior_mean")}
    return Picture(
        "reliability",
        figures.reliability(
            [
                bins_of(
                    f"{findings.num_samples} samples", group.predictive, ece["posterior_predictive"]
                ),
                bins_of("posterior mean", group.at_mean, ece["posterior_mean"]),
            ]
        ),
        "Reliability diagram and histogram of confidences",
        "Left: the accuracy of predictions as a function of their confidence. On the diagonal the "
        "network is calibrated; below it the network is overconfident. Bars are 95 % intervals; "
        "hollow points are bins with fewer than 20 predictions. Right: the share of predictions "
        "with that confidence, on a logarithmic scale.",
    )


def _risk_coverage(findings: ClassifierFindings, numbers: Record) -> Picture:
    group = findings.held_out
    shown = {
        "predictive_entropy": "predictive entropy",
        "mutual_information": "mutual information",
        "posterior_mean_entropy": "posterior mean: entropy",
    }
    curves = {}
    for key, name in shown.items():
        source = "posterior_mean" if key.startswith("posterior_mean") else "posterior_predictive"
        curve = selective.risk_coverage(mistakes(group, key), uncertainties(group)[key])
        label = f"{name}: AURC {100 * numbers[source]['aurc'][key]:.3g} %"
        curves[label] = np.asarray(curve.coverage), np.asarray(curve.risk)
    wrong = np.sort(mistakes(group, "predictive_entropy"))
    best = selective.risk_coverage(wrong, np.arange(len(wrong), dtype=np.float32))
    return Picture(
        "risk_coverage",
        figures.risk_coverage(curves, best=(np.asarray(best.coverage), np.asarray(best.risk))),
        "Error rate against the share of examples that the network classifies",
        "The error rate when the network abstains on the least certain examples. Lower is better; "
        "AURC is the area under a curve. The horizontal axis starts at the first errors.",
    )


def _uncertainty(findings: ClassifierFindings) -> Picture:
    group = findings.held_out
    wrong = mistakes(group, "predictive_entropy")

    def by_group(score: str) -> dict[str, np.ndarray]:
        own = getattr(group.predictive, score)
        if not findings.others:
            return {f"{group.name}, correct": own[~wrong], f"{group.name}, wrong": own[wrong]}
        return {group.name: own} | {o.name: getattr(o.predictive, score) for o in findings.others}

    names = ("predictive_entropy", "mutual_information")
    compared = "the other data sets are" if findings.others else "misclassified examples are"
    return Picture(
        "uncertainty",
        figures.uncertainty({name.replace("_", " "): by_group(name) for name in names}),
        "Histograms of predictive entropy and mutual information",
        "The share of the examples in each bin of uncertainty, on a logarithmic scale, with the "
        f"number of examples in brackets. The uncertainty is useful if {compared} further right. "
        "Mutual information is the epistemic part of the predictive entropy: the disagreement of "
        f"the {findings.num_samples} weight samples.",
    )


def _row(
    findings: ClassifierFindings, group: Group, title: str, order: Int[np.ndarray, " n"]
) -> figures.Row:
    chosen = order[:PER_ROW]
    p = group.predictive.probabilities[chosen]
    predicted = p.argmax(axis=-1)
    wrong = (
        np.zeros(len(chosen), bool) if group.labels is None else predicted != group.labels[chosen]
    )
    return figures.Row(
        title,
        group.images[chosen],
        [findings.class_names[c] for c in predicted],
        p.max(axis=-1),
        [group.label_names[i] for i in chosen],
        [bool(w) for w in wrong],
    )


def _first(values: np.ndarray) -> Int[np.ndarray, " n"]:
    return np.argsort(values, kind="stable")


_FRAMES = "Below each image: the predicted class with its probability, and the true class."


def _own_images(findings: ClassifierFindings) -> Picture:
    group = findings.held_out
    predicted = group.predictive
    rows = {
        "Most certain: lowest predictive entropy": _first(predicted.predictive_entropy),
        "Ambiguous: highest expected entropy (aleatoric)": _first(-predicted.expected_entropy),
        "Unfamiliar: highest mutual information (epistemic)": _first(-predicted.mutual_information),
    }
    return Picture(
        "images",
        figures.gallery([_row(findings, group, *row) for row in rows.items()]),
        f"The most and the least certain images of {group.name}",
        f"{_FRAMES} Thick frames mark errors. For an ambiguous image, each weight sample gives "
        "several classes a high probability; for an unfamiliar image, the samples disagree.",
    )


def _other_images(findings: ClassifierFindings, other: Group) -> Picture:
    predicted = other.predictive
    rows: Sequence[tuple[str, np.ndarray]] = [
        (
            f"{other.name}: most certain, lowest predictive entropy",
            _first(predicted.predictive_entropy),
        ),
        (
            f"{other.name}: most unfamiliar, highest mutual information",
            _first(-predicted.mutual_information),
        ),
    ]
    return Picture(
        f"images_{other.name}",
        figures.gallery([_row(findings, other, *row) for row in rows]),
        f"The most and the least certain images of {other.name}",
        f"{_FRAMES} No class of the network is correct here, so it should be uncertain.",
    )


def _rotation(findings: ClassifierFindings) -> Picture:
    rotated = findings.rotation
    assert rotated is not None
    return Picture(
        "rotation",
        figures.rotation(
            rotated.angles,
            rotated.images,
            rotated.predictive.probabilities,
            rotated.predictive.expected_entropy,
            rotated.predictive.mutual_information,
            class_names=findings.class_names,
            title=f"An image of class {rotated.label_name}, rotated counterclockwise",
            num_samples=rotated.predictive.num_samples,
        ),
        f"Class probabilities and uncertainty of a rotated image of class {rotated.label_name}",
        "The weight samples should disagree if a rotated image belongs to no class, so the mutual "
        "information (hatched) should grow at such angles. The image is the first of its class "
        "that is classified correctly without rotation.",
    )


def _dependence(findings: ClassifierFindings) -> Picture:
    return Picture(
        "partial_dependence",
        figures.class_dependence(findings.dependences, class_names=findings.class_names),
        "Partial dependence of the prediction on the most important inputs",
        "The prediction when one input takes each value and the other inputs are those of training "
        "examples, as a mean over these. Above: class probabilities. Below: the entropy of one "
        "prediction, aleatoric and epistemic. Inputs are in the order of their importance: the "
        "increase of the negative log likelihood when the input is permuted among the held-out "
        "examples.",
    )
