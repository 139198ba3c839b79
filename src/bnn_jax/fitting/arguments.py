"""Checks of the kinds of `fit`'s arguments, before any work."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax._parameters import check_count, check_key, describe
from bnn_jax.devices.processes import is_global
from bnn_jax.fitting.early_stopping import Patience
from bnn_jax.fitting.keys import Keys
from bnn_jax.infer.method import Method
from bnn_jax.likelihoods import Likelihood
from bnn_jax.transforms import BayesianModel

Arguments = Mapping[str, Any]  # those of `fit`, by name


def check(given: Arguments) -> None:
    """Refuses arguments of the wrong kind.

    Args:
        given: the arguments of `fit` by name.

    Raises:
        TypeError, ValueError: one is not what it must be.
    """
    if not isinstance(given["key"], Keys):
        check_key(given["key"], "fit(key, model, (x, y), ...)")
    if not isinstance(given["model"], BayesianModel):
        raise TypeError(
            f"model must be what to_bnn returns, got {describe(given['model'])}: call "
            "to_bnn(network, variables)."
        )
    if isinstance(given["method"], type) or not isinstance(given["method"], Method):
        raise TypeError(
            "method must be an inference method of bnn_jax.infer, such as infer.map(), got "
            f"{describe(given['method'])}."
        )
    if not isinstance(given["likelihood"], Likelihood):
        raise TypeError(
            "likelihood must be one of bnn_jax.likelihoods, such as Categorical(), got "
            f"{describe(given['likelihood'])}."
        )
    _check_options(given)
    if given["validation"] is not None:
        _check_alike(given["validation"], given["data"])
    if given["augment"] is not None:
        _check_augment(given["augment"], given["data"])


def check_loader_options(given: Arguments, is_loader: bool) -> None:
    """Refuses arguments of `fit` that are for arrays with a loader, and the reverse.

    Raises:
        ValueError: an argument has no effect on the data, or cannot be used with them.
    """
    if not is_loader:
        for name in ("num_data", "steps_per_epoch"):
            if given[name] is not None:
                raise ValueError(
                    f"{name} is for a grain loader, and the number of examples in arrays is known: "
                    "remove it."
                )
        return
    if given["batch_size"] is not None:
        raise ValueError("batch_size is for arrays, and a loader yields batches: remove it.")
    if given["standardize"]:
        raise ValueError(
            "standardize is for arrays: scale the examples in the loader, or the inputs by "
            "model.preprocessed(function)."
        )
    if given["method"].whole_data:
        raise ValueError(
            f"method {given['method'].name} takes all examples in each step, and a loader yields "
            "batches: give arrays."
        )
    if (given["steps_per_call"] or 1) > 1:
        raise ValueError(
            "steps_per_call must be 1 with a loader, whose batches are read between calls, got "
            f"{given['steps_per_call']}."
        )


def check_arrays(name: str, inputs: PyTree, targets: PyTree) -> None:
    """Refuses inputs and targets that are not arrays of numbers.

    Raises:
        TypeError: they are not.
    """
    for part, value in [*(("inputs", x) for x in jax.tree.leaves(inputs)), ("targets", targets)]:
        if is_global(value):
            raise TypeError(
                f"{name}: {part} must be whole on every process, got an array on devices of "
                "several: pass NumPy arrays, so that each process loads its part of a batch."
            )
        try:
            array = np.asarray(value)
        except ValueError as error:  # lists of different lengths
            raise TypeError(f"{name}: {part} must be an array: {error}.") from error
        if part == "inputs" and not array.ndim:
            raise TypeError(
                f"{name}: inputs must be an array, or a tree of arrays with the examples on axis "
                "0, got numbers in lists: call numpy.asarray."
            )
        if array.dtype.kind not in "biufV":  # V: bfloat16 and its like
            raise TypeError(f"{name}: {part} must be numbers, got an array of {array.dtype}.")


def check_metrics(
    metric_fn: Callable[..., PyTree] | None, outputs: PyTree, targets: PyTree
) -> None:
    """Refuses a metric_fn that does not return {name: scalar}.

    Raises:
        TypeError: it does not.
    """
    if metric_fn is None:
        return
    found = jax.eval_shape(metric_fn, outputs, targets)
    if not isinstance(found, Mapping) or any(v.shape != () for v in jax.tree.leaves(found)):
        shapes = jax.tree.map(lambda a: a.shape, found)
        raise TypeError(
            "metric_fn must return {name: scalar} of the outputs and targets of a batch, got "
            f"{describe(found)} of shapes {str(shapes)[:100]}."
        )


def _check_options(given: Arguments) -> None:
    callbacks, checkpoint = given["callbacks"], given["checkpoint"]
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise TypeError(
            f"callbacks must be a list of functions (line, fit), got {describe(callbacks)}."
        )
    for name in ("early_stopping", "augment", "metric_fn"):
        if given[name] is not None and not callable(given[name]):
            raise TypeError(f"{name} must be a function, got {describe(given[name])}.")
    for name in ("train_kwargs", "eval_kwargs"):
        if given[name] is not None and not isinstance(given[name], Mapping):
            raise TypeError(
                f"{name} must be a mapping of keyword arguments, got {describe(given[name])}."
            )
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise TypeError(f"checkpoint must be a path, got {describe(checkpoint)}.")
    if given["steps_per_call"] is not None:
        check_count("steps_per_call", given["steps_per_call"])
    if isinstance(given["early_stopping"], Patience) and given["validation"] is None:
        raise ValueError("patience watches a validation score: give fit validation=(x, y).")


def _check_alike(data: PyTree, training: PyTree) -> None:
    """Refuses validation data whose examples have other shapes than those of training."""
    found, wanted = ([np.shape(x)[1:] for x in jax.tree.leaves(d)] for d in (data, training))
    if found != wanted:
        raise ValueError(
            "validation: an example of inputs and targets must have the shapes of the training "
            f"data, {str(wanted)[:100]}, got {str(found)[:100]}."
        )


def _check_augment(augment: Callable[..., PyTree], data: PyTree) -> None:
    """Refuses an augmentation that changes the shapes of a batch."""
    inputs = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)), inputs)
    before, after = (
        [tuple(a.shape) for a in jax.tree.leaves(tree)]
        for tree in (batch, jax.eval_shape(augment, jax.random.key(0), batch))
    )
    if before != after:
        raise ValueError(f"augment must return inputs of the same shapes, {before}, got {after}.")
