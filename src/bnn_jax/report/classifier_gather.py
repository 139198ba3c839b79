"""Computes the contents of the report of a classifier.

Predictions are made by the posterior predictive, by one network with the weights at the posterior
mean and, if there is one, by the deterministic baseline.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.experiment.commands import Run
from bnn_jax.experiment.folder import RunFolder
from bnn_jax.likelihoods import Categorical
from bnn_jax.predictive.posterior_predictive import Classification
from bnn_jax.report import other_images
from bnn_jax.report.columns import columns_of
from bnn_jax.report.dependence import ClassDependence, dependence, important
from bnn_jax.report.findings import ClassifierFindings, Group, Rotation
from bnn_jax.report.saved import epochs_of, weights_of
from bnn_jax.report.turned import turned

ANGLES = np.arange(0.0, 181.0, 5.0)
ROTATION_SAMPLES = 200
ROTATED_CLASS = 1


def gather_classifier(
    path: Path, run: Run, ood: Sequence[other_images.Source] = ()
) -> ClassifierFindings:
    """Returns predictions for the held-out examples, the other data sets and a rotated image.

    Args:
        path: the run folder, for the metrics of its training.
        run: the run that `experiment.load` read from it.
        ood: other data sets. All are loaded before anything is predicted.

    Raises:
        DataError, RunError: a data set cannot be loaded, or not in the shape of the run's images.
    """
    config = run.config
    images, labels = (np.asarray(a) for a in run.examples.held_out)
    sets = [
        other_images.load(
            source,
            run.images.data_dir,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            most=len(images),
        )
        for source in ood
    ]
    class_names = run.class_names
    posterior, weights = run.fit.posterior, run.weights
    predictive = run.held_out_predictive
    assert isinstance(predictive, Classification)
    folder = RunFolder(path)
    baseline = folder.restore_baseline(gaussian.mean(weights))
    temperature = config.evaluation.ood_temperature if sets else 1.0
    group = partial(_group, run, posterior, baseline, temperature)
    held_out = group(
        name=config.data.title,
        images=images,
        labels=labels,
        label_names=[class_names[label] for label in labels],
        predictive=predictive,
    )
    others = [
        group(
            name=found.name,
            images=found.images,
            labels=None,
            label_names=[found.label_names[label] for label in found.labels],
            predictive=_predict(run, posterior, found.images, None, run.num_samples_of(posterior)),
            changes=found.changes,
        )
        for found in sets
    ]
    return ClassifierFindings(
        run=folder.path.name,
        data=config.data.title,
        settings=config.model_dump(mode="json"),
        evaluated_on=run.examples.held_out_name,
        num_samples=held_out.predictive.num_samples,
        held_out=held_out,
        others=others,
        class_names=class_names,
        rotation=_rotation(run, posterior, held_out),
        ood_temperature=temperature,
        dependences=_dependences(run, labels),
        weights=weights_of(weights),
        epochs=epochs_of(folder),
        summary=folder.read_summary(),
    )


def _predict(
    run: Run,
    posterior: PyTree,
    images: np.ndarray,
    labels: np.ndarray | None,
    num_samples: int | None,
    likelihood: Categorical | None = None,
) -> Classification:
    """Returns the prediction by num_samples weight samples; None for deterministic weights."""
    antithetic = None
    if num_samples is not None:
        antithetic = run.config.evaluation.antithetic and num_samples % 2 == 0
    predicted = run.predict(
        posterior,
        images,
        labels,
        num_samples=num_samples,
        antithetic=antithetic,
        likelihood=likelihood,
    )
    assert isinstance(predicted, Classification)
    return predicted


def _group(
    run: Run,
    posterior: PyTree,
    baseline: PyTree | None,
    temperature: float,
    *,
    name: str,
    images: np.ndarray,
    labels: np.ndarray | None,
    label_names: Sequence[str],
    predictive: Classification,
    changes: str = "",
) -> Group:
    """Returns the predictions of the network, its mean and its baseline, plain and tempered."""

    def tempered(weights: PyTree | None, num_samples: int | None) -> Classification | None:
        if weights is None or temperature == 1.0:
            return None
        likelihood = Categorical(temperature=temperature)
        return _predict(run, weights, images, None, num_samples, likelihood=likelihood)

    return Group(
        name=name,
        images=images,
        labels=labels,
        label_names=label_names,
        predictive=predictive,
        at_mean=_predict(run, gaussian.mean(run.weights), images, labels, None),
        baseline=None if baseline is None else _predict(run, baseline, images, labels, None),
        tempered=tempered(posterior, run.num_samples_of(posterior)),
        baseline_tempered=tempered(baseline, None),
        changes=changes,
    )


def _rotation(run: Run, posterior: PyTree, held_out: Group) -> Rotation | None:
    """Returns rotations of the first image of the class that is classified correctly."""
    assert held_out.labels is not None
    if not held_out.has_images:
        return None
    predicted = held_out.predictive.probabilities.argmax(axis=-1)
    chosen = np.flatnonzero((held_out.labels == ROTATED_CLASS) & (predicted == ROTATED_CLASS))
    if not len(chosen):
        return None
    images = turned(held_out.images[chosen[0]], ANGLES)
    return Rotation(
        angles=ANGLES,
        images=images,
        predictive=_predict(run, posterior, images, None, ROTATION_SAMPLES),
        label_name=held_out.label_names[chosen[0]],
    )


def _dependences(run: Run, labels: np.ndarray) -> list[ClassDependence]:
    """Returns the partial dependence on the most important inputs of a table; [] for others."""
    columns = columns_of(run)
    if not columns:
        return []

    def predict(inputs: np.ndarray) -> Classification:
        predicted = run.predict(run.fit.posterior, inputs)
        assert isinstance(predicted, Classification)
        return predicted

    def error(inputs: np.ndarray, chosen: np.ndarray) -> float:
        of_label = predict(inputs).probabilities[np.arange(len(chosen)), labels[chosen]]
        return -float(np.mean(np.log(np.maximum(of_label, 1e-12))))

    train = np.asarray(run.examples.train[0])
    inputs = np.asarray(run.examples.held_out[0])
    found = [
        dependence(column, increase, predict, train)
        for column, increase in important(columns, error, inputs)
    ]
    return [each for each in found if isinstance(each, ClassDependence)]
