"""The law of a converted layer's outputs, and of its gradients, against float64 closed forms.

A layer's outputs are a linear map of its weights, y = sum over weights of A w. So with independent
Gaussian weights of variance s^2 they are Gaussian of mean A m and covariance A diag(s^2) A^T, over
all examples, positions and channels at once, where one draw of the weights serves all of them. The
maps A come from a twin of each layer in plain numpy. The estimators differ in which part of that
covariance they keep:

    reparam                    all of it
    flipout, local_reparam     that within each example, and none between examples
    approximate local_reparam  of a kernel only the variances; of a bias as above

Every mean, covariance and gradient is compared, 17,192 with the slow tests, each within five
standard errors of 1e5 draws. By chance, were the keys not fixed, one would fail in one of 100 runs.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from law_helpers import (
    Exact,
    Layer,
    covariance_deviations,
    deviations,
    exact,
    over_keys,
    quick_compilation,
    with_moments,
)
from law_layers import LAYERS

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
    """1e5 draws of a layer under a rule.

    Attributes:
        y: (draws, ...), the outputs.
        grads: {path: Gaussian}, gradients of sum (y - target)^2.
        report: {path: [rule that was applied]}.
        law: the exact one.
    """

    layer: Layer
    rule: str
    law: Exact
    y: Any
    grads: dict[str, Any]
    report: dict[str, list[str]]


def converted(layer: Layer, rule: str) -> tuple[BayesianModel, Any]:
    approximate = rule == "approximate"
    model = layer.convert(
        estimator="local_reparam" if approximate else rule, approximate=approximate
    )
    return model, with_moments(model.posterior)


def law_of(layer: Layer, posterior: Any) -> Exact:
    return exact(layer, posterior, [layer.prefix + name for name in ("kernel", "bias")])


@pytest.fixture(scope="module", params=CASES)
def drawn(request: pytest.FixtureRequest) -> Draws:
    name, rule = request.param
    layer = LAYERS[name]
    model, posterior = converted(layer, rule)
    law = law_of(layer, posterior)
    report: dict[str, list[str]] = {}
    goal = jnp.asarray(target(law), jnp.float32)

    def loss(q: Any, key: Any) -> tuple[Any, Any]:
        y = model.apply(key, q, layer.x, rules_used=report, **layer.kwargs)
        return jnp.sum(jnp.square(y.reshape(-1) - goal)), y

    def draw(key: Any) -> Any:
        grads, y = jax.grad(loss, has_aux=True)(posterior, key)
        found = gaussian.random_leaves(grads)
        return y, {path: found[path] for path in found if path.startswith(layer.prefix)}

    with quick_compilation():
        y, grads = over_keys(draw, SAMPLES, at_once=100)
    return Draws(layer, rule, law, y, grads, report)


def target(law: Exact) -> np.ndarray:
    return np.random.default_rng(99).normal(size=law.mean.shape)


def expected_covariance(law: Exact, rule: str) -> np.ndarray:
    total = np.zeros((len(law.mean), len(law.mean)))
    for path in law.maps:
        shared = law.covariance(path)
        if rule == "reparam":
            total += shared
        elif rule == "approximate" and path.endswith("kernel"):
            total += np.diag(np.diag(shared))
        else:
            total += np.where(law.same_example, shared, 0.0)
    return total


def test_mean_and_covariance_of_the_outputs(drawn: Draws) -> None:
    assert drawn.y.shape[1:] == drawn.law.shape
    y = np.asarray(drawn.y).reshape(SAMPLES, -1)
    assert np.max(deviations(y, drawn.law.mean)) < 5.0
    expected = expected_covariance(drawn.law, drawn.rule)
    assert np.max(covariance_deviations(y, expected)) < 5.0


def test_gradients_of_a_squared_loss_are_unbiased(drawn: Draws) -> None:
    """E sum (y - t)^2 = sum (A m - t)^2 + sum of variances, whatever the covariances."""
    law = drawn.law
    assert set(drawn.grads) == set(law.maps)
    for path, got in drawn.grads.items():
        of_mean = 2 * law.maps[path].T @ (law.mean - target(law))
        of_std = 2 * (law.maps[path] ** 2).sum(axis=0) * law.stds[path]
        of_rho = of_std / (1 + np.exp(-law.rhos[path]))
        assert np.max(deviations(got.mean.reshape(SAMPLES, -1), of_mean)) < 5.0
        assert np.max(deviations(got.rho.reshape(SAMPLES, -1), of_rho)) < 5.0


def test_the_rules_that_were_applied(drawn: Draws) -> None:
    plain = "local_reparam" if drawn.rule == "approximate" else drawn.rule
    gives_way = drawn.layer.positions and drawn.rule == "local_reparam"
    prefix = drawn.layer.prefix
    assert set(drawn.report[prefix + "kernel"]) == {"flipout" if gives_way else plain}
    assert set(drawn.report[prefix + "bias"]) == {plain}


@pytest.mark.parametrize("name", LAYERS)
def test_the_rules_differ_by_far_more_than_the_tests_allow(name: str) -> None:
    """Or the comparisons above would show nothing."""
    layer = LAYERS[name]
    law = law_of(layer, converted(layer, "reparam")[1])
    whole, apart, single = (
        expected_covariance(law, rule) for rule in ("reparam", "flipout", "approximate")
    )
    scale = np.sqrt(np.diag(whole))
    error = scale[:, None] * scale[None] / np.sqrt(SAMPLES)
    assert np.max(np.abs(whole - apart) / error) > 50
    assert (np.max(np.abs(apart - single) / error) > 50) == layer.positions
