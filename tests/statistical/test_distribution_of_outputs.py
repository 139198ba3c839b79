"""The distribution of a converted layer's outputs and of its gradients, compared with closed forms.

The outputs of a layer are a linear map of its weights, y = sum over weights of A w. With
independent Gaussian weights of variance s^2, they are Gaussian with mean A m and covariance
A diag(s^2) A^T over all examples, positions and channels, if one sample of the weights serves all
of them. The maps A come from a NumPy reference of each layer in float64. The estimators keep
different parts of this covariance:

    reparam                    all of it
    flipout, local_reparam     that within each example, and none between examples
    approximate local_reparam  of a kernel only the variances; of a bias as above

Every mean, covariance and gradient is compared, 17,192 with the slow tests, each within five
standard errors of 1e5 samples. With random keys, one comparison would fail by chance in one of 100
runs.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distribution_helpers import (
    Exact,
    Layer,
    covariance_deviations,
    deviations,
    exact,
    over_keys,
    quick_compilation,
    with_moments,
)
from distribution_layers import LAYERS

from bnn_jax import gaussian
from bnn_jax.transforms import BayesianModel

SAMPLES = 100_000
RULES = ("reparam", "flipout", "local_reparam", "approximate")
FAST = {
    ("dense", "reparam"),
    ("dense", "flipout"),
    ("dense", "local_reparam"),
    ("conv, stride 2", "reparam"),
    ("conv, stride 2", "flipout"),
    ("conv, stride 2", "approximate"),
    ("nnx query", "reparam"),
    ("nnx query", "flipout"),
    ("nnx query", "approximate"),
}
CASES = [
    pytest.param((name, rule), id=f"{name}, {rule}", marks=mark)
    for name in LAYERS
    for rule in RULES
    for mark in [[] if (name, rule) in FAST else [pytest.mark.slow]]
]


@dataclasses.dataclass(frozen=True)
class Draws:
    """1e5 samples of a layer's outputs and gradients under a rule.

    Attributes:
        y: (draws, ...), the outputs.
        grads: {path: Gaussian}, gradients of sum (y - target)^2.
        report: {path: [rule that was applied]}.
        exact_outputs: the exact distribution of the outputs.
    """

    layer: Layer
    rule: str
    exact_outputs: Exact
    y: Any
    grads: dict[str, Any]
    report: dict[str, list[str]]


def converted(layer: Layer, rule: str) -> tuple[BayesianModel, Any]:
    approximate = rule == "approximate"
    model = layer.convert(
        estimator="local_reparam" if approximate else rule, approximate=approximate
    )
    return model, with_moments(model.posterior)


def exact_distribution(layer: Layer, posterior: Any) -> Exact:
    return exact(layer, posterior, [layer.prefix + name for name in ("kernel", "bias")])


@pytest.fixture(scope="module", params=CASES)
def drawn(request: pytest.FixtureRequest) -> Draws:
    name, rule = request.param
    layer = LAYERS[name]
    model, posterior = converted(layer, rule)
    exact_outputs = exact_distribution(layer, posterior)
    report: dict[str, list[str]] = {}
    goal = jnp.asarray(target(exact_outputs), jnp.float32)

    def loss(q: Any, key: Any) -> tuple[Any, Any]:
        y = model.apply(key, q, layer.x, rules_used=report, **layer.kwargs)
        return jnp.sum(jnp.square(y.reshape(-1) - goal)), y

    def draw(key: Any) -> Any:
        grads, y = jax.grad(loss, has_aux=True)(posterior, key)
        found = gaussian.random_leaves(grads)
        return y, {path: found[path] for path in found if path.startswith(layer.prefix)}

    with quick_compilation():
        y, grads = over_keys(draw, SAMPLES, at_once=100)
    return Draws(layer, rule, exact_outputs, y, grads, report)


def target(exact_outputs: Exact) -> np.ndarray:
    return np.random.default_rng(99).normal(size=exact_outputs.mean.shape)


def expected_covariance(exact_outputs: Exact, rule: str) -> np.ndarray:
    total = np.zeros((len(exact_outputs.mean), len(exact_outputs.mean)))
    for path in exact_outputs.maps:
        shared = exact_outputs.covariance(path)
        if rule == "reparam":
            total += shared
        elif rule == "approximate" and path.endswith("kernel"):
            total += np.diag(np.diag(shared))
        else:
            total += np.where(exact_outputs.same_example, shared, 0.0)
    return total


def test_mean_and_covariance_of_the_outputs(drawn: Draws) -> None:
    assert drawn.y.shape[1:] == drawn.exact_outputs.shape
    y = np.asarray(drawn.y).reshape(SAMPLES, -1)
    assert np.max(deviations(y, drawn.exact_outputs.mean)) < 5.0
    expected = expected_covariance(drawn.exact_outputs, drawn.rule)
    assert np.max(covariance_deviations(y, expected)) < 5.0


def test_gradients_of_a_squared_loss_are_unbiased(drawn: Draws) -> None:
    """E sum (y - t)^2 = sum (A m - t)^2 + sum of variances, for any covariances."""
    exact_outputs = drawn.exact_outputs
    assert set(drawn.grads) == set(exact_outputs.maps)
    for path, got in drawn.grads.items():
        of_mean = 2 * exact_outputs.maps[path].T @ (exact_outputs.mean - target(exact_outputs))
        of_std = 2 * (exact_outputs.maps[path] ** 2).sum(axis=0) * exact_outputs.stds[path]
        of_rho = of_std / (1 + np.exp(-exact_outputs.rhos[path]))
        assert np.max(deviations(got.mean.reshape(SAMPLES, -1), of_mean)) < 5.0
        assert np.max(deviations(got.rho.reshape(SAMPLES, -1), of_rho)) < 5.0


def test_the_report_lists_the_applied_rules(drawn: Draws) -> None:
    plain = "local_reparam" if drawn.rule == "approximate" else drawn.rule
    is_replaced = drawn.layer.positions and drawn.rule == "local_reparam"
    prefix = drawn.layer.prefix
    assert set(drawn.report[prefix + "kernel"]) == {"flipout" if is_replaced else plain}
    assert set(drawn.report[prefix + "bias"]) == {plain}


@pytest.mark.parametrize("name", LAYERS)
def test_the_rules_differ_by_much_more_than_the_bounds(name: str) -> None:
    """Otherwise the comparisons above would pass for a wrong rule."""
    layer = LAYERS[name]
    exact_outputs = exact_distribution(layer, converted(layer, "reparam")[1])
    full, within_example, variances_only = (
        expected_covariance(exact_outputs, rule) for rule in ("reparam", "flipout", "approximate")
    )
    scale = np.sqrt(np.diag(full))
    error = scale[:, None] * scale[None] / np.sqrt(SAMPLES)
    assert np.max(np.abs(full - within_example) / error) > 50
    assert (np.max(np.abs(within_example - variances_only) / error) > 50) == layer.positions
