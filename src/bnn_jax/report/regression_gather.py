"""Computes the contents of the report of a regression."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, PyTree

from bnn_jax import gaussian
from bnn_jax.experiment.folder import Record, RunFolder
from bnn_jax.predictive.posterior_predictive import Regression
from bnn_jax.report.dependence import Column, Dependence, dependence, important
from bnn_jax.report.findings import RegressionFindings
from bnn_jax.report.saved import epochs_of, weights_of
from bnn_jax.toolbox.intervals import LEVELS

LINE_POINTS = 400
MARGIN = 0.3  # of the range of the inputs, added on each side to show the extrapolation

Inputs = Float[np.ndarray, "examples inputs"]
Targets = Float[np.ndarray, " examples"]
Train = tuple[Float[np.ndarray, "train inputs"], Float[np.ndarray, " train"]]
# (posterior, inputs, targets or None, levels) -> the predictive in the unit of the targets
Predictor = Callable[[PyTree, Inputs, Targets | None, tuple[float, ...]], Regression]


def gather_regression(
    path: Path,
    predictor: Predictor,
    posterior: PyTree,
    *,
    train: Train,
    held_out: tuple[Inputs, Targets],
    data: str,
    evaluated_on: str,
    settings: Record,
    places: Float[np.ndarray, " points"] | None = None,
    true_mean: Callable[[np.ndarray], np.ndarray] | None = None,
    columns: Sequence[Column] = (),
    input_name: str = "input",
    target_name: str = "target",
) -> RegressionFindings:
    """Returns predictions for the held-out examples, and as a function of the inputs.

    Args:
        path: the run folder, for the metrics of its training.
        predictor: predicts with a posterior, or with the weights at their mean.
        posterior: of the run.
        train, held_out: inputs and targets in their original units.
        data: name of the data set.
        evaluated_on: "test" or "validation".
        settings: the resolved config, as plain values.
        places: inputs to draw the function of one input at; None for the range of the data with a
            margin on each side.
        true_mean: inputs (points,) -> mean of the targets there, if it is known.
        columns: the inputs of a table, to draw the partial dependence on.
        input_name, target_name: name and unit.
    """
    inputs, targets = held_out
    folder = RunFolder(path)
    predictive = _one_number(predictor(posterior, inputs, targets, LEVELS))
    line = None
    if inputs.shape[1] == 1:
        if places is None:
            places = _line(np.concatenate([train[0], inputs])[:, 0])
        line = places, _one_number(predictor(posterior, places[:, None], None, ()))

    def predict(x: Inputs) -> Regression:
        return _one_number(predictor(posterior, x, None, ()))

    def error(x: Inputs, chosen: np.ndarray) -> float:
        return float(np.sqrt(np.mean((predict(x).mean - targets[chosen]) ** 2)))

    found = [
        dependence(column, increase, predict, train[0])
        for column, increase in important(columns, error, inputs)
    ]
    return RegressionFindings(
        run=folder.path.name,
        data=data,
        evaluated_on=evaluated_on,
        num_samples=predictive.num_samples,
        settings=settings,
        weights=weights_of(posterior),
        epochs=epochs_of(folder),
        summary=folder.read_summary(),
        targets=targets,
        predictive=predictive,
        at_mean=_one_number(predictor(gaussian.mean(posterior), inputs, targets, LEVELS)),
        train_targets=train[1],
        train_inputs=train[0][:, 0] if line else None,
        line=line,
        true_mean=true_mean(line[0]) if line and true_mean else None,
        dependences=[each for each in found if isinstance(each, Dependence)],
        input_name=input_name,
        target_name=target_name,
    )


def _line(seen: np.ndarray) -> np.ndarray:
    low, high = float(seen.min()), float(seen.max())
    margin = MARGIN * ((high - low) or 1.0)
    return np.linspace(low - margin, high + margin, LINE_POINTS, dtype=np.float32)


def _one_number(predicted: Regression) -> Regression:
    """Returns the prediction with arrays of shape (examples,), without axes of size 1.

    Raises:
        ValueError: the network predicts several numbers.
    """
    count = len(predicted.mean)
    if predicted.mean.size != count:
        raise ValueError(
            f"A regression report needs one number per example, but the network predicts "
            f"{predicted.mean.size // count}: report each of them separately."
        )
    return Regression(
        mean=predicted.mean.reshape(count),
        aleatoric_variance=predicted.aleatoric_variance.reshape(count),
        epistemic_variance=predicted.epistemic_variance.reshape(count),
        quantiles={level: q.reshape(count) for level, q in predicted.quantiles.items()},
        log_prob=predicted.log_prob,
        samples=None,
        num_samples=predicted.num_samples,
    )
