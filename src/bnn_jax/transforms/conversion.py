"""Conversion of any Flax network to a Bayesian one, without changes to the network.

    model = to_bnn(module, variables)              # linen
    model = to_bnn(nnx_module)                     # NNX
    model = to_bnn(apply, params)                  # a plain function apply(params, x)

    y = model.apply(key, model.posterior, x)       # weights drawn from the posterior
    kl = model.kl(model.posterior)

Source of the start at pretrained weights: Krishnan, Subedar, Tickoo 2020, arXiv:1906.05323.
"""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath
from jaxtyping import Array, PyTree

from bnn_jax import gaussian, priors
from bnn_jax._parameters import check_key, describe
from bnn_jax.gaussian import Gaussian
from bnn_jax.interpreter.estimators import check_estimator
from bnn_jax.networks.network import as_network
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import NormalPrior, Prior
from bnn_jax.transforms.bayesian_model import BayesianModel
from bnn_jax.transforms.selection import Where, match, select

# MindSpore's initial std, softplus(-5) + 1e-6.
INITIAL_STD = 0.0067163484


def to_bnn(
    model: object,
    variables: PyTree = None,
    *,
    where: Where = "layers",
    estimator: str | Mapping[str, str] = "reparam",
    prior: Prior | PyTree | None = None,
    initial_std: float = INITIAL_STD,
    relative: bool = False,
    fresh: PRNGKey | None = None,
    approximate: bool = False,
    inputs: PyTree = (),
) -> BayesianModel:
    """Returns a Bayesian version of a network. The network and its variables do not change.

    Args:
        model: a linen module, an NNX module, or a function apply(params, *inputs).
        variables: for linen, the variables with "params"; for a function, the params; for NNX,
            None.
        where: the weights that become random; see `transforms.selection`.
        estimator: "reparam", "local_reparam", "flipout" or a registered name for all weights, or a
            dict {path pattern: name}. The first matching pattern applies; weights without a match
            use reparam. A single name applies wherever it is valid: a weight that is used twice,
            in a loop, or on data whose examples are not on axis 0 is sampled once, by reparam;
            local_reparam is replaced by flipout if an example uses a weight at several positions.
            The report lists the replacements. If a pattern names an invalid estimator for a weight,
            the forward pass raises an EstimatorError.
        prior: one prior for all random weights, or a tree with a prior for each; by default
            N(0, 0.1). `priors.centred_on(params, std)` centres the prior on the given weights.
        initial_std: the initial std of the posterior, at least 1e-6. The initial mean is the given
            weight.
        relative: initial_std is relative to the magnitude of each weight. A weight of zero, such as
            a new bias, then has an initial std of 1e-6 and is practically deterministic.
        fresh: a key. If given, the posterior is initialised as in MindSpore, mean ~ N(0, 0.1),
            rho ~ N(-5, 0.1); only the shapes of the given weights are used.
        approximate: use local_reparam also where positions share weights. It ignores the covariance
            between positions.
        inputs: a tuple of example inputs. where="last" requires them. A linen module requires them
            to determine the types of its layers.

    Raises:
        TypeError, ValueError: the model has no variables, a filter matches no weight or selects
            leaves that are not floating point, an estimator is unknown, a prior tree does not fit,
            or inputs is not a tuple.
    """
    if not isinstance(inputs, tuple):
        raise TypeError(
            f"inputs must be a tuple of the network's arguments, inputs=(x,); got "
            f"{type(inputs).__name__}."
        )
    network = as_network(model, variables)
    chosen = set(select(where, network, inputs))
    _check_options(initial_std, fresh, estimator)
    keys = None if fresh is None else gaussian.leaf_keys(fresh, network.params)

    def start(path: KeyPath, leaf: Array, *key: PRNGKey) -> Gaussian | Array:
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


def _check_options(initial_std: float, fresh: object, estimator: object) -> None:
    plain = isinstance(initial_std, int | float | np.number) and not isinstance(initial_std, bool)
    if not plain and not (isinstance(initial_std, jax.Array) and initial_std.ndim == 0):
        raise TypeError(f"initial_std must be a number, got {describe(initial_std)}.")
    if not 0 < initial_std < math.inf:
        raise ValueError(f"initial_std must be positive and finite, got {initial_std!r}.")
    if fresh is not None:
        check_key(fresh, "to_bnn(..., fresh=key)")
    if not isinstance(estimator, str | Mapping):
        raise TypeError(
            f"estimator must be a name, or a mapping {{pattern: name}}, got {describe(estimator)}."
        )


def _estimators(estimator: str | Mapping[str, str], paths: list[str]) -> dict[str, str]:
    if isinstance(estimator, str):
        return dict.fromkeys(paths, check_estimator(estimator))
    for glob, name in estimator.items():
        check_estimator(name)
        if not any(fnmatchcase(path, glob) for path in paths):
            raise ValueError(
                f"The estimator pattern {glob!r} matches no random weight. The random weights are: "
                f"{', '.join(paths)}."
            )
    return {path: match(estimator, path) or "reparam" for path in paths}


def _fit_prior(prior: Prior | PyTree, posterior: PyTree) -> Prior | PyTree:
    """Checks a prior against the shapes of the posterior, and returns it for the random leaves."""
    if isinstance(prior, type | str | int | float):
        raise TypeError(
            "prior must be a prior such as NormalPrior(std=1.0), or a tree of them, got "
            f"{describe(prior)}."
        )
    if isinstance(prior, Prior):
        return prior
    given = priors.prior_leaves(prior)
    random = gaussian.random_leaves(posterior)
    missing = [path for path in random if path not in given]
    if missing:
        raise ValueError(
            f"The prior tree has no prior for the random weights {', '.join(missing)}; it has "
            f"priors for: {', '.join(given) or 'none'}. Pass one prior for all weights, or "
            "priors.centred_on(params, std)."
        )
    for path, q in random.items():
        for leaf in jax.tree.leaves(given[path]):
            try:
                fits = jnp.broadcast_shapes(jnp.shape(leaf), q.shape) == q.shape
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(
                    f"The prior of {path!r} has the shape {jnp.shape(leaf)}, which does not "
                    f"broadcast to the shape {q.shape} of the weight."
                )
    return jax.tree_util.tree_map_with_path(
        lambda path, x: given[gaussian.path_name(path)] if gaussian.is_gaussian(x) else None,
        posterior,
        is_leaf=gaussian.is_gaussian,
    )
