"""The loss against quadrature, SciPy and the marginal likelihood."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from bnn_jax.infer import ELBO
from bnn_jax.infer.elbo import kl_divergence, squared_error
from vae_helpers import factor_model

rng = np.random.default_rng(0)


def test_kl_is_its_integral() -> None:
    """Gauss-Hermite quadrature is exact here: log q - log p is a polynomial of degree two."""
    mean, std = rng.normal(size=(4, 3)), np.exp(rng.normal(size=(4, 3)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    z = mean[..., None] + std[..., None] * nodes
    log_q = stats.norm.logpdf(z, mean[..., None], std[..., None])
    exact = np.sum((log_q - stats.norm.logpdf(z)) @ weights / np.sqrt(2 * np.pi), axis=1)
    ours = kl_divergence(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
    np.testing.assert_allclose(ours, exact, rtol=2e-6)


@pytest.mark.parametrize("std", [1e-20, 0.0, 1e18])
def test_kl_and_its_gradient_are_finite_for_extreme_std(std: float) -> None:
    value, slope = jax.value_and_grad(lambda s: kl_divergence(jnp.zeros((1, 1)), s)[0])(
        jnp.full((1, 1), std)
    )
    exact = 0.5 * std**2 - 0.5 - np.log(max(std, float(jnp.finfo(jnp.float32).tiny)))
    assert float(value) == pytest.approx(exact, rel=1e-6)
    assert np.isfinite(slope).all()


def test_squared_error_is_the_log_density_up_to_its_constant() -> None:
    x, r = rng.normal(size=(2, 3, 4, 5, 2))
    log_density = stats.norm.logpdf(x, r, np.sqrt(0.5)).sum(axis=(1, 2, 3))
    exact = -log_density - 40 / 2 * np.log(np.pi)
    ours = squared_error(jnp.asarray(x, jnp.float32), jnp.asarray(r, jnp.float32))
    np.testing.assert_allclose(ours, exact, rtol=2e-6)


def test_the_elbo_of_the_exact_posterior_is_the_log_likelihood() -> None:
    """For a linear model, in expectation over the codes; 5 standard errors."""
    vae, mean, covariance = factor_model()
    x = np.asarray([[1.0, -0.5, 0.3, 2.0, 0.0]])
    exact = -stats.multivariate_normal(mean, covariance).logpdf(x) - 2.5 * np.log(np.pi)
    elbo, one = ELBO(), jnp.asarray(x, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 5000)
    losses = np.asarray(jax.vmap(lambda key: elbo(vae(key, one)))(keys), np.float64)
    assert abs(losses.mean() - exact) < 5 * losses.std() / np.sqrt(5000)
    assert losses.std() > 0.1


def test_the_loss_is_summed_over_the_batch_and_ignores_the_label() -> None:
    r, x = jnp.asarray(rng.normal(size=(2, 6, 3)), jnp.float32)
    mean, std = jnp.asarray(rng.normal(size=(2, 6, 2)), jnp.float32) ** 2
    whole = ELBO()((r, x, mean, std), jnp.arange(6))
    parts = [ELBO()(tuple(a[i : i + 1] for a in (r, x, mean, std))) for i in range(6)]
    assert float(whole) == pytest.approx(float(sum(parts, start=jnp.zeros(()))), rel=1e-6)


def test_half_precision_is_summed_in_float32() -> None:
    x = jnp.full((1, 4096), 1.0, jnp.float16)
    assert float(squared_error(x, jnp.zeros_like(x))[0]) == 4096.0
    assert squared_error(x, jnp.zeros_like(x)).dtype == jnp.float32


def test_other_shapes_are_not_broadcast() -> None:
    x = jnp.zeros((5, 4, 4, 1))
    with pytest.raises(ValueError, match=r"shape of x, \(5, 4, 4, 1\), got \(5, 16\)"):
        squared_error(x, jnp.zeros((5, 16)))


@pytest.mark.parametrize("name", ["latent_prior", "output_prior"])
def test_other_priors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {name: "Bernoulli"}
    with pytest.raises(ValueError, match=f"supports only {name}='Normal', got 'Bernoulli'"):
        ELBO(**arguments)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    arguments[name] = None
    with pytest.raises(ValueError, match=f"only {name}='Normal', got None"):
        ELBO(**arguments)
