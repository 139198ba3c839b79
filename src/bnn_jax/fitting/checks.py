"""Checks of the arguments and data of `fit`, before any work."""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax.data.loader import Loader, is_loader
from bnn_jax.fitting import arguments
from bnn_jax.infer.method import Method
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.likelihoods import Bernoulli, Categorical, Likelihood
from bnn_jax.noise import Draw, PRNGKey

Data = tuple[PyTree, PyTree]
TrainingData = Data | Iterable[PyTree]  # or a grain loader

BATCH_SIZE = 128


def checked_arguments(given: arguments.Arguments) -> tuple[PyTree, PyTree, Loader | None]:
    """Refuses arguments of `fit`, given by name; returns inputs and targets.

    Returns:
        (inputs, targets, None); of a loader its first batch, and the reader of its batches.
    """
    likelihood, loader = given["likelihood"], None
    sizes = {name: given[name] for name in ("num_data", "steps_per_epoch")}
    check_counts(**{name: size for name, size in sizes.items() if size is not None})
    if is_loader(given["data"]):
        loader = Loader(given["data"], **sizes)
        given = {**given, "data": loader.first}
    arguments.check(given)
    arguments.check_loader_options(given, loader is not None)
    inputs, targets = checked(given["data"], likelihood, "data")
    if given["validation"] is not None:
        checked(given["validation"], likelihood, "validation")
    return inputs, targets, loader


def checked(data: Data, likelihood: Likelihood, name: str) -> tuple[PyTree, PyTree]:
    """Refuses data that cannot be trained on; returns inputs and targets."""
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(
            f"{name} must be a pair (inputs, targets) of arrays"
            f"{', or a grain loader' if name == 'data' else ''}, got {type(data).__name__}."
        )
    inputs, targets = data
    arguments.check_arrays(name, inputs, targets)
    targets = np.asarray(targets)
    leaves = [np.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    lengths = {shape[0] if shape else 0 for shape in [*leaves, targets.shape]}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"{name}: inputs and targets must have the same number of examples on axis 0, at "
            f"least 1; got shapes {leaves} and {targets.shape}."
        )
    for leaf in [*jax.tree.leaves(inputs), targets]:
        array = np.asarray(leaf)
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values: remove or impute them first.")
    if isinstance(likelihood, Categorical):
        if not np.issubdtype(targets.dtype, np.integer):
            raise TypeError(
                f"{name}: Categorical needs integer labels, got {targets.dtype}: "
                "y.astype(np.int32), or a regression likelihood."
            )
        if targets.min() < 0:
            raise ValueError(f"{name}: labels must be at least 0, got {targets.min()}.")
    if isinstance(likelihood, Bernoulli) and not np.isin(targets, (0, 1)).all():
        raise ValueError(f"{name}: Bernoulli targets must be 0 or 1, got {np.unique(targets)[:5]}.")
    return inputs, targets


def check_outputs(
    problem: Problem, examples: Batch, labels: PyTree, loader: Loader | None = None
) -> None:
    """Traces the network on one batch, and refuses outputs that do not fit the targets.

    Args:
        problem: the inference problem.
        examples: all examples, or the first batch.
        labels: all targets.
        loader: a reader whose batches will be checked too, each when it is read.

    Raises:
        ValueError: the network cannot take the inputs, the likelihood cannot take its outputs, or
            a label is not one of the network's classes.
    """
    size = jax.tree.leaves(problem.inputs)[0].shape[0]
    inputs, targets = jax.tree.map(lambda a: a[:size], examples)
    params, variables = problem.params, problem.model.variables

    def outputs(key: PRNGKey) -> PyTree:
        return problem.forward(Draw(key), params, variables, inputs)[0]

    key = jax.random.key(0)
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(inputs)]
    try:
        found = jax.eval_shape(outputs, key)
    except Exception as error:
        raise ValueError(
            f"The network cannot take inputs of shape {shapes}: {_first_line(error)}"
        ) from error
    if isinstance(problem.likelihood, Categorical) and getattr(found, "ndim", 0) > 0:
        _check_labels(labels, classes=found.shape[-1])
    try:
        jax.eval_shape(lambda: problem.likelihood.nll(_zeros(found), targets))
    except Exception as error:
        shape = jax.tree.map(lambda a: tuple(a.shape), found)
        raise ValueError(
            f"{type(problem.likelihood).__name__} cannot score the network's outputs of shape "
            f"{shape} against targets of shape {tuple(targets.shape)}: {_first_line(error)}"
        ) from error
    arguments.check_metrics(problem.metric_fn, found, targets)
    if loader is not None:
        loader.check = partial(_check_batch, problem.likelihood, found)


def _check_batch(likelihood: Likelihood, outputs: PyTree, batch: Data) -> None:
    """Refuses a batch of a loader, for a network with outputs of these shapes."""
    _, targets = checked(batch, likelihood, "data")
    if isinstance(likelihood, Categorical):
        _check_labels(targets, classes=outputs.shape[-1])


def _check_labels(labels: PyTree, *, classes: int) -> None:
    if np.max(labels) >= classes:
        raise ValueError(
            f"Labels must be below the network's {classes} classes, got {np.max(labels)}: give "
            "the network more outputs, or map the labels to 0, 1, ..."
        )


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")


def check_schedule(
    epochs: int, validate_every: int, checkpoint_every: int, checkpoint_minutes: float
) -> None:
    check_counts(epochs=epochs, validate_every=validate_every, checkpoint_every=checkpoint_every)
    check_minutes(checkpoint_minutes)


def check_minutes(minutes: float) -> None:
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not minutes > 0:
        raise ValueError(f"checkpoint_minutes must be a positive number, got {minutes!r}.")


def sizes(
    num_arrays: int,
    batch_size: int | None,
    method: Method,
    loader: Loader | None,
    accumulate_steps: int,
) -> tuple[int, int, int]:
    """Returns the numbers of training examples, of examples in a batch, and of steps in an epoch.

    Args:
        num_arrays: number of examples in arrays.
        batch_size: that of `fit`; None for the default.
        method: the inference method, which may take all examples in each step.
        loader: has its own numbers; None for arrays.
        accumulate_steps: parts of a batch, whose size they must divide.
    """
    check_counts(accumulate_steps=accumulate_steps)
    if loader is not None:
        _check_parts(loader.batch_size, accumulate_steps)
        return loader.num_data, loader.batch_size, loader.steps_per_epoch
    size = min(BATCH_SIZE, num_arrays) if batch_size is None else batch_size
    size = num_arrays if method.whole_data else size
    check_counts(batch_size=size)
    if size > num_arrays:
        raise ValueError(
            f"batch_size ({size}) must be at most the number of training examples ({num_arrays}): "
            "lower it."
        )
    _check_parts(size, accumulate_steps)
    return num_arrays, size, num_arrays // size


def _check_parts(batch_size: int, accumulate_steps: int) -> None:
    if batch_size % accumulate_steps:
        raise ValueError(
            f"accumulate_steps ({accumulate_steps}) must divide the batch size ({batch_size}): "
            "change one of them."
        )
