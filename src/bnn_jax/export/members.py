"""Fixed networks as one function: the network at the posterior mean, or members drawn at export."""

import functools
import operator
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax import gaussian, likelihoods, posteriors
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.predictive import members
from bnn_jax.predictive.running_sums import Function, Known
from bnn_jax.predictive.running_sums import of as sums_of


def mean_of(posterior: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the params of the mean network and the variables that belong to it."""
    if isinstance(posterior, list | tuple | posteriors.Samples | posteriors.Mixture):
        raise ValueError(
            "The mean of an ensemble's params is not a trained network: export its networks with "
            'kind="members".'
        )
    if isinstance(posterior, posteriors.Posterior):
        return posterior.mean(), getattr(posterior, "variables", None)
    return gaussian.mean(posterior), None


def drawn(
    posterior: PyTree, key: PRNGKey | None, num_samples: int | None, *, antithetic: bool
) -> tuple[PyTree, PyTree]:
    """Returns the members' params and their own variables, stacked on a new axis 0.

    They are those of `predict` with the same arguments.

    Args:
        posterior: a posterior, or an ensemble as a list of params trees.
        key: gives their noise; not needed for finitely many draws.
        num_samples: their number; by default all of finitely many draws.
        antithetic: of a mean-field posterior: pairs with opposite noise.

    Raises:
        ValueError: an argument is missing or does not fit the posterior.
    """
    if isinstance(posterior, list | tuple):
        posterior = posteriors.Samples.of(posterior)
    if not isinstance(posterior, posteriors.Posterior):
        posterior = posteriors.MeanField(posterior)
    if isinstance(posterior, posteriors.HasOutputs):
        raise ValueError(
            f"{type(posterior).__name__} draws more than weights, so it has no fixed members: use "
            'kind="sampled".'
        )
    mean_field = isinstance(posterior, posteriors.MeanField)
    if mean_field and not gaussian.random_leaves(posterior.tree):
        raise ValueError('The posterior has no random weights: use kind="mean".')
    size = posteriors.size(posterior)
    count = num_samples or size
    if count is None or (size is None and key is None):
        raise ValueError(
            'kind="members" draws its networks at export: pass key and num_samples, such as 16.'
        )
    if antithetic and not mean_field:
        raise ValueError(
            f"antithetic=True is for a mean-field posterior, got {type(posterior).__name__}: leave "
            "it out."
        )
    key = jax.random.key(0) if key is None else key
    draws = [_draw(posterior, key, i, antithetic) for i in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *draws)


def _draw(posterior: PyTree, key: PRNGKey, index: int, antithetic: bool) -> tuple[PyTree, PyTree]:
    """Returns the params and variables of draw number `index` of `predict` with this key."""
    if antithetic:
        draw = Draw(jax.random.fold_in(key, index // 2), -1 if index % 2 else 1)
        return gaussian.sample(draw, posterior.tree), posterior.variables
    draw_key = jax.random.fold_in(key, index)
    one, turn = posteriors.component(posterior, index)
    return posteriors.draw(one, draw_key, turn)


def network_of(
    model: object, count: int, own: PyTree, kind: str, kwargs: Mapping[str, object]
) -> Callable[..., PyTree]:
    """Returns (params, own variables, *inputs) -> outputs."""
    call = members.check(model, count)
    if getattr(model, "network", None) is None:
        return lambda params, _, *inputs: call(params, *inputs, **kwargs)
    shared = getattr(model, "variables", None)

    def network(params: PyTree, variables: PyTree, *inputs: Array) -> PyTree:
        return call(params, shared if own is None else variables, *inputs, **kwargs)

    return network


def averaged_over(
    network: Callable[..., PyTree],
    params: PyTree,
    own: PyTree,
    likelihood: Known | Function,
    kind: str,
    *,
    one_by_one: bool,
) -> Callable[..., dict[str, Array]]:
    """Returns the summary of the members' outputs as a function of the inputs."""
    sums = sums_of(likelihood).of

    def terms(params: PyTree, own: PyTree, *inputs: Array) -> dict[str, Array]:
        return sums.terms(network(params, own, *inputs))

    def mean_network(*inputs: Array) -> dict[str, Array]:
        only = terms(params, own, *inputs)
        if isinstance(likelihood, likelihoods.Classification):
            return {"probabilities": only["probabilities"]}
        if isinstance(likelihood, likelihoods.Regression):
            return {"mean": only["mean"], "aleatoric_variance": only["variance"]}
        return {"mean": only["mean"]}

    if kind == "mean":
        return mean_network
    count = len(jax.tree.leaves(params)[0])
    trees = [jax.tree.map(lambda a, i=i: a[i], (params, own)) for i in range(count)]

    def means_of(each: Callable[..., dict[str, Array]], *inputs: Array) -> dict[str, Array]:
        """Returns the means over members of a function of (params, own variables, *inputs)."""
        if one_by_one:
            totals = [each(*tree, *inputs) for tree in trees]
            summed = jax.tree.map(lambda *a: functools.reduce(operator.add, a), *totals)
            return jax.tree.map(lambda total: total / count, summed)
        stacked = jax.vmap(lambda p, v: each(p, v, *inputs))(params, own)
        return jax.tree.map(lambda a: jnp.mean(a, axis=0), stacked)

    def averaged(*inputs: Array) -> dict[str, Array]:
        means = means_of(terms, *inputs)
        if isinstance(likelihood, likelihoods.Classification):
            total, expected = likelihood.entropy(means["probabilities"]), means["entropy"]
            return {
                "probabilities": means["probabilities"],
                "expected_entropy": expected,
                "mutual_information": jnp.maximum(total - expected, 0.0),
            }

        def square(params: PyTree, own: PyTree, *inputs: Array) -> dict[str, Array]:
            return {"": jnp.square(terms(params, own, *inputs)["mean"] - means["mean"])}

        return {
            "mean": means["mean"],
            "aleatoric_variance": means["variance"],
            "epistemic_variance": means_of(square, *inputs)[""],
        }

    return averaged
