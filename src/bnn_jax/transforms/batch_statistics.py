"""Recomputation of batch statistics for the weights with which the network is used.

During training, the running averages of a normalisation layer depend on weights that are sampled at
every step and still change. After training, they can be recomputed exactly by passes over data: for
the posterior mean, or for weights sampled from the posterior.

Source: Maddox et al. 2019, "A Simple Baseline for Bayesian Uncertainty in Deep Learning",
arXiv:1902.02476, section 3 (statistics recomputed for each set of weights); Izmailov et al. 2018.
"""

from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

# Much larger than any statistic, so that the difference gives the momentum at full precision.
_PROBE = 1024.0

Statistics = dict[str, Array]

# (index of the pass, statistics, batch) -> statistics after a pass in training mode
Update = Callable[[int | Array, Statistics, PyTree], Statistics]


def take(variables: PyTree, places: Mapping[str, int]) -> Statistics:
    """Returns the running averages, by path, from their positions among the leaves.

    Raises:
        ValueError: the network has no running averages.
    """
    if not places:
        raise ValueError(
            "The network has no batch statistics (linen's collection batch_stats, or "
            "nnx.BatchStat variables): there is nothing to recompute."
        )
    leaves = jax.tree.leaves(variables)
    return {path: leaves[i] for path, i in places.items()}


def put(variables: PyTree, places: Mapping[str, int], statistics: Statistics) -> PyTree:
    """Returns the variables with these running averages."""
    leaves, structure = jax.tree.flatten(variables)
    for path, value in statistics.items():
        leaves[places[path]] = value
    return jax.tree.unflatten(structure, leaves)


def recompute(
    update: Update,
    statistics: Statistics,
    batches: Iterable[PyTree],
    *,
    num_samples: int = 1,
) -> Statistics:
    """Returns the average of the batches' statistics, weighted by their numbers of examples.

    Args:
        update: a pure, traceable function (index of the pass, statistics, batch) -> statistics
            after a pass in training mode, which are momentum * statistics + (1 - momentum) * those
            of the batch.
        statistics: the current statistics. Those that no pass changes are returned unchanged.
        batches: inputs; axis 0 of their arrays is the example axis.
        num_samples: passes over each batch.

    Raises:
        ValueError: there are no batches, or a pass changes no statistics.
    """
    step = jax.jit(update)
    total: Statistics = {}
    momentum: Statistics = {}
    examples = 0
    index = 0
    for batch in batches:
        size = len(jax.tree.leaves(batch)[0])
        if not momentum:
            momentum = _momentum(step, statistics, batch)
            total = {name: jnp.zeros_like(statistics[name]) for name in momentum}
            statistics = {**statistics, **total}
        for _ in range(num_samples):
            # Starting from zeros, a pass leaves (1 - momentum) * the batch's statistics.
            after = step(index, statistics, batch)
            total = {name: total[name] + size * after[name] for name in total}
            index += 1
        examples += size * num_samples
    if not momentum:
        raise ValueError("There are no batches: pass at least one batch of inputs.")
    return statistics | {
        name: total[name] / (examples * (1.0 - momentum[name])) for name in momentum
    }


def _momentum(step: Update, statistics: Statistics, batch: PyTree) -> Statistics:
    """Returns the momentum of each statistic that a pass changes, from a large difference."""
    after = step(0, statistics, batch)
    moving = [name for name in statistics if bool(jnp.any(after[name] != statistics[name]))]
    if not moving:
        raise ValueError(
            "A pass over the data changes no batch statistics: switch the network to training mode "
            "by a keyword argument such as train=True, or by "
            "model.view(use_running_average=False)."
        )
    probe = step(0, statistics | {name: statistics[name] + _PROBE for name in moving}, batch)
    return {name: jnp.median((probe[name] - after[name]) / _PROBE) for name in moving}
