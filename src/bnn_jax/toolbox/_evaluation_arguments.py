"""Checks of the arguments of `UncertaintyEvaluation`, before any work starts."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

TASKS = ("regression", "classification")


def check_settings(
    task_type: object, num_classes: object, epochs: object, save_model: object
) -> None:
    if task_type not in TASKS:
        raise ValueError(f"task_type must be one of {', '.join(TASKS)}; got {task_type!r}.")
    if task_type == "classification" and num_classes is None:
        raise ValueError("task_type 'classification' needs num_classes, the number of logits.")
    for name, value in (("num_classes", num_classes), ("epochs", epochs)):
        if name == "num_classes" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")
    if not isinstance(save_model, bool):
        raise TypeError(f"save_model must be True or False, got {save_model!r}.")


def check_path(name: str, path: str | Path | None, save_model: bool) -> Path | None:
    """Returns the absolute path of a model to save, or of a saved model."""
    if path is None:
        if save_model:
            raise ValueError(f"save_model=True needs {name}, the folder to save the model in.")
        return None
    absolute = Path(path).absolute()
    if save_model and absolute.exists():
        raise ValueError(
            f"{name} {absolute} exists: to save, pass a new folder; to use the model saved "
            "there, pass save_model=False."
        )
    if not save_model and not absolute.is_dir():
        raise ValueError(
            f"{name} {absolute} is not a folder, and with save_model=False the model is read from "
            "it. To train and save it there, pass save_model=True."
        )
    return absolute


def first_batch(dataset: object) -> tuple[tuple[ArrayLike, ...], np.ndarray]:
    """Returns the inputs, as a tuple, and the targets of the first batch."""
    if not isinstance(dataset, Iterable):
        raise TypeError(
            "train_dataset must be batches of (inputs, targets), such as a list of them; got "
            f"{type(dataset).__name__}."
        )
    if isinstance(dataset, Iterator):
        raise TypeError(
            f"train_dataset is read several times, and a {type(dataset).__name__} can be read only "
            "once: pass a list of batches, or an object whose __iter__ starts again."
        )
    batch = next(iter(dataset), None)
    if batch is None:
        raise ValueError("train_dataset must have at least one batch, got none.")
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(
            "train_dataset must give batches (inputs, targets), got "
            f"{type(batch).__name__}: map dicts to pairs."
        )
    inputs, targets = batch
    return inputs if isinstance(inputs, tuple) else (inputs,), np.asarray(targets)


def check_targets(
    task_type: str, num_classes: int | None, outputs: PyTree, targets: np.ndarray
) -> None:
    """Refuses targets of the first batch that do not fit the network's outputs."""
    shapes = [x.shape for x in jax.tree.leaves(outputs)]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            "The network must return one array, (batch, classes) or (batch, outputs); it returns "
            f"{shapes[0] if len(shapes) == 1 else shapes}."
        )
    shape = shapes[0]
    if task_type == "regression":
        if targets.shape != shape:
            raise ValueError(
                f"The targets must have the shape {shape} of the network's outputs, got "
                f"{targets.shape}: reshape them, such as y[:, None]."
            )
        return
    if shape[1] != num_classes:
        raise ValueError(f"num_classes is {num_classes}, but the network has {shape[1]} logits.")
    if targets.shape != shape[:1] or not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(
            f"The targets must be integers of shape {shape[:1]}, one label for each "
            f"example; got {targets.dtype} {targets.shape}."
        )
    if targets.min() < 0 or targets.max() >= shape[1]:
        raise ValueError(
            f"Labels must be from 0 to {shape[1] - 1}, got {targets.min()} to {targets.max()}."
        )
