"""Bayes by Backprop with estimator="moments": the ELBO without samples."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from bnn_jax import NormalPrior, gaussian, infer, moments, priors, to_bnn
from bnn_jax.infer import Problem
from bnn_jax.likelihoods import Categorical, Normal
from core_helpers import data, key, random_posterior

X, Y = data(0, 16, 3), data(1, 16, 2)
NUM_DATA, NOISE, PRIOR = 64, 0.5, NormalPrior(0.0, 0.7)


def problem_of(network: Any, posterior: Any) -> Problem:
    model = to_bnn(network, gaussian.mean(posterior), where="*", prior=PRIOR, estimator="reparam")
    model = dataclasses.replace(model, posterior=posterior)
    return Problem(model, model.forward(), Normal(NOISE), NUM_DATA, 10)


def linear(params: Any, x: Any) -> Any:
    return x @ params["w"]


def hidden(params: Any, x: Any) -> Any:
    return jax.nn.relu(x @ params["first"]) @ params["last"]


LINEAR = {"w": random_posterior(2, 3, 2)}
HIDDEN = {"first": random_posterior(3, 3, 5), "last": random_posterior(4, 5, 2)}


def step_of(problem: Problem, method: Any, run_key: int = 0) -> Any:
    run = method.build(problem)
    state = run.init(key(0))
    return jax.jit(run.step)(state, key(run_key), (X, Y))


def test_a_linear_network_has_the_exact_elbo() -> None:
    _, info = step_of(problem_of(linear, LINEAR), infer.bayes_by_backprop(estimator="moments"))
    q = LINEAR["w"]
    m, v, x, y = (np.asarray(a, np.float64) for a in (q.mean, q.std**2, X, Y))
    squares = (y - x @ m) ** 2 + x**2 @ v
    nll = np.sum(0.5 * np.log(2 * np.pi * NOISE**2) + squares / (2 * NOISE**2), axis=1).mean()
    kl = 0.5 * np.sum((v + m**2) / 0.49 - 1 - np.log(v / 0.49))
    np.testing.assert_allclose(info.nll, nll, rtol=1e-5)
    np.testing.assert_allclose(info.kl, kl, rtol=1e-4)
    np.testing.assert_allclose(info.loss, nll + kl / NUM_DATA, rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "posterior"), [(linear, LINEAR), (hidden, HIDDEN)], ids=["linear", "relu"]
)
def test_the_gradient_is_the_mean_of_sampled_gradients(network: Any, posterior: Any) -> None:
    """One hidden layer has independent units, so under a Normal likelihood nothing is neglected."""
    problem = problem_of(network, posterior)
    count = 20_000

    def sampled(posterior: Any, sample_key: Any) -> Any:
        outputs, _ = problem.forward(sample_key, posterior, None, X)
        return problem.likelihood.nll(outputs, Y)

    grads = jax.jit(jax.vmap(jax.grad(sampled), in_axes=(None, 0)))(
        posterior, jax.random.split(key(5), count)
    )
    # The step of plain gradient descent with rate 1 on the data loss alone.
    method = infer.bayes_by_backprop(
        estimator="moments", optimizer=optax.sgd(1.0), dnn_factor=1.0, bnn_factor=0.0
    )
    state, _ = step_of(problem, method)
    taken = jax.tree.map(jnp.subtract, posterior, state.posterior)
    for got, many in zip(jax.tree.leaves(taken), jax.tree.leaves(grads), strict=True):
        error = np.asarray(many).std(axis=0) / np.sqrt(count)
        assert (np.abs(got - np.asarray(many).mean(axis=0)) < 5 * error + 1e-5).all()


def test_a_step_is_deterministic() -> None:
    problem = problem_of(hidden, HIDDEN)
    one, other = (
        step_of(problem, infer.bayes_by_backprop(estimator="moments"), run_key)
        for run_key in (1, 2)
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    drawn = [step_of(problem, infer.bayes_by_backprop(), run_key)[1].nll for run_key in (1, 2)]
    assert drawn[0] != drawn[1]


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Dense(6)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(3)(nn.relu(x))


def test_batch_statistics_and_metrics_are_those_at_the_means() -> None:
    network = Normalised()
    variables = network.init(key(0), X)
    model = to_bnn(network, variables, initial_std=1e-4)
    labels = jnp.arange(16) % 3

    def accuracy(outputs: Any, targets: Any) -> dict[str, Any]:
        return {"accuracy": jnp.mean(outputs.argmax(-1) == targets)}

    problem = Problem(model, model.forward(train=True), Categorical(), 64, 10, metric_fn=accuracy)
    run = infer.bayes_by_backprop(estimator="moments").build(problem)
    state, info = jax.jit(run.step)(run.init(key(0)), key(1), (X, labels))
    outputs, after = network.apply(variables, X, train=True, mutable=["batch_stats"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), state.variables, after
    )
    np.testing.assert_allclose(info.nll, Categorical().nll(outputs, labels), rtol=1e-3)
    assert info.metrics["accuracy"] == accuracy(outputs, labels)["accuracy"]


def test_it_learns_the_scale_of_the_prior() -> None:
    method = infer.bayes_by_backprop(estimator="moments", learn_prior=True)
    _, info = step_of(problem_of(hidden, HIDDEN), method)
    assert float(info.kl) < float(priors.kl_divergence(HIDDEN, PRIOR))


def test_a_network_without_rules_is_refused_when_its_shapes_are_known() -> None:
    def sorting(params: Any, x: Any) -> Any:
        return jnp.sort(x @ params["w"], axis=-1)

    problem = problem_of(sorting, LINEAR)
    problem = dataclasses.replace(problem, inputs=jax.ShapeDtypeStruct(X.shape, X.dtype))
    with pytest.raises(moments.MomentsError, match="'sort'"):
        infer.bayes_by_backprop(estimator="moments").build(problem)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": "flipout"}, "estimator must be 'moments' or None, got 'flipout'"),
        ({"estimator": "moments", "num_samples": 2}, "leave num_samples out"),
        (
            {"estimator": "moments", "num_samples": 2, "antithetic": True},
            "leave num_samples out",
        ),
        ({"estimator": "moments", "sticking_the_landing": True}, "leave sticking_the_landing out"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infer.bayes_by_backprop(**arguments)
