"""Batch statistics that belong to the weights the network is used with.

During training the running averages of a normalisation layer follow weights that are drawn anew at
every step and still move. Before the network is used, they can be computed again, exactly, from
passes over data: for the posterior mean, or for weights drawn from the posterior.

Source: Maddox et al. 2019, "A Simple Baseline for Bayesian Uncertainty in Deep Learning",
arXiv:1902.02476, section 3 (statistics recomputed for each set of weights); Izmailov et al. 2018.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

# Far above any statistic, so that their difference gives the momentum to all its digits.
_PROBE = 1024.0

Statistics = dict[Any, Array]


def recompute(
    update: Callable[[Any, Statistics, Any], Statistics],
    statistics: Statistics,
    batches: Iterable[PyTree],
    *,
    num_samples: int = 1,
) -> Statistics:
    """The average of the batches' statistics, each weighted by its number of examples.

    Args:
        update: (index of the pass, statistics, batch) -> statistics after a pass in training mode,
            momentum * statistics + (1 - momentum) * those of the batch; pure and traceable.
        statistics: the present ones. Those that a pass leaves as they are stay so.
        batches: inputs; axis 0 of their arrays is the example axis.
        num_samples: passes over each batch.

    Raises:
        ValueError: no batches, or no statistics that a pass changes.
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
        raise ValueError("There are no batches to compute batch statistics from.")
    return statistics | {
        name: total[name] / (examples * (1.0 - momentum[name])) for name in momentum
    }


def _momentum(step: Callable[..., Statistics], statistics: Statistics, batch: Any) -> Statistics:
    """The momentum of each statistic that a pass changes: what is left of a large difference."""
    after = step(0, statistics, batch)
    moving = [name for name in statistics if bool(jnp.any(after[name] != statistics[name]))]
    if not moving:
        raise ValueError(
            "A pass over the data changes no batch statistics: put the network into training mode, "
            "by a keyword argument such as train=True, or model.view(use_running_average=False)."
        )
    probe = step(0, statistics | {name: statistics[name] + _PROBE for name in moving}, batch)
    return {name: jnp.median((probe[name] - after[name]) / _PROBE) for name in moving}
