"""Predictions of new examples as named columns, and their files.

| task | columns |
| --- | --- |
| regression, counts | mean, std, aleatoric_std, epistemic_std, q05, q95 |
| classes | class, probability, p_NAME for each, entropy, expected_entropy, mutual_information |

The columns of several targets are NAME.mean, NAME.std, ... Standard deviations and quantiles are in
the units of the targets, entropies in nats. Total uncertainty is std or entropy; its aleatoric part
is aleatoric_std or expected_entropy, its epistemic part epistemic_std or mutual_information.
"""

import csv
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.new_inputs import NewInputs
from bnn_jax.experiment.run import Run
from bnn_jax.fitting.evaluation import LEVELS
from bnn_jax.fitting.files import atomic_write
from bnn_jax.likelihoods import Regression as RegressionLikelihood
from bnn_jax.predictive.posterior_predictive import Classification, Regression

Column = Shaped[np.ndarray, " examples"]
Columns = Mapping[str, Column]


def predict(run: Run, inputs: NewInputs) -> Columns:
    """Returns the posterior predictive of new examples as columns, in their order.

    Raises:
        RunError: a prediction is not finite.
    """
    is_regression = isinstance(run.likelihood, RegressionLikelihood)
    levels = LEVELS if is_regression else ()
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        predicted = run.predict(run.fit.posterior, inputs.x, levels=levels)
    columns: dict[str, Column] = {}
    if inputs.files is not None:
        columns["file"] = np.array(list(inputs.files), str)
    if isinstance(predicted, Regression):
        columns |= _of_regression(predicted, target_names(run))
    else:
        columns |= _of_classes(predicted, class_names(run))
    _check_finite(columns)
    return columns


def target_names(run: Run) -> tuple[str, ...]:
    """Returns the name of each target of a regression."""
    if isinstance(run.examples, Images | Points):
        return ("y",)
    return run.examples.splits.train.target_names


def class_names(run: Run) -> tuple[str, ...]:
    """Returns the name of each class of a classifier."""
    if isinstance(run.examples, Images):
        return run.examples.label_names
    assert not isinstance(run.examples, Points)
    names = run.examples.splits.train.class_names
    assert names is not None
    return names


def check_output(
    file: Path, *, source: Path, overwrite: bool, suffixes: Sequence[str] | None = None
) -> Path:
    """Returns the path of a file that can be written.

    Args:
        file: the file.
        source: the input, which must be another file.
        overwrite: whether the file may exist.
        suffixes: the ends of its name that are possible; by default .csv and .npz.

    Raises:
        RunError: its name has another end, it exists, or its folder does not.
    """
    file = file.expanduser()
    known = FORMATS if suffixes is None else suffixes
    if file.suffix.lower() not in known:
        raise RunError(f"The output {file} must end in {' or '.join(known)}.")
    if not file.parent.is_dir():
        raise RunError(f"The output {file} needs the folder {file.parent}: create it.")
    if file.is_dir():
        raise RunError(f"The output {file} is a folder: name a file.")
    if source.exists() and file.exists() and file.samefile(source):
        raise RunError(f"The output {file} is the input: name another file.")
    if (file.exists() or file.is_symlink()) and not overwrite:
        raise RunError(f"The output {file} exists: name another file, or give --overwrite.")
    if not os.access(file.parent, os.W_OK):
        raise RunError(f"The output {file} cannot be written: its folder is not writable.")
    return file


def write(file: Path, columns: Columns) -> None:
    """Writes columns to a CSV or an npz file, by the end of its name; whole or not at all."""
    atomic_write(file, FORMATS[file.suffix.lower()](columns))


def csv_bytes(columns: Columns) -> bytes:
    """Returns columns as a CSV file with a header; numbers have all digits of float32."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(values.astype(str) for values in columns.values()), strict=True))
    return text.getvalue().encode()


def npz_bytes(columns: Columns) -> bytes:
    """Returns columns as an npz file with an array for each."""
    content = io.BytesIO()
    # Not by np.savez, which takes the names as keywords beside its own, such as `file`.
    with zipfile.ZipFile(content, "w") as archive:
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
    return content.getvalue()


FORMATS = {".csv": csv_bytes, ".npz": npz_bytes}


def _of_regression(predicted: Regression, names: tuple[str, ...]) -> Columns:
    low, high = predicted.interval(0.9)
    fields = {
        "mean": predicted.mean,
        "std": predicted.std,
        "aleatoric_std": np.sqrt(predicted.aleatoric_variance),
        "epistemic_std": np.sqrt(predicted.epistemic_variance),
        "q05": low,
        "q95": high,
    }
    count = len(predicted.mean)
    flat = {name: np.asarray(values).reshape(count, -1) for name, values in fields.items()}
    if len(names) == 1:
        return {name: values[:, 0] for name, values in flat.items()}
    # A point separates, so that the columns of targets "a" and "a_epistemic" differ.
    return {f"{t}.{name}": flat[name][:, i] for i, t in enumerate(names) for name in flat}


def _of_classes(predicted: Classification, names: tuple[str, ...]) -> Columns:
    count = len(predicted.probabilities)
    probabilities = np.asarray(predicted.probabilities).reshape(count, -1)
    if probabilities.shape[1] == 1:  # one logit: the probability of class 1
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    best = probabilities.argmax(axis=1)
    return {
        "class": np.array(names, str)[best],
        "probability": probabilities[np.arange(count), best],
        **{f"p_{name}": probabilities[:, i] for i, name in enumerate(names)},
        "entropy": np.asarray(predicted.predictive_entropy).reshape(count),
        "expected_entropy": np.asarray(predicted.expected_entropy).reshape(count),
        "mutual_information": np.asarray(predicted.mutual_information).reshape(count),
    }


def _check_finite(columns: Columns) -> None:
    for name, values in columns.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            index = int(np.argmin(np.isfinite(values)))
            raise RunError(
                f"The prediction of example {index} is not finite ({name} is {values[index]}): "
                "its inputs are too large, or the run has diverged."
            )
