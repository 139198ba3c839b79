"""The data loss of deterministic variational inference: expected under moments, without samples.

    E_q[-log p(y | x, w)]   under the outputs' means and variances in place of draws of the weights

The network in training mode is interpreted by `moments.outputs`, and the likelihood is averaged by
`predictive.expected_log_prob`. Neither draws anything, so a step depends on no key, unless the
network has noise of its own (dropout) or the prior's KL is a Monte Carlo estimate.

Source: Wu, Nowozin, Meeds, Turner, Hernandez-Lobato, Gaunt 2019, "Deterministic Variational
Inference for Robust Bayesian Neural Networks", arXiv:1810.03958.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from bnn_jax import moments
from bnn_jax.infer.problem import Metrics, Problem
from bnn_jax.noise import Draw
from bnn_jax.predictive import expected_log_prob, output_points


def forward(
    problem: Problem, draw: Draw, posterior: PyTree, variables: PyTree, inputs: PyTree
) -> tuple[PyTree, PyTree]:
    """Returns the moments of the outputs, and the network's new variables at their means.

    Raises:
        MomentsError: the network has an operation without a rule.
    """

    def network(params: PyTree, variables: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        return problem.forward(draw, params, variables, inputs)

    outputs, new = moments.outputs(network, posterior, variables, inputs)
    return outputs, output_points.means(new)


def check(problem: Problem) -> None:
    """Traces the network, if the shapes of its inputs are known.

    Raises:
        MomentsError: the network has an operation without a rule.
    """
    if problem.inputs is None:
        return
    model, draw = problem.model, Draw(jax.random.key(0))
    jax.eval_shape(
        lambda inputs: forward(problem, draw, model.posterior, model.variables, inputs),
        problem.inputs,
    )


def nll(problem: Problem, outputs: PyTree, targets: Array) -> Float[Array, ""]:
    """Returns the mean over examples of the expected negative log likelihood, in nats."""
    return -jnp.mean(expected_log_prob(problem.likelihood, outputs, targets))


def metrics(problem: Problem, outputs: PyTree, targets: Array) -> Metrics:
    """Returns the problem's metrics at the means of the outputs."""
    found = problem.metric_fn
    return found(output_points.means(outputs), targets) if found else {}
