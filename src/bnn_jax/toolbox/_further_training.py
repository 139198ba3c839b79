"""Further training of a network that is trained already, and where its params are kept."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from jaxtyping import Array, PyTree

from bnn_jax import train
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import NormalPrior
from bnn_jax.train import Forward


def train_further(
    key: PRNGKey,
    forward: Forward,
    params: PyTree,
    loss_fn: Callable[[Any, Any], Array],
    optimizer: optax.GradientTransformation,
    batches: Iterable[tuple[Any, Any]],
    *,
    epochs: int,
) -> PyTree:
    """The params after some epochs. They hold no random weights: the loss is the data's alone."""
    # Without random weights there is no KL, and the prior has no part in it.
    step = jax.jit(
        train.build_step(forward, loss_fn, optimizer, NormalPrior(), dnn_factor=1.0, bnn_factor=0.0)
    )
    state = train.init(params, optimizer)
    for _ in range(epochs):
        for inputs, targets in batches:
            state, _ = step(state, key, (inputs, jnp.asarray(targets)))
    return state.posterior


def save(path: Path, params: PyTree) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, params)


def read(path: Path, like: PyTree) -> PyTree:
    """The saved params, which have to have the structure, shapes and dtypes of `like`."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path, abstract)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"The model saved in {path} is not one of this network, or is damaged "
            f"({' '.join(str(error).split())[:120]})."
        ) from error
