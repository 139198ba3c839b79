"""The fitted temperature is the minimum of the negative log likelihood."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from metric_examples import assert_jit_is_the_same, assert_weights_repeat, expected
from metric_examples import unchecked as unchecked
from metric_examples import x64 as x64

from bnn_jax.toolbox import metrics, temperature


def example(true: float, n: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / true)."""
    rng = np.random.default_rng(3)
    logits = 3 * rng.normal(size=(n, classes)) + 10 * rng.normal(size=(n, 1))
    gumbel = rng.gumbel(size=logits.shape)
    return logits, np.argmax(logits / true + gumbel, axis=1)


def best(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    def slope(beta: float) -> float:
        p = scipy.special.softmax(beta * logits, axis=1)
        gap = np.sum(p * logits, axis=1) - logits[np.arange(len(labels)), labels]
        return float(np.average(gap, weights=weights))

    return 1 / scipy.optimize.brentq(slope, 1e-3, 1e3, xtol=1e-15, rtol=1e-14)


@pytest.mark.parametrize("true", [0.1, 0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_fit_is_the_minimum(true: float, weighted: bool) -> None:
    logits, labels = example(true)
    w = np.random.default_rng(4).random(len(labels)) if weighted else None
    got = temperature.fit_temperature(logits, labels, weights=w)
    assert float(got) == pytest.approx(best(logits, labels, w), rel=1e-10)


@pytest.mark.parametrize("true", [0.5, 2.0])
def test_a_known_temperature_is_recovered(true: float) -> None:
    logits, labels = example(true, n=40_000)
    got = float(temperature.fit_temperature(logits, labels))
    # Its standard error: 1 / sqrt(n * Fisher information of beta), in relative terms.
    p = scipy.special.softmax(logits / true, axis=1)
    variance = np.sum(p * logits**2, axis=1) - np.sum(p * logits, axis=1) ** 2
    error = true / np.sqrt(variance.sum())
    assert got == pytest.approx(true, rel=5 * error)
    assert error < 0.01


def test_the_number_of_torch_uncertainty() -> None:
    inputs, numbers = expected()
    got = temperature.fit_temperature(inputs["logits"], inputs["labels"])
    assert float(got) == pytest.approx(float(numbers["temperature"]), rel=1e-4)


def test_probabilities_serve_as_logits() -> None:
    logits, labels = example(2.0)
    p = scipy.special.softmax(logits, axis=1)
    fitted = temperature.fit_temperature(temperature.log_probabilities(p), labels)
    assert float(fitted) == pytest.approx(best(logits, labels), rel=1e-10)
    scaled = temperature.apply_temperature(temperature.log_probabilities(p), fitted)
    np.testing.assert_allclose(
        scaled, scipy.special.softmax(logits / float(fitted), axis=1), rtol=1e-9
    )
    assert float(metrics.nll(scaled, labels)) < float(metrics.nll(p, labels)) - 0.1
    assert float(metrics.accuracy(scaled, labels)) == float(metrics.accuracy(p, labels))


def test_certain_and_impossible_classes_are_finite() -> None:
    p = np.asarray([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [0.0, 0.9, 0.1]])
    labels = np.asarray([0, 1, 1, 1])
    logits = temperature.log_probabilities(p)
    assert np.isfinite(logits).all()
    fitted = temperature.fit_temperature(logits, labels)
    assert float(fitted) == pytest.approx(best(np.asarray(logits), labels), rel=1e-9)
    masked = jnp.log(jnp.asarray(p))
    assert float(temperature.fit_temperature(masked, labels)) == pytest.approx(
        float(fitted), rel=1e-9
    )


def test_the_ends_of_the_range() -> None:
    logits, labels = example(1.0)
    right, wrong = logits.argmax(axis=1), logits.argmin(axis=1)
    assert float(temperature.fit_temperature(logits, right)) == pytest.approx(1e-3)
    assert float(temperature.fit_temperature(logits, wrong)) == pytest.approx(1e3)
    assert float(temperature.fit_temperature(0 * logits, labels)) == pytest.approx(1e3)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0])
def test_float32(scale: float) -> None:
    logits, labels = example(1.5)
    logits = (scale * logits).astype(np.float32)
    with jax.enable_x64(False):
        got = temperature.fit_temperature(logits, labels)
        assert got.dtype == jnp.float32
    assert float(got) == pytest.approx(best(logits.astype(np.float64), labels), rel=1e-5)


def test_weights_and_jit() -> None:
    assert_weights_repeat(temperature.fit_temperature, *example(2.0))
    assert_jit_is_the_same(temperature.fit_temperature, *example(2.0))
    assert_jit_is_the_same(temperature.apply_temperature, example(2.0)[0], np.float64(2.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda z, y: temperature.fit_temperature(z[:, 0], y),
            r"logits must be of shape .*\(400,",
        ),
        (lambda z, y: temperature.fit_temperature(z, y + 9), r"0 \.\. 4, as there are 5 classes"),
        (
            lambda z, y: temperature.fit_temperature(z, y, weights=-1.0 * y),
            "weights must be >= 0",
        ),
        (
            lambda z, y: temperature.apply_temperature(z, 0.0),
            r"temperature must be > 0 and finite, got 0\.0",
        ),
        (lambda z, y: temperature.log_probabilities(z), "For logits, pass jax.nn.softmax"),
        (lambda z, y: temperature.fit_temperature(z * np.nan, y), "logits must be numbers; 2000"),
        (lambda z, y: temperature.fit_temperature(z - np.inf, y), "largest logit .* finite; 400"),
        (lambda z, y: temperature.apply_temperature(z + np.inf, 1.0), "largest logit .* finite"),
        (lambda z, y: temperature.apply_temperature(z, np.nan), "> 0 and finite, got nan"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*example(1.0))
