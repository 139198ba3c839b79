"""The network's other state that belongs to given params: its batch statistics."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.transforms import batch_statistics


def current_variables(
    problem: Problem, params: PyTree, variables: PyTree, batches: Iterable[Batch]
) -> PyTree:
    """Returns the variables with the batch statistics of these params.

    Statistics that training did not change belong to a network in evaluation mode, and are kept.
    """
    places = problem.model.network.batch_statistics(variables)
    if not places:
        return variables
    statistics = batch_statistics.take(variables, places)
    initial = batch_statistics.take(problem.model.variables, places)
    if all(bool(jnp.array_equal(statistics[name], initial[name])) for name in places):
        return variables

    def update(
        index: int | Array, now: dict[str, Array], batch: Batch
    ) -> batch_statistics.Statistics:
        key = jax.random.fold_in(jax.random.key(0), index)
        own = batch_statistics.put(variables, places, now)
        _, (after, _) = problem.nll(params, own, key, batch)
        return batch_statistics.take(after, places)

    statistics = batch_statistics.recompute(update, statistics, batches)
    return batch_statistics.put(variables, places, statistics)
