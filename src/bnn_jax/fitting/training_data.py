"""The training data of a fit: standardised, on the device or divided over a mesh, in batches."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax.devices import Placement
from bnn_jax.devices.placement import canonical
from bnn_jax.fitting.loop import Loop
from bnn_jax.fitting.standardize import Affine, Standardizer
from bnn_jax.infer.problem import Batch
from bnn_jax.likelihoods import Likelihood, Regression


def standardizer(
    inputs: PyTree, targets: PyTree, likelihood: Likelihood, standardize: bool
) -> Standardizer:
    """Returns the maps that standardise inputs and targets; the identity unless asked for.

    Raises:
        ValueError: the inputs are not one array.
    """
    if not standardize:
        return Standardizer()
    if not hasattr(inputs, "ndim"):
        raise ValueError("standardize needs inputs that are one array, not a tree of arrays.")
    real = isinstance(likelihood, Regression) and not likelihood.integers
    return Standardizer(Affine.of(inputs), Affine.of(targets) if real else None)


def on_device(
    inputs: PyTree, targets: PyTree, scaling: Standardizer, placement: Placement | None
) -> tuple[PyTree, Array]:
    """Returns the standardised data on the device, or padded and divided over a mesh.

    Data for the devices of several processes stay NumPy arrays: each loads its part of a batch.
    """
    scaled = scaling.of_inputs(inputs), scaling.of_targets(targets)
    if placement is not None and placement.spans_processes:
        return jax.tree.map(canonical, scaled)
    if placement is not None:
        return placement.divide(scaled)
    return jax.tree.map(jnp.asarray, scaled)


def batches(loop: Loop) -> Iterator[Batch]:
    """Yields the training data in order, in batches; the last one of arrays may be smaller."""
    if loop.loader is not None:
        yield from map(loop.on_device, loop.loader.one_pass())
        return
    for start in range(0, loop.num_examples, loop.batch_size):
        stop = min(start + loop.batch_size, loop.num_examples)
        batch = jax.tree.map(lambda a, i=start, j=stop: a[i:j], loop.examples)
        yield batch if loop.placement is None else loop.placement.batch(batch)
