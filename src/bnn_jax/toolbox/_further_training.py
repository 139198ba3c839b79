"""Further training of a trained network, and saving and reading of its params."""

from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from jaxtyping import Array, ArrayLike, PyTree

from bnn_jax import train
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import NormalPrior
from bnn_jax.train import Forward


def train_further(
    key: PRNGKey,
    forward: Forward,
    params: PyTree,
    loss_fn: Callable[..., Array],
    optimizer: optax.GradientTransformation,
    batches: Iterable[tuple[PyTree, ArrayLike]],
    *,
    epochs: int,
) -> PyTree:
    """Returns the params after training on the data loss; they contain no random weights."""
    # Without random weights the KL is zero, so the prior has no effect.
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
    """Returns the saved params, which must have the structure, shapes and dtypes of `like`."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path, abstract)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"The model saved in {path} does not fit this network, or is damaged "
            f"({' '.join(str(error).split())[:120]})."
        ) from error
