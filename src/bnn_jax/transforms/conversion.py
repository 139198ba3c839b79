"""Any Flax network, unmodified, as a Bayesian one.

    model = to_bnn(module, variables)              # linen
    model = to_bnn(nnx_module)                     # NNX
    model = to_bnn(apply, params)                  # a plain function apply(params, x)

    y = model.apply(key, model.posterior, x)       # weights drawn from the posterior
    kl = model.kl(model.posterior)

Source of the start at pretrained weights: Krishnan, Subedar, Tickoo 2020, arXiv:1906.05323.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bnn_jax import gaussian, priors
from bnn_jax.interpreter.estimators import check_estimator
from bnn_jax.networks.network import as_network
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import NormalPrior, Prior
from bnn_jax.transforms.bayesian_model import BayesianModel
from bnn_jax.transforms.selection import Where, match, select

# softplus(-5) + 1e-6: where MindSpore starts.
INITIAL_STD = 0.0067163484


def to_bnn(
    model: Any,
    variables: Any = None,
    *,
    where: Where = "layers",
    estimator: str | Mapping[str, str] = "reparam",
    prior: Prior | PyTree | None = None,
    initial_std: float = INITIAL_STD,
    relative: bool = False,
    fresh: PRNGKey | None = None,
    approximate: bool = False,
    inputs: Any = (),
) -> BayesianModel:
    """A Bayesian version of a network. The network itself and its variables stay as they are.

    Args:
        model: a linen module, an NNX module, or a function apply(params, *inputs).
        variables: linen: the variables with "params"; function: the params; NNX: nothing.
        where: which weights become random; see `transforms.selection`.
        estimator: one of reparam, local_reparam, flipout (or a registered one) for all weights, or
            {path pattern: name}, where the first match counts; weights that none matches
            get reparam. A single name means: wherever it can be used. A weight that is used twice,
            in a loop, or on data whose examples are not on axis 0 is drawn once, by reparam;
            local_reparam becomes flipout where an example meets a weight at several positions; and
            the report says so. Named by a pattern for such a weight it is an EstimatorError.
        prior: a prior for all random weights, or a tree with one at each; by default N(0, 0.1).
            `priors.centred_on(params, std)` centres it on the given weights.
        initial_std: the posterior starts at the given weights with this std, 1e-6 at least.
        relative: initial_std is relative to each weight's magnitude. A weight of zero, as a new
            bias is, starts at 1e-6, practically deterministic.
        fresh: a key: start instead as MindSpore does, mean ~ N(0, 0.1), rho ~ N(-5, 0.1); the given
            weights count only for their shapes.
        approximate: use local_reparam where positions share weights, without their covariance.
        inputs: example inputs, a tuple. where="last" needs them, and a linen module to tell the
            types of its layers.

    Raises:
        TypeError, ValueError: a model without variables, a filter that matches nothing or chooses
            leaves that are not floating point, an unknown estimator, a prior tree that does not
            fit, inputs that are no tuple.
    """
    if not isinstance(inputs, tuple):
        raise TypeError(
            f"inputs must be a tuple of the network's arguments, inputs=(x,); got "
            f"{type(inputs).__name__}."
        )
    network = as_network(model, variables)
    chosen = set(select(where, network, inputs))
    if not initial_std > 0:
        raise ValueError(f"initial_std must be > 0, got {initial_std!r}.")
    keys = None if fresh is None else gaussian.leaf_keys(fresh, network.params)

    def start(path: Any, leaf: Any, *key: PRNGKey) -> Any:
        if gaussian.path_name(path) not in chosen:
            return leaf
        if key:
            return gaussian.init(key[0], leaf.shape, leaf.dtype)
        return gaussian.centred(leaf, initial_std, relative=relative)

    trees = (network.params,) if keys is None else (network.params, keys)
    posterior = jax.tree_util.tree_map_with_path(start, *trees)
    return BayesianModel(
        posterior=posterior,
        prior=NormalPrior() if prior is None else _fit_prior(prior, posterior),
        variables=network.variables,
        estimators=_estimators(estimator, list(gaussian.random_leaves(posterior))),
        strict=not isinstance(estimator, str),
        approximate=approximate,
        network=network,
    )


def _estimators(estimator: str | Mapping[str, str], paths: list[str]) -> dict[str, str]:
    if isinstance(estimator, str):
        return dict.fromkeys(paths, check_estimator(estimator))
    for glob, name in estimator.items():
        check_estimator(name)
        if not any(fnmatchcase(path, glob) for path in paths):
            raise ValueError(
                f"The estimator pattern {glob!r} matches no random weight; they are: "
                f"{', '.join(paths)}."
            )
    return {path: match(estimator, path) or "reparam" for path in paths}


def _fit_prior(prior: Prior | PyTree, posterior: PyTree) -> Prior | PyTree:
    """Check a prior against the posterior's shapes, before any work; trim a tree to its leaves."""
    if isinstance(prior, Prior):
        return prior
    given = priors.prior_leaves(prior)
    random = gaussian.random_leaves(posterior)
    missing = [path for path in random if path not in given]
    if missing:
        raise ValueError(
            f"The prior tree has no prior for the random weights {', '.join(missing)}; it has them "
            f"for: {', '.join(given) or 'none'}. Give one prior, or priors.centred_on(params, std)."
        )
    for path, q in random.items():
        for leaf in jax.tree.leaves(given[path]):
            try:
                fits = jnp.broadcast_shapes(jnp.shape(leaf), q.shape) == q.shape
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(
                    f"The prior of {path!r} has shape {jnp.shape(leaf)}, which does not broadcast "
                    f"to the weight's {q.shape}."
                )
    return jax.tree_util.tree_map_with_path(
        lambda path, x: given[gaussian.path_name(path)] if gaussian.is_gaussian(x) else None,
        posterior,
        is_leaf=gaussian.is_gaussian,
    )
