"""The losses are those of the article, by quadrature and in float64, and MindSpore's when asked."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from bnn_jax.toolbox import aleatoric_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "aleatoric_classification.npz"


def example(classes: int = 4, n: int = 6, draws: int = 7) -> tuple[Any, ...]:
    rng = np.random.default_rng(classes)
    logits = 2 * rng.normal(size=(n, classes))
    std = np.exp(rng.normal(size=(n, classes)))
    return logits, std, rng.integers(0, classes, n), rng.normal(size=(draws, n, classes))


def given(*arrays: np.ndarray) -> list[jax.Array]:
    return [
        jnp.asarray(a, jnp.int32 if np.issubdtype(a.dtype, np.integer) else jnp.float32)
        for a in arrays
    ]


def test_classification_is_mindspores_with_its_average_and_its_noise() -> None:
    with np.load(GOLDEN) as file:
        logits, std, labels, eps, loss = (file[k] for k in ("y_pred", "var", "y", "eps", "loss"))
    shared = eps.reshape(10, 1, 1)
    got = aleatoric_loss.classification(*given(logits, std, labels, shared), average="losses")
    assert float(got) == pytest.approx(float(loss), rel=1e-6)
    article = aleatoric_loss.classification(*given(logits, std, labels, shared))
    assert float(article) < 0.95 * float(loss)


@pytest.mark.parametrize("average", ["probabilities", "losses"])
def test_classification_is_the_plain_formula(average: Any) -> None:
    logits, std, labels, noise = example()
    p = scipy.special.softmax(logits + std * noise, axis=-1)[:, np.arange(6), labels]
    exact = {"probabilities": -np.log(p.mean(axis=0)).mean(), "losses": -np.log(p).mean()}
    got = aleatoric_loss.classification(*given(logits, std, labels, noise), average=average)
    assert float(got) == pytest.approx(exact[average], rel=1e-5)


def test_many_draws_give_the_expected_probability() -> None:
    # The difference of two noisy logits is normal, so the expectation is an integral over one.
    logits, std, labels = np.asarray([[1.0, -0.5]]), np.asarray([[0.7, 2.0]]), np.asarray([1])
    draws = np.random.default_rng(0).normal(size=(20_000, 1, 2))
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    spread = np.sqrt(np.sum(std**2))
    values = scipy.special.expit(-1.5 + spread * z)
    weight = weight / weight.sum()
    mean = np.sum(weight * values)
    error = np.sqrt(np.sum(weight * values**2) - mean**2) / np.sqrt(len(draws))
    got = np.exp(-float(aleatoric_loss.classification(*given(logits, std, labels, draws))))
    assert abs(got - mean) < 5 * error
    # Noise shared by the logits cancels in part, which is a different distribution.
    shared = np.sum(weight * scipy.special.expit(-1.5 + (std[0, 1] - std[0, 0]) * z))
    assert abs(shared - mean) > 20 * error


def test_a_mean_of_losses_only_ever_wants_less_noise() -> None:
    # Sure of class 0, which is the label in eight cases of ten.
    logits, labels = np.tile([[8.0, 0.0, 0.0]], (10, 1)), np.asarray([0] * 8 + [1] * 2)
    noise = np.random.default_rng(0).normal(size=(100, 10, 3))
    pairs = np.concatenate([noise, -noise])

    def loss(scale: float, average: Any) -> float:
        args = given(logits, np.full(logits.shape, scale), labels, pairs)
        return float(aleatoric_loss.classification(*args, average=average))

    losses = [loss(scale, "losses") for scale in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)]
    assert losses == sorted(losses)
    # The article's has a best noise.
    none, some, too_much = (loss(scale, "probabilities") for scale in (0.0, 5.0, 1000.0))
    assert some < 0.7 * none
    assert some < 0.7 * too_much


def test_regression_is_the_gaussian_likelihood() -> None:
    rng = np.random.default_rng(0)
    f, s, y = rng.normal(size=(3, 8, 2))
    exact = -scipy.stats.norm.logpdf(y, f, np.exp(s / 2)).mean() - 0.5 * np.log(2 * np.pi)
    assert float(aleatoric_loss.regression(*given(f, s, y))) == pytest.approx(exact, rel=1e-5)


def test_regression_is_least_at_the_squared_error() -> None:
    f, y = given(np.asarray([[0.0], [1.0]]), np.asarray([[0.3], [-1.0]]))
    best = jnp.log(jnp.square(y - f))
    slope = jax.grad(aleatoric_loss.regression, argnums=1)(f, best, y)
    np.testing.assert_allclose(slope, np.zeros((2, 1)), atol=1e-6)
    for other in (best + 0.1, best - 0.1):
        assert aleatoric_loss.regression(f, other, y) > aleatoric_loss.regression(f, best, y)


def test_large_logits_and_noise_stay_finite() -> None:
    args = given(np.asarray([[500.0, -500.0]]), np.full((1, 2), 1e3), np.asarray([1]))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(10, 1, 2)), jnp.float32)
    value, grads = jax.value_and_grad(aleatoric_loss.classification, argnums=(0, 1))(*args, noise)
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in (value, *grads))


def test_wrong_arguments_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the types that are checked in the tests alone, as users have it.
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    y = jnp.zeros((4, 1))
    with pytest.raises(ValueError, match=r"same shape, got .*\(4, 1\).*\(4, 2\)"):
        aleatoric_loss.regression(y, y, jnp.zeros((4, 2)))
    args = given(*example())
    with pytest.raises(ValueError, match="average must be"):
        aleatoric_loss.classification(*args, average="mean")
