"""The posterior predictive from one pass: the outputs' means and variances, then quadrature.

`moments.outputs` gives the mean and the variance of each output. The outputs are taken to be
independent normal variables, and the likelihood is averaged over `POINTS` fixed points of them, the
same for all examples:

    outputs_s = mean + std * z_s

There is no other randomness: the result does not depend on a key. The points z are a Latin
hypercube of normal quantiles, with mean 0, variance 1 and, for few outputs, no correlation: means
and variances of the outputs are exact, and averages of functions of one output very nearly. For ten
classes the error of the probabilities is that of about 1,500 independent samples of the logits.

Under a Normal likelihood everything is in closed form: epistemic variance v, aleatoric variance a
(the mean noise variance), predictive distribution N(mean, v + a).

Source of the points: McKay, Beckman, Conover 1979, "A comparison of three methods for selecting
values of input variables in the analysis of output from a computer code".
"""

import functools
import itertools
import statistics
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, likelihoods, moments
from bnn_jax.moments import Moments
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import members, running_sums
from bnn_jax.predictive.kinds import Data
from bnn_jax.predictive.members import Members, Program
from bnn_jax.predictive.mixture_quantiles import mixture_quantile
from bnn_jax.predictive.running_sums import Function, Known

POINTS = 128


def of(
    model: object, posterior: PyTree, variables: PyTree, kwargs: Mapping[str, object]
) -> Members[PyTree]:
    """Checks the arguments of a prediction in one pass, and returns the network and its arrays.

    Raises:
        TypeError: a posterior that is not mean-field.
        ValueError: a plain function without a posterior.
    """
    if posterior is None:
        posterior = getattr(model, "posterior", None)
    if posterior is None:
        raise ValueError(
            "method='moments' needs a posterior, a params tree with Gaussian leaves: pass it as "
            "posterior=."
        )
    tree, _ = moments.mean_field_tree(posterior)
    one = 1 if gaussian.random_leaves(tree) else None
    return members.of(model, posterior, variables, one, False, kwargs)


def check_unused(num_samples: int | None, antithetic: bool, keep_samples: bool) -> None:
    """Raises a ValueError for arguments that concern weight samples."""
    given = {
        "num_samples": num_samples is not None,
        "antithetic": antithetic,
        "keep_samples": keep_samples,
    }
    for name, value in given.items():
        if value:
            raise ValueError(f"method='moments' draws no weight samples: leave {name} out.")


def summarise(
    key: PRNGKey,
    data: Data,
    x: PyTree,
    targets: Array | None,
    start: Array,
    num_samples: Array | int,
    *,
    program: Program,
    likelihood: Known | Function,
    levels: tuple[float, ...],
    stacked: int,
) -> dict[str, PyTree]:
    """Returns the summary of one chunk of examples; key, start and numbers of samples are unused.

    It takes the place of `predictor.summarise`.
    """
    network = program.network(data)
    inputs = x if isinstance(x, tuple) else (x,)
    outputs = moments.outputs(
        lambda params, *inputs: network(params, data.variables, inputs), data.posterior, *inputs
    )
    leaves, structure = jax.tree.flatten(outputs, is_leaf=lambda y: isinstance(y, Moments))
    points = _points_for(leaves)

    def at(s: Array) -> PyTree:
        """The outputs at point s."""
        values = [
            y.mean + y.std * _like(z[s], y.mean) if isinstance(y, Moments) else y
            for y, z in zip(leaves, points, strict=True)
        ]
        return jax.tree.unflatten(structure, values)

    sums = running_sums.of(likelihood)
    zero = sums.zero(jax.eval_shape(at, jnp.asarray(0)), targets)
    total = jax.lax.fori_loop(0, POINTS, lambda s, total: sums.add(total, s, at(s), targets), zero)
    summary: dict[str, PyTree] = {**sums.summary(total, jnp.asarray(POINTS)), "samples": None}
    if isinstance(likelihood, likelihoods.Normal):
        return {**summary, **_normal(likelihood, outputs, summary, targets, levels)}
    if levels and not isinstance(likelihood, likelihoods.Classification):
        values = jax.vmap(at)(jnp.arange(POINTS))
        summary["quantiles"] = jnp.stack(
            [mixture_quantile(likelihood, values, level) for level in levels]
        )
    return summary


def _normal(
    likelihood: likelihoods.Normal,
    outputs: PyTree,
    summary: Mapping[str, Array],
    targets: Array | None,
    levels: tuple[float, ...],
) -> dict[str, Array]:
    """What is exact under a Normal likelihood, given the mean variance of the noise."""
    parts = [
        jax.tree.map(
            lambda y, name=name: getattr(y, name),
            outputs,
            is_leaf=lambda y: isinstance(y, Moments),
        )
        for name in ("mean", "variance")
    ]
    # The likelihood's mean picks the location out of the outputs; of their variances, its variance.
    mean, epistemic = (likelihood.mean(part) for part in parts)
    std = jnp.sqrt(epistemic + summary["aleatoric_variance"])
    exact = {"mean": mean, "epistemic_variance": epistemic}
    if targets is not None:
        total = (mean, gaussian.rho_from_std(std))
        exact["log_prob"] = likelihoods.Normal().log_prob(total, targets)
    if levels:
        exact["quantiles"] = jnp.stack([mean + std * ndtri(level) for level in levels])
    return exact


def _like(point: Array, mean: Array) -> Array:
    """A point for the last axis of an output, the same along all others."""
    shape = (1,) * max(0, mean.ndim - 1) + point.shape
    return jnp.reshape(point, shape if mean.ndim else ()).astype(mean.dtype)


def _points_for(leaves: list[PyTree]) -> list[Array]:
    """For each output (points, size of its last axis)."""
    # An output (examples,) has one value for each example.
    sizes = [y.shape[-1] if len(y.shape) > 1 else 1 for y in leaves]
    ends = np.cumsum([0, *sizes])
    every = normal_points(int(ends[-1]))
    return [jnp.asarray(every[:, a:b]) for a, b in itertools.pairwise(ends)]


@functools.cache
def normal_points(size: int) -> Float[np.ndarray, "points size"]:
    """Returns fixed points of the standard normal distribution, the same in every process."""
    quantile = statistics.NormalDist().inv_cdf
    values = np.asarray([quantile((i + 0.5) / POINTS) for i in range(POINTS)])
    # RandomState's numbers are the same in all versions of NumPy.
    rng = np.random.RandomState(0)
    z = np.stack([rng.permutation(values) for _ in range(size)], axis=1)
    if size < POINTS // 2:
        covariance = z.T @ z / POINTS
        z = np.linalg.solve(np.linalg.cholesky(covariance), z.T).T
    return (z / z.std(axis=0)).astype(np.float32)
