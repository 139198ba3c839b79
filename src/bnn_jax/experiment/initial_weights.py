"""Weights to start a training from: those of another run, or of a file.

    initial_weights: runs/pretrained     # a run folder: the mean of its posterior
    initial_weights: weights.npz         # arrays named by the path of a weight: Dense_0/kernel

They take the place of the network's own initial weights: of the means, where a weight has a
Gaussian posterior.
"""

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.loading import load
from bnn_jax.experiment.run import Run, weights_of

Arrays = Mapping[str, PyTree]


def started(run: Run) -> Run:
    """Returns a run with the initial weights that its settings name, or the run itself.

    Batch statistics and other state come from the same source if it has them.

    Raises:
        RunError: the source cannot be read, or its weights are not those of the network.
    """
    source = run.config.initial_weights
    if source is None:
        return run
    weights, state = _of_run(source) if source.is_dir() else _of_file(source)
    model = run.model
    means = _filled(gaussian.mean(model.posterior), weights, source, required=True)
    variables = _filled(model.variables, state, source, required=False)
    known = {*_named(means), *_named(variables)}
    unknown = [name for name in {**weights, **state} if name not in known]
    if unknown:
        raise RunError(
            f"initial_weights {source} has {unknown[0]}, which the network lacks: it has "
            f"{', '.join(_named(means))}."
        )
    posterior = jax.tree.map(_around, model.posterior, means, is_leaf=gaussian.is_gaussian)
    changed = dataclasses.replace(model, posterior=posterior, variables=variables)
    return dataclasses.replace(run, model=changed)


def _of_run(folder: Path) -> tuple[Arrays, Arrays]:
    fit = load(folder).fit
    if hasattr(fit.posterior, "size") and fit.posterior.size not in (None, 1):
        raise RunError(
            f"initial_weights {folder} is an ensemble of {fit.posterior.size} networks, whose mean "
            "is no trained network: give a run with one."
        )
    own = getattr(fit.posterior, "variables", None)
    return _named(gaussian.mean(weights_of(fit.posterior))), _named(own)


def _of_file(file: Path) -> tuple[Arrays, Arrays]:
    if file.suffix != ".npz":
        raise RunError(
            f"initial_weights {file} must be a run folder, or an npz file with an array for each "
            "weight."
        )
    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"initial_weights {file} cannot be read: {error}") from error
    return found, found


def _named(tree: PyTree) -> dict[str, PyTree]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {gaussian.path_name(path): leaf for path, leaf in leaves}


def _filled(tree: PyTree, arrays: Arrays, source: Path, *, required: bool) -> PyTree:
    """Returns a tree with the arrays of these names in place of its leaves."""

    def filled(path: tuple[object, ...], leaf: PyTree) -> PyTree:
        name = gaussian.path_name(path)
        if name not in arrays:
            if not required:
                return leaf
            raise RunError(
                f"initial_weights {source} lacks {name}, of shape {leaf.shape}: it has "
                f"{', '.join(arrays) or 'no arrays'}."
            )
        new = arrays[name]
        if jnp.shape(new) != jnp.shape(leaf):
            raise RunError(
                f"initial_weights {source}: {name} has the shape {jnp.shape(new)}, and the network "
                f"needs {jnp.shape(leaf)}."
            )
        return jnp.asarray(new, leaf.dtype)

    return jax.tree_util.tree_map_with_path(filled, tree)


def _around(leaf: PyTree, mean: PyTree) -> PyTree:
    """Returns the initial posterior of a weight with another mean."""
    if not gaussian.is_gaussian(leaf):
        return mean
    return gaussian.Gaussian(mean=mean, rho=leaf.rho)
