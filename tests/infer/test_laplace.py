"""The Laplace approximation against closed forms and the flat generalised Gauss-Newton matrix."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from laplace_cases import (
    LIKELIHOODS,
    NOISE,
    PRIOR,
    X,
    all_paths,
    batches,
    covariance,
    finished,
    flat_ggn,
    inverse,
    paths_and_places,
    problem,
    summed,
    whole,
)

from bnn_jax import NormalPrior, infer, likelihoods, to_bnn
from bnn_jax.infer import Problem


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_diagonal_is_that_of_the_flat_ggn(name: str) -> None:
    of = problem(name)
    sums, totals = summed(of, "diagonal", batches(name))
    found = np.concatenate([np.ravel(totals[path]) for path in sums.shapes])
    np.testing.assert_allclose(found, np.diag(flat_ggn(name)), rtol=1e-4, atol=1e-5)
    assert set(sums.taps) == {path for path in all_paths(of) if path.endswith("kernel")}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_last_layer_is_the_block_of_the_flat_ggn(name: str) -> None:
    of = problem(name)
    method = infer.laplace(prior_precision="prior", predictive="sampled")
    _, posterior = finished(method, of, batches(name))
    places = np.concatenate([p for path, p in paths_and_places(of.params) if "last" in path])
    block = flat_ggn(name)[np.ix_(places, places)]
    found = covariance(posterior)
    np.testing.assert_allclose(found[np.ix_(places, places)], inverse(block), rtol=1e-3, atol=1e-4)
    assert np.count_nonzero(found.diagonal()) == len(places)
    assert posterior.structure() == {"last/bias": "full", "last/kernel": "full"}


def test_full_curvature_of_layers_with_positions_is_the_flat_ggn() -> None:
    of = problem()
    _, totals = summed(of, "full", [whole("categorical")])
    np.testing.assert_allclose(totals["full"], flat_ggn("categorical"), rtol=1e-3, atol=1e-4)


def test_a_random_last_layer_alone_serves() -> None:
    of = problem(last_only=True)
    method = infer.laplace(prior_precision="prior")
    _, alone = finished(method, of, batches("categorical"))
    _, chosen = finished(method, problem(), batches("categorical"))
    np.testing.assert_allclose(covariance(alone), covariance(chosen), rtol=1e-5)


@pytest.mark.parametrize("layer", ["hidden/kernel", "last/kernel"])
def test_kronecker_factors_are_the_exact_block_of_one_example(layer: str) -> None:
    of = problem(examples=1)
    method = infer.laplace(curvature="kronecker", prior_precision="prior", predictive="sampled")
    _, posterior = finished(method, of, batches("categorical", 1))
    places = dict(paths_and_places(of.params))[layer]
    block = flat_ggn("categorical", 1)[np.ix_(places, places)]
    found = covariance(posterior)[np.ix_(places, places)]
    np.testing.assert_allclose(found, inverse(block), rtol=1e-3, atol=1e-4)
    kinds = {path: "kronecker" if "kernel" in path else "diagonal" for path in all_paths(of)}
    assert posterior.structure() == kinds


def test_kronecker_factors_of_a_convolution_average_over_positions() -> None:
    """Grosse and Martens 2016, equations 24 and 25, from explicit patches."""
    of = problem("normal")
    sums, totals = summed(of, "kronecker", [whole("normal")], {"conv/kernel"})
    patches = np.stack([X, np.pad(X, ((0, 0), (0, 1)))[:, 1:]], axis=-1)
    inputs, outputs = totals["conv/kernel"]
    expected = np.einsum("nti,ntj->ij", patches, patches)
    np.testing.assert_allclose(inputs, expected, rtol=1e-5)
    assert sums.taps["conv/kernel"].positions == 3
    # By a shift of the convolution's output at one position at a time, through the bias.
    rest = {k: v for k, v in of.params.items() if k != "conv"}

    def network(shift: Any, x: Any) -> Any:
        h = jax.lax.conv_general_dilated(
            x[None, :, None], of.params["conv"]["kernel"], (1,), "SAME",
            dimension_numbers=("NWC", "WIO", "NWC"),
        )  # fmt: skip
        h = jnp.tanh(h + of.params["conv"]["bias"][None, None] + shift[None])
        for name in ("shared", "hidden"):
            h = h.reshape(1, -1) if name == "hidden" else h
            bias = rest[name]["bias"]
            h = jnp.tanh(h @ rest[name]["kernel"] + bias.reshape((1,) * (h.ndim - 1) + bias.shape))
        return h @ rest["last"]["kernel"]

    jacobians = jax.vmap(lambda x: jax.jacrev(network)(jnp.zeros((3, 2)), x))(jnp.asarray(X))
    expected = np.einsum("nactp,nactq->pq", jacobians, jacobians) / NOISE**2
    np.testing.assert_allclose(outputs, expected, rtol=1e-4)


@functools.cache
def linear(prior: float = PRIOR) -> tuple[Problem, Any, Any, np.ndarray, np.ndarray]:
    """Linear regression: the problem, its data, the exact mean and covariance of (bias, kernel)."""
    y = (X @ np.array([[0.5, 1.0], [-1.0, 0.2], [0.3, 0.0]]) + 0.1).astype(np.float32)
    y = y + NOISE * np.random.default_rng(3).normal(size=y.shape).astype(np.float32)
    network = nn.Dense(2)
    model = to_bnn(
        network, network.init(jax.random.key(0), X), where="*", prior=NormalPrior(std=prior)
    )
    of = Problem(model, model.forward(), likelihoods.Normal(NOISE), 12, 10)
    design = np.concatenate([np.ones((12, 1)), X], axis=1).astype(np.float64)
    # The targets are independent, so a weight's index is (input, target).
    precision = np.kron(design.T @ design, np.eye(2)) / NOISE**2 + np.eye(8) / prior**2
    exact = np.linalg.solve(precision, (design.T @ y).ravel() / NOISE**2)
    return of, (jnp.asarray(X), jnp.asarray(y)), exact, np.linalg.inv(precision), design


def linear_params(mean: Any) -> Any:
    return {
        "bias": jnp.asarray(mean[:2], jnp.float32),
        "kernel": jnp.asarray(mean[2:].reshape(3, 2), jnp.float32),
    }


def test_it_is_exact_for_conjugate_linear_regression() -> None:
    of, data, mean, exact, design = linear()
    method = infer.laplace(prior_precision="prior", learning_rate=0.1)
    state, posterior = finished(method, of, [data], linear_params(mean))
    np.testing.assert_allclose(covariance(posterior), exact, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(ravel_pytree(posterior.mean())[0], mean, rtol=1e-4)
    # The evidence is the density of the targets, normal with this covariance.
    y = np.asarray(data[1], np.float64)
    of_target = NOISE**2 * np.eye(12) + PRIOR**2 * design @ design.T
    _, log_det = np.linalg.slogdet(2 * np.pi * of_target)
    log_density = -0.5 * (2 * log_det + np.sum(y * np.linalg.solve(of_target, y)))
    np.testing.assert_allclose(state.log_evidence, log_density, rtol=1e-4)


def test_kronecker_factors_of_a_linear_network_are_exact() -> None:
    of, data, mean, _, design = linear()
    method = infer.laplace(curvature="kronecker", prior_precision="prior")
    _, posterior = finished(method, of, [data], linear_params(mean))
    precision = np.kron(design[:, 1:].T @ design[:, 1:], np.eye(2)) / NOISE**2
    np.testing.assert_allclose(covariance(posterior)[2:, 2:], inverse(precision), rtol=1e-4)


def test_logistic_regression_has_the_closed_form_of_laplace() -> None:
    y = jnp.asarray((X[:, 0] > 0.2).astype(np.float32))
    x = jnp.asarray(X[:, :2])

    def network(params: Any, x: Any) -> Any:
        return x @ params["w"]

    def energy(w: Any) -> Any:
        return jnp.sum(jax.nn.softplus(x @ w) - y * (x @ w)) + 0.5 * jnp.sum(w**2) / PRIOR**2

    w = jnp.zeros(2)
    for _ in range(20):
        w = w - jnp.linalg.solve(jax.hessian(energy)(w), jax.grad(energy)(w))
    model = to_bnn(network, {"w": w}, where="*", prior=NormalPrior(std=PRIOR))
    of = Problem(model, model.forward(), likelihoods.Bernoulli(), 12, 10)
    _, posterior = finished(infer.laplace(prior_precision="prior"), of, [(x, y)])
    exact = jnp.linalg.inv(jax.hessian(energy)(w))
    np.testing.assert_allclose(covariance(posterior), exact, rtol=1e-4)
