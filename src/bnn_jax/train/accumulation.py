"""Gradient accumulation: the mean loss of a batch from its parts, one at a time.

    loss(params, batch) = (1/k) sum_i loss(params, part_i),   part_i = examples i, i + k, i + 2k

Each part is differentiated where its loss is computed, and the gradients are added up. So only the
activations of one part are in memory, and no operation is done twice. The optimizer takes one step
for the whole batch. Each part has noise of its own, from fold_in(key, i), and batch statistics of
its own, which the next part updates further.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, PyTree

from bnn_jax.noise import PRNGKey

# (params, variables, key, batch) -> (mean loss, (new variables, metrics))
Loss = Callable[[PyTree, PyTree, PRNGKey, PyTree], tuple[Array, tuple[PyTree, PyTree]]]


def accumulated(loss: Loss, parts: int) -> Loss:
    """Returns a loss that is computed, and differentiated by params, one part of a batch at a time.

    Args:
        loss: the mean over the examples of a batch, whose arrays have them on axis 0.
        parts: the number of parts. A batch that they do not divide is computed at once.
    """
    if parts == 1:
        return loss
    differentiated = jax.value_and_grad(loss, has_aux=True)

    @jax.custom_vjp
    def of_parts(params: PyTree, variables: PyTree, key: PRNGKey, split: PyTree) -> PyTree:
        def one(variables: PyTree, numbered: PyTree) -> PyTree:
            index, part = numbered
            value, (variables, metrics) = loss(
                params, variables, jax.random.fold_in(key, index), part
            )
            return variables, (value, metrics)

        variables, found = lax.scan(one, variables, (jnp.arange(parts), split))
        value, metrics = jax.tree.map(_mean, found)
        return value, (variables, metrics)

    def forward(params: PyTree, variables: PyTree, key: PRNGKey, split: PyTree) -> PyTree:
        def one(carry: PyTree, numbered: PyTree) -> PyTree:
            (variables, total), (index, part) = carry, numbered
            (value, (variables, metrics)), gradient = differentiated(
                params, variables, jax.random.fold_in(key, index), part
            )
            return (variables, jax.tree.map(jnp.add, total, gradient)), (value, metrics)

        start = variables, jax.tree.map(jnp.zeros_like, params)
        (variables, total), found = lax.scan(one, start, (jnp.arange(parts), split))
        value, metrics = jax.tree.map(_mean, found)
        return (value, (variables, metrics)), jax.tree.map(lambda g: g / parts, total)

    def backward(gradient: PyTree, cotangents: PyTree) -> tuple[PyTree, None, None, None]:
        by_value = jax.tree.map(lambda g: cotangents[0].astype(g.dtype) * g, gradient)
        return by_value, None, None, None

    of_parts.defvjp(forward, backward)

    def by_parts(
        params: PyTree, variables: PyTree, key: PRNGKey, batch: PyTree
    ) -> tuple[Array, tuple[PyTree, PyTree]]:
        if any(len(array) % parts for array in jax.tree.leaves(batch)):
            return loss(params, variables, key, batch)
        split = jax.tree.map(partial(_split, parts), batch)
        return of_parts(params, variables, key, split)

    return by_parts


def _split(parts: int, array: ArrayLike) -> Array:
    """Returns the parts of a batch on a new axis 0, where a mesh divides them as the batch."""
    array = jnp.asarray(array)
    return jnp.swapaxes(jnp.reshape(array, (len(array) // parts, parts, *array.shape[1:])), 0, 1)


def _mean(values: Array) -> Array:
    """Returns the mean over axis 0; of what is no float, the last."""
    return jnp.mean(values, axis=0) if jnp.issubdtype(values.dtype, jnp.floating) else values[-1]
