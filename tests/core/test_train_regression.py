"""Training on Bayesian linear regression arrives at the exact posterior and evidence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnn_jax import functional, train
from bnn_jax.gaussian import Gaussian
from bnn_jax.priors import NormalPrior
from core_helpers import ESTIMATORS, key

# y = X w + noise, w ~ N(0, prior_std). With orthogonal columns the exact posterior is a product of
# normals, so the best factorised posterior is exact and the ELBO is the log evidence.

N, NOISE, PRIOR_STD = 32, 0.5, 2.0


def regression() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    q, _ = np.linalg.qr(rng.normal(size=(N, 3)))
    x = q * np.asarray([4.0, 2.0, 1.0])
    y = x @ np.asarray([[1.0], [-2.0], [1.5]]) + NOISE * rng.normal(size=(N, 1))
    return x, y


def closed_form() -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior mean and std, and the log evidence in nats."""
    x, y = regression()
    precision = np.sum(x**2, axis=0) / NOISE**2 + 1 / PRIOR_STD**2
    mean = (x.T @ y)[:, 0] / NOISE**2 / precision
    covariance = NOISE**2 * np.eye(N) + PRIOR_STD**2 * x @ x.T
    _, logdet = np.linalg.slogdet(2 * np.pi * covariance)
    evidence = -0.5 * (logdet + y[:, 0] @ np.linalg.solve(covariance, y[:, 0]))
    return mean, precision**-0.5, float(evidence)


def gaussian_nll(outputs: Any, labels: Any) -> Any:
    squares = ((outputs - labels) / NOISE) ** 2
    return jnp.mean(0.5 * squares) + 0.5 * np.log(2 * np.pi * NOISE**2)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "dtype",
    [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.float64],
    ids=["float32", "float64"],
)
def test_linear_regression_arrives_at_the_closed_form(estimator: str, dtype: Any) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        x, y = (jnp.asarray(a, dtype) for a in regression())
        mean, std, evidence = closed_form()

        def forward(k: Any, q: Any, variables: Any, inputs: Any) -> Any:
            layer = functional.dense(k, q, inputs, estimator=estimator)
            return layer, variables

        steps, samples = 50_000, 8
        optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))
        prior = NormalPrior(0.0, PRIOR_STD)
        step = train.build_step(
            forward,
            gaussian_nll,
            optimizer,
            prior,
            num_data=N,
            num_samples=samples,
            antithetic=True,
        )
        q = {"kernel": Gaussian(jnp.zeros((3, 1), dtype), jnp.full((3, 1), -1.0, dtype))}

        @jax.jit
        def run(state: train.State, run_key: Any) -> Any:
            return jax.lax.scan(lambda s, _: step(s, run_key, (x, y)), state, None, length=steps)

        state, info = run(train.init(q, optimizer), key(0))
        got = state.posterior["kernel"]
        assert got.mean.dtype == dtype
        np.testing.assert_allclose(got.mean[:, 0], mean, rtol=0.01)
        np.testing.assert_allclose(got.std[:, 0], std, rtol=0.01)
        # The loss is the negative ELBO per example.
        elbo = -N * np.asarray(info.loss[-1000:], np.float64).mean()
        assert elbo == pytest.approx(evidence, rel=0.01)
        assert int(state.step) == steps
