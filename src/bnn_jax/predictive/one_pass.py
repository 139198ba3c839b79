"""The posterior predictive from one pass: the outputs' means and variances, then quadrature.

`moments.outputs` gives the mean and the variance of each output. The outputs are taken to be
independent normal variables, and the likelihood is averaged over `POINTS` fixed points of them, the
same for all examples:

    outputs_s = mean + std * z_s

There is no other randomness: the result does not depend on a key. See `output_points` for the
points z.

Under a Normal likelihood everything is in closed form: epistemic variance v, aleatoric variance a
(the mean noise variance), predictive distribution N(mean, v + a).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, PyTree

from bnn_jax import gaussian, likelihoods, moments
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import members, output_points, running_sums
from bnn_jax.predictive.kinds import Data
from bnn_jax.predictive.members import Members, Program
from bnn_jax.predictive.mixture_quantiles import mixture_quantile
from bnn_jax.predictive.output_points import POINTS
from bnn_jax.predictive.running_sums import Function, Known


def of(
    model: object, posterior: PyTree, variables: PyTree, kwargs: Mapping[str, object]
) -> Members[PyTree]:
    """Checks the arguments of a prediction in one pass, and returns the network and its arrays.

    Raises:
        TypeError: a posterior that is not mean-field.
        ValueError: a plain function without a posterior.
    """
    posterior = mean_field("moments", model, posterior)
    tree, _ = moments.mean_field_tree(posterior)
    one = 1 if gaussian.random_leaves(tree) else None
    return members.of(model, posterior, variables, one, False, kwargs)


def mean_field(method: str, model: object, posterior: PyTree) -> PyTree:
    """Returns the posterior, by default the model's, if moments can be propagated from it.

    Raises:
        TypeError: a posterior that is not mean-field.
        ValueError: a plain function without a posterior.
    """
    if posterior is None:
        posterior = getattr(model, "posterior", None)
    if posterior is None:
        raise ValueError(
            f"method={method!r} needs a posterior, a params tree with Gaussian leaves: pass it as "
            "posterior=."
        )
    moments.mean_field_tree(posterior)
    return posterior


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
    at = output_points.at_points(outputs)
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
    # The likelihood's mean picks the location out of the outputs; of their variances, its variance.
    mean = likelihood.mean(output_points.means(outputs))
    epistemic = likelihood.mean(output_points.variances(outputs))
    std = jnp.sqrt(epistemic + summary["aleatoric_variance"])
    exact = {"mean": mean, "epistemic_variance": epistemic}
    if targets is not None:
        total = (mean, gaussian.rho_from_std(std))
        exact["log_prob"] = likelihoods.Normal().log_prob(total, targets)
    if levels:
        exact["quantiles"] = jnp.stack([mean + std * ndtri(level) for level in levels])
    return exact
