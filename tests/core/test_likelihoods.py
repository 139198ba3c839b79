"""Likelihoods against SciPy, in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bnn_jax import likelihoods, to_bnn, train
from bnn_jax.likelihoods import Bernoulli, Categorical, Normal, Poisson, StudentT
from core_helpers import data, key

N = 6
F = np.asarray(data(0, N, 2), np.float64)  # locations, logits or log rates
RHO = np.asarray(data(1, N, 2), np.float64)
Y = np.asarray(data(2, N, 2), np.float64)
COUNTS = np.array([[0, 3], [1, 0], [7, 2], [0, 0], [4, 1], [2, 9]])
SCALE = np.log1p(np.exp(RHO)) + 1e-6


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def outputs(*arrays: Any) -> Any:
    return tuple(map(jnp.asarray, arrays)) if len(arrays) > 1 else jnp.asarray(arrays[0])


CASES = {
    "normal, fixed": (Normal(std=0.3), outputs, (F,), Y, stats.norm(F, 0.3)),
    "normal, pair": (Normal(), outputs, (F, RHO), Y, stats.norm(F, SCALE)),
    "student, fixed": (StudentT(df=3.5, scale=0.3), outputs, (F,), Y, stats.t(3.5, F, 0.3)),
    "student, pair": (StudentT(df=1.5), outputs, (F, RHO), Y, stats.t(1.5, F, SCALE)),
    "poisson": (Poisson(), outputs, (F,), COUNTS, stats.poisson(np.exp(F))),
}


@pytest.mark.parametrize("name", CASES)
def test_regression(name: str) -> None:
    likelihood, make, arrays, y, distribution = CASES[name]
    out = make(*arrays)
    assert isinstance(likelihood, likelihoods.Regression)
    expected = (distribution.logpmf if likelihood.integers else distribution.logpdf)(y).sum(axis=1)
    np.testing.assert_allclose(likelihood.log_prob(out, jnp.asarray(y)), expected, rtol=1e-12)
    np.testing.assert_allclose(likelihood.nll(out, jnp.asarray(y)), -expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(
        likelihood.mean(out),
        np.broadcast_to(distribution.mean(), F.shape) if ("student" not in name) else F,
        rtol=1e-12,
    )
    variance = np.where(
        np.isnan(distribution.var()), np.inf, distribution.var()
    )  # SciPy has no variance at df <= 1
    np.testing.assert_allclose(likelihood.variance(out), variance * np.ones_like(F), rtol=1e-12)
    values = np.linspace(-4.0, 6.0, N * 2).reshape(N, 2)
    np.testing.assert_allclose(
        likelihood.cdf(out, jnp.asarray(values)), distribution.cdf(values), rtol=1e-9, atol=1e-15
    )


def test_students_far_tails_keep_their_digits() -> None:
    values = np.array([[-1e6, -50.0], [-1.0, -1e-8], [0.0, 1e-8], [1.0, 30.0]])
    distribution = StudentT(df=4.0, scale=1.0)
    got = distribution.cdf(jnp.zeros((4, 2)), jnp.asarray(values))
    np.testing.assert_allclose(got, stats.t(4.0).cdf(values), rtol=1e-10)


def test_one_array_holds_means_and_then_rhos() -> None:
    both = jnp.concatenate([jnp.asarray(F), jnp.asarray(RHO)], axis=-1)
    np.testing.assert_array_equal(
        Normal().log_prob(both, jnp.asarray(Y)), Normal().log_prob(outputs(F, RHO), jnp.asarray(Y))
    )


def test_a_learned_rho_is_shared_by_all_examples() -> None:
    for rho in (jnp.asarray(-1.0), jnp.asarray([-1.0, 0.5])):
        whole = jnp.broadcast_to(rho, F.shape)
        np.testing.assert_array_equal(
            Normal().log_prob((jnp.asarray(F), rho), jnp.asarray(Y)),
            Normal().log_prob((jnp.asarray(F), whole), jnp.asarray(Y)),
        )


def test_learned_noise_is_found() -> None:
    with jax.enable_x64(False):
        x = data(3, 4000, 1)
        y = 2.0 * x + 0.25 * data(4, 4000, 1)

        def network(params: Any, inputs: Any) -> Any:
            return inputs @ params["kernel"], params["rho"]

        import optax

        params = {"kernel": jnp.zeros((1, 1)), "rho": jnp.zeros((1,))}
        model = to_bnn(network, params, where=["kernel"], initial_std=0.01)
        optimizer = optax.adam(0.05)
        step = jax.jit(
            train.build_step(model.forward(), Normal().nll, optimizer, model.prior, num_data=len(x))
        )
        state = train.init(model.posterior, optimizer)
        for _ in range(300):
            state, _ = step(state, key(0), (x, y))
        noise = jax.nn.softplus(state.posterior["rho"])[0] + 1e-6
        # The maximum likelihood of a std over n examples varies by std / sqrt(2 n).
        residual = jnp.std(y - 2.0 * x)
        assert abs(noise - residual) < 5 * 0.25 / np.sqrt(2 * len(x))


def test_categorical() -> None:
    logits = np.asarray(data(0, N, 3, 4), np.float64)
    labels = np.arange(N * 3).reshape(N, 3) % 4
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(p, labels[..., None], axis=-1)[..., 0]
    likelihood = Categorical()
    np.testing.assert_allclose(
        likelihood.log_prob(jnp.asarray(logits), jnp.asarray(labels)),
        np.log(chosen).sum(axis=1),
        rtol=1e-12,
    )
    got = likelihood.probabilities(jnp.asarray(logits))
    np.testing.assert_allclose(got, p, rtol=1e-12)
    np.testing.assert_allclose(likelihood.entropy(got), stats.entropy(p, axis=-1), rtol=1e-12)


def test_masked_classes_have_no_entropy() -> None:
    logits = jnp.asarray([[0.0, -jnp.inf, 0.0]])
    p = Categorical().probabilities(logits)
    np.testing.assert_allclose(Categorical().entropy(p), np.log(2.0), rtol=1e-12)


def test_bernoulli() -> None:
    p = 1 / (1 + np.exp(-F))
    y = (Y > 0).astype(int)
    likelihood = Bernoulli()
    expected = stats.bernoulli(p).logpmf(y).sum(axis=1)
    np.testing.assert_allclose(
        likelihood.log_prob(jnp.asarray(F), jnp.asarray(y)), expected, rtol=1e-12
    )
    np.testing.assert_allclose(likelihood.probabilities(jnp.asarray(F)), p, rtol=1e-12)
    np.testing.assert_allclose(
        likelihood.entropy(jnp.asarray(p)), stats.bernoulli(p).entropy(), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Normal(std=0.0), "Normal: std must be positive and finite, got 0.0"),
        (lambda: Normal(std=1.0).log_prob(jnp.ones((5, 1)), jnp.ones(5)), r"shape \(5, 1\)"),
        (lambda: Categorical().log_prob(jnp.ones((5, 3)), jnp.ones((5, 1), int)), r"shape \(5,\)"),
        (lambda: Normal().mean(jnp.ones((5, 3))), "its size must be even"),
        (lambda: Normal().mean((jnp.ones(5), jnp.ones(5), jnp.ones(5))), "got 3 values"),
        (lambda: Normal(std=1.0).mean((jnp.ones(5), jnp.ones(5))), "returns a pair"),
    ],
)
def test_bad_input_is_an_error(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_divides_the_logits(temperature: float) -> None:
    likelihood = Categorical(temperature=temperature)
    z = F / temperature
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = np.arange(N) % 2
    logits = jnp.asarray(F)
    np.testing.assert_allclose(likelihood.probabilities(logits), p, rtol=1e-12)
    expected = np.log(p[np.arange(N), labels])
    np.testing.assert_allclose(
        likelihood.log_prob(logits, jnp.asarray(labels)), expected, rtol=1e-12
    )
