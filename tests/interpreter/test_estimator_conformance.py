"""What every estimator must do; a new one is tested by adding its name to ESTIMATORS."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import noise
from bnn_jax.interpreter import estimators, linear_map, random_array
from bnn_jax.interpreter.linear_maps import Use
from bnn_jax.interpreter.random_weight import RandomArray
from bnn_jax.noise import Draw
from core_helpers import assert_mean, data, key, no_noise, random_posterior


@estimators.register("per_example")
class PerExample(estimators.Estimator):
    """One weight for each example, y_i = linear(x_i, W_i): exact at shared positions too."""

    fallbacks = estimators.ESTIMATORS["flipout"].fallbacks

    def linear(self, weight: RandomArray, use: Use, x: jax.Array) -> jax.Array:
        mean = weight.mean
        eps = noise.normal(weight.draw.key, (len(x), *mean.shape), mean.dtype)
        weights = jax.vmap(lambda e: weight.draw.shift(mean, weight.std * e))(eps)
        return use.each(x, weights)


ESTIMATORS = ("reparam", "local_reparam", "flipout", "per_example")


@linear_map("nti,kio->nao")
def sums_of_neighbours(x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution without padding along one axis, written out."""
    length = x.shape[1] - len(w) + 1
    return sum(jnp.einsum("nti,io->nto", x[:, k : k + length], w[k]) for k in range(len(w)))


@linear_map("ni,io->on")
def examples_last(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.einsum("io,ni->on", w, x)


Q = {"w": random_posterior(1, 3, 2), "b": random_posterior(2, 2), "k": random_posterior(3, 2, 3, 2)}
X, SEQUENCE = data(0, 4, 3), data(1, 4, 3, 3)


def dense(p: Any, x: Any) -> Any:
    return x @ p["w"] + p["b"][None]


def neighbours(p: Any, x: Any) -> Any:
    return sums_of_neighbours(x, p["k"])


def last(p: Any, x: Any) -> Any:
    return examples_last(x, p["w"])


CASES = {"dense": (dense, X), "neighbours": (neighbours, SEQUENCE), "examples last": (last, X)}


def run(k: Any, estimator: str, case: str, **options: Any) -> Any:
    fn, x = CASES[case]
    return random_array.apply(fn, k, Q, x, estimator=estimator, **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_mean_variance_and_pairs(estimator: str, case: str) -> None:
    fn, x = CASES[case]
    draw = jax.jit(jax.vmap(lambda k: run(k, estimator, case)))
    y = np.asarray(draw(jax.random.split(key(0), 4000)), np.float64)
    mean = fn({name: q.mean for name, q in Q.items()}, x)
    assert_mean(y, mean)
    variance = fn({name: q.std**2 for name, q in Q.items()}, x**2)
    assert_mean((y - np.asarray(mean)) ** 2, variance)

    @jax.jit
    def pair(sign: Any) -> Any:
        return [run(Draw(key(1), s), estimator, case) for s in (1, -1, sign)]

    one, other, chosen = pair(jnp.asarray(-1))
    np.testing.assert_allclose(0.5 * (one + other), mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(chosen, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_positions_of_an_example_see_one_weight(estimator: str) -> None:
    y = jax.jit(jax.vmap(lambda k: run(k, estimator, "neighbours")))(jax.random.split(key(2), 4000))
    at = np.asarray(SEQUENCE[1], np.float64)
    patches = [at[:2], at[1:]]
    covariance = np.einsum("ki,ki,kio->o", *patches, np.asarray(Q["k"].std, np.float64) ** 2)
    spread = np.asarray(y[:, 1], np.float64) - np.asarray(y[:, 1], np.float64).mean(axis=0)
    assert_mean(spread[:, 0] * spread[:, 1], covariance)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_noise_it_is_the_mean_network(
    estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_noise(monkeypatch)
    for case, (fn, x) in CASES.items():
        wanted = fn({name: q.mean for name, q in Q.items()}, x)
        silent = jax.jit(partial(run, estimator=estimator, case=case))(key(0))
        np.testing.assert_allclose(silent, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_is_used_where_it_is_exact_and_the_report_says_so(estimator: str) -> None:
    report: dict[str, list[str]] = {}
    jax.eval_shape(lambda k: run(k, estimator, "neighbours", report=report), key(0))
    assert report["k"] == ["flipout" if estimator == "local_reparam" else estimator]
    jax.eval_shape(lambda k: run(k, estimator, "dense", report=report, strict=True), key(0))
    assert report["w"] == report["b"] == [estimator]
    twice = lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"].T  # noqa: E731
    options = {"estimator": estimator, "report": report}
    jax.eval_shape(lambda k: random_array.apply(twice, k, Q, X, **options), key(0))
    assert report["w"] == ["reparam"]


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'flipout' already"):
        estimators.register("flipout")(PerExample)


@pytest.mark.parametrize("subscripts", ["ni,io", "ni,no->no", "ni,io->o", "ni->n", ""])
def test_subscripts_of_another_form_are_an_error(subscripts: str) -> None:
    with pytest.raises(ValueError, match="x,w->y"):
        linear_map(subscripts)


def test_the_derivative_of_a_linear_map_is_not_the_map() -> None:
    report: dict[str, list[str]] = {}

    def fn(p: Any, x: Any) -> Any:
        return jax.grad(lambda a: jnp.sum(sums_of_neighbours(a, p["k"]) ** 2))(x)

    random_array.apply(fn, key(0), Q, SEQUENCE, estimator="flipout", report=report)
    assert report["k"] == ["reparam"]
    with pytest.raises(ValueError, match=r"must be \+1 or -1, got 2"):
        Draw(key(0), 2)


def test_a_kernel_that_is_flipped_keeps_its_rule() -> None:
    report: dict[str, list[str]] = {}

    def fn(p: Any, x: Any) -> Any:
        return jax.lax.conv_transpose(x, p["k"], (2,), "SAME", transpose_kernel=True)

    q = {"k": random_posterior(1, 3, 4, 3)}
    random_array.apply(fn, key(0), q, SEQUENCE, estimator="flipout", report=report)
    assert report == {"k": ["flipout"]}
