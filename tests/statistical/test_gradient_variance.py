"""The variance of the stochastic gradient: as a function of the batch size, and by estimator.

Minibatches are drawn independently and with replacement, with fresh noise for each gradient g. Then

    Var g = V / B + (1 - 1 / B) C

with V the variance at one example, and C the covariance between the gradients of two examples of a
batch, which share nothing but the noise. For local_reparam C = 0. For flipout C = 0 where the loss
is quadratic in the layer's output, and small elsewhere. For reparam it is what remains at any batch
size. Variances are summed over the elements of a weight.

Source: Kingma, Salimans, Welling 2015, arXiv:1506.02557, sections 2.2 and 5.1;
Wen, Vicol, Ba, Tran, Grosse 2018, arXiv:1803.04386.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distribution_helpers import data, quick_compilation, softplus_std, with_moments
from flax import linen as nn
from gradient_helpers import (
    BOTTOM,
    TOP,
    converted,
    flat_images,
    gradient_variance,
    of_dropout,
    of_means,
    slope,
    trained,
    trained_by_elbo,
)

from bnn_jax import to_bnn
from bnn_jax.data import load

BATCHES = (8, 64, 512)


class Regression:
    """A dense layer from 4 features to 2, 64 examples, squared loss; V and C in float64.

    The targets are the outputs at the posterior means, plus noise: the layer has been trained.
    """

    def __init__(self) -> None:
        self.x = data(1, 64, 4)
        self.layer = nn.Dense(2)
        self.variables = self.layer.init(jax.random.key(0), self.x)
        self.posterior = with_moments(self.model("reparam").posterior)
        kernel, bias = self.posterior["kernel"], self.posterior["bias"]
        self.t = self.x @ kernel.mean + bias.mean[None] + 0.5 * data(2, 64, 2)
        x, t = np.asarray(self.x, np.float64), np.asarray(self.t, np.float64)
        residual = x @ np.asarray(kernel.mean, np.float64) + np.asarray(bias.mean) - t
        # Covariance of the outputs of two examples that share a draw: (64, 64, 2).
        shared = np.einsum("id,jd,dk->ijk", x, x, softplus_std(kernel.rho) ** 2)
        shared = shared + softplus_std(bias.rho) ** 2
        mean_gradient = 2 * x.T @ residual / 64
        second_moment = (residual**2 + np.einsum("iik->ik", shared)).sum(axis=1)
        one = 4 * np.mean((x**2).sum(axis=1) * second_moment) - np.sum(mean_gradient**2)
        both = 4 * np.mean(np.einsum("id,jd,ijk->ij", x, x, shared))
        self.at_one_example, self.between_examples = one, both

    def model(self, estimator: str) -> Any:
        return to_bnn(self.layer, self.variables, estimator=estimator)

    def variance(self, estimator: str, batch: int) -> float:
        between = self.between_examples if estimator == "reparam" else 0.0
        return self.at_one_example / batch + (1 - 1 / batch) * between

    def measured(self, estimator: str, batch: int) -> np.ndarray:
        """Estimates of the variance of the gradient with respect to the kernel's means."""
        model = self.model(estimator)

        def loss(q: Any, key: Any, x: Any, t: Any) -> Any:
            return jnp.sum(jnp.square(model.apply(key, q, x) - t)) / len(x)

        def gradient(key: Any, x: Any, t: Any) -> dict[str, Any]:
            return {"kernel": jax.grad(loss)(self.posterior, key, x, t)["kernel"].mean}

        with quick_compilation():
            return gradient_variance(gradient, self.x, self.t, batch=batch, pairs=4000)["kernel"]


@pytest.mark.parametrize("estimator", ["reparam", "local_reparam", "flipout"])
def test_the_variance_of_a_linear_regression_is_the_closed_form(estimator: str) -> None:
    problem = Regression()
    measured = []
    for batch in BATCHES:
        estimates = problem.measured(estimator, batch)
        error = estimates.std(ddof=1) / np.sqrt(len(estimates))
        assert abs(estimates.mean() - problem.variance(estimator, batch)) < 5 * error
        assert error < 0.05 * estimates.mean()
        measured.append(estimates.mean())
    if estimator == "reparam":
        assert slope(BATCHES, measured) > -0.5
    else:
        assert slope(BATCHES, measured) == pytest.approx(-1.0, abs=0.1)


def digits() -> tuple[Any, Any, Any, Any]:
    found = load("digits")
    return (
        *(flat_images(found.train.images), jnp.asarray(np.asarray(found.train.labels))),
        *(flat_images(found.test.images), np.asarray(found.test.labels)),
    )


def accuracy(width: int, params: Any, x: Any, labels: Any) -> float:
    """Of the network at the posterior means."""
    logits = converted(width, x.shape[1], "reparam").network.call(params, {}, x)
    return float(np.mean(np.argmax(np.asarray(logits), axis=-1) == labels))


def ratios(
    gradient_of: Callable[..., Any], width: int, at: Any, x: Any, labels: Any, *, pairs: int
) -> dict[str, float]:
    """{path: variance of reparam over that of local_reparam}, each less three standard errors.

    Batches of 1000, as in the paper.
    """
    variances = {
        name: gradient_variance(
            *(gradient_of(converted(width, x.shape[1], name), at), x, labels),
            batch=1000,
            pairs=pairs,
        )
        for name in ("reparam", "local_reparam")
    }
    found = {}
    for path in (BOTTOM, TOP):
        shared, local = (variances[name][path] for name in ("reparam", "local_reparam"))
        errors = [v.std(ddof=1) / v.mean() / np.sqrt(pairs) for v in (shared, local)]
        ratio = shared.mean() / local.mean()
        found[path] = float(ratio * (1 - 3 * np.hypot(*errors)))
        print(
            f"{path}: reparam {shared.mean():.4g} ({errors[0]:.1%}), local_reparam "
            f"{local.mean():.4g} ({errors[1]:.1%}), ratio {ratio:.2f}, at least {found[path]:.2f}"
        )
    return found


def test_local_reparam_has_the_smaller_variance_on_digits() -> None:
    """A small version of the MNIST test below."""
    x, labels, test_x, test_labels = digits()
    with quick_compilation():
        model = converted(64, 64, "local_reparam")
        params = trained(model, x, labels, steps=500, batch=100, learning_rate=1e-3)
        assert accuracy(64, params, test_x, test_labels) > 0.88
        found = ratios(of_dropout, 64, params, x, labels, pairs=50)
    assert min(found.values()) >= 2.5


@pytest.mark.slow
def test_the_variance_of_a_network_falls_with_the_batch() -> None:
    """Three hidden layers and cross-entropy, where flipout's variance is only nearly 1 / batch."""
    x, labels, _, _ = digits()
    model = converted(64, 64, "local_reparam")
    params = trained(model, x, labels, steps=500, batch=100, learning_rate=1e-3)
    slopes = {}
    for estimator in ("local_reparam", "flipout", "reparam"):
        gradient = of_dropout(converted(64, 64, estimator), params)
        totals = []
        for batch in BATCHES:
            found = gradient_variance(gradient, x, labels, batch=batch, pairs=400)
            totals.append(sum(v.mean() for v in found.values()))
            print(estimator, batch, {path: float(v.mean()) for path, v in found.items()})
        slopes[estimator] = slope(BATCHES, totals)
    print(slopes)
    assert slopes["local_reparam"] == pytest.approx(-1.0, abs=0.1)
    assert slopes["flipout"] == pytest.approx(-1.0, abs=0.1)
    assert slopes["reparam"] > -0.5


def mnist(originals: Path, data_dir: Path) -> tuple[Any, Any, Any, Any]:
    found = load("mnist", data_dir=data_dir, manual_dir=originals / "data" / "mnist")
    return (
        *(flat_images(found.train.images), jnp.asarray(np.asarray(found.train.labels))),
        *(flat_images(found.test.images), np.asarray(found.test.labels)),
    )


@pytest.mark.slow
def test_local_reparam_has_the_smaller_variance_on_mnist(shared: Path, tmp_path: Path) -> None:
    """Kingma, Salimans, Welling 2015, section 5.1: three hidden layers, 10 epochs, batches of 1000.

    Here with means and stds learned by the ELBO, prior N(0, 0.1), and 400 hidden units a layer.
    """
    x, labels, test_x, test_labels = mnist(shared, tmp_path)
    model = converted(400, 784, "local_reparam")
    posterior = trained_by_elbo(model, x, labels, steps=6000, batch=100)
    assert accuracy(400, model.mean(posterior), test_x, test_labels) > 0.96
    found = ratios(of_means, 400, posterior, x, labels, pairs=100)
    assert min(found.values()) >= 2.5


@pytest.mark.slow
def test_variational_dropout_gains_less_in_the_bottom_layer(shared: Path, tmp_path: Path) -> None:
    """The paper's posterior, std = sqrt(alpha) |mean|, at fixed rates: 2.5 at the top only.

    At the pixels alpha is 0.25 and most of the variance is that of the data, which no estimator
    lowers.
    """
    x, labels, test_x, test_labels = mnist(shared, tmp_path)
    model = converted(400, 784, "local_reparam")
    params = trained(model, x, labels, steps=1200, batch=100, learning_rate=1e-3)
    assert accuracy(400, params, test_x, test_labels) > 0.96
    found = ratios(of_dropout, 400, params, x, labels, pairs=100)
    assert found[TOP] >= 2.5
    assert 1.2 < found[BOTTOM] < 2.5
