"""Any function of the params, with random weights: what is drawn, when, and how often."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import gaussian, noise
from bnn_jax.interpreter import estimators, random_array
from core_helpers import ESTIMATORS, data, key, no_noise
from core_helpers import random_posterior as random

P: dict[str, Any] = {
    "w": random(1, 3, 4),
    "v": random(2, 4, 4),
    "b": random(3, 4),
    "table": random(4, 6, 3),
    "qkv": random(5, 3, 3, 2, 2),
    "scale": data(6, 4),
}
X = data(0, 2, 3)
SEQUENCE = data(1, 2, 5, 3)


def bias(p: Any) -> Any:
    return p["b"][None]


def dense(p: Any, x: Any) -> Any:
    return jax.nn.relu(x @ p["w"] + bias(p)) @ p["v"]


def scanned(p: Any, x: Any) -> Any:
    def cell(h: Any, _: Any) -> Any:
        h = jnp.tanh(x @ p["w"] + h @ p["v"] + bias(p))
        return h, h

    last, every = jax.lax.scan(cell, jnp.zeros((2, 4)), None, length=3)
    return last + every.sum(axis=0)


def stacked(p: Any, x: Any) -> Any:
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["v"].reshape(1, 4, 4))[0]


def whiled(p: Any, x: Any) -> Any:
    body = lambda s: (s[0] + 1, jnp.tanh(s[1] @ p["v"]))  # noqa: E731
    return jax.lax.while_loop(lambda s: s[0] < 2, body, (0, x @ p["w"]))[1]


def branched(p: Any, x: Any) -> Any:
    return jax.lax.cond(x.sum() > 0, lambda w: x @ w, lambda w: -2.0 * (x @ w), p["w"])


def switched(p: Any, x: Any) -> Any:
    return jax.lax.switch(1, [lambda: x @ p["w"], lambda: x @ p["w"] * 2.0])


def remat(p: Any, x: Any) -> Any:
    return jax.checkpoint(dense)(p, x)


def jitted_inside(p: Any, x: Any) -> Any:
    inner = jax.jit(lambda w, y: jax.jit(jnp.matmul)(y, w) * 2.0)
    return inner(p["w"], x) + bias(p)


def vmapped_inside(p: Any, x: Any) -> Any:
    return jax.vmap(lambda row: row @ p["w"] + p["b"])(x)


def activations(p: Any, x: Any) -> Any:
    return jax.nn.gelu(jax.nn.silu(x @ p["w"]) @ p["v"]) + jax.nn.logsumexp(bias(p))


@jax.custom_vjp
def doubled(w: Any) -> Any:
    return 2.0 * w


doubled.defvjp(lambda w: (2.0 * w, None), lambda _, g: (2.0 * g,))


def custom_vjp(p: Any, x: Any) -> Any:
    return doubled(x @ p["w"]) + x @ doubled(p["table"][:3, :]) @ jnp.ones((3, 4))


def einsums(p: Any, x: Any) -> Any:
    one = jnp.einsum("bi,io->bo", x, p["w"])
    two = jnp.einsum("oi,bo->ib", p["v"], one)
    return jnp.einsum("ib,i->b", two, p["b"])


def attention(p: Any, x: Any) -> Any:
    q, k, v = jnp.einsum("bti,inhd->nbthd", x, p["qkv"])
    y = jax.nn.dot_product_attention(q, k, v)
    return y.reshape(*y.shape[:2], -1)


def embedding(p: Any, x: Any) -> Any:
    return p["table"][jnp.asarray([[0, 5], [1, 1]])] @ p["w"] + bias(p)[None]


def transposed(p: Any, x: Any) -> Any:
    return x @ p["w"].T.T @ p["v"].T


def reshaped(p: Any, x: Any) -> Any:
    return x @ jnp.squeeze(p["w"].reshape(1, 12)[None], (0, 1)).reshape(3, 4)


def low_precision(p: Any, x: Any) -> Any:
    return (x.astype(jnp.bfloat16) @ p["w"].astype(jnp.bfloat16)).astype(jnp.float32)


def returned(p: Any, x: Any) -> Any:
    return {"w": p["w"], "t": p["v"].T, "scale": p["scale"], "x": x}


def normalised(p: Any, x: Any) -> Any:
    w = p["w"]
    return x @ (w / jnp.linalg.norm(w, axis=0, keepdims=True)) * p["scale"][None]


FUNCTIONS: dict[str, tuple[Callable[..., Any], jax.Array]] = {
    fn.__name__: (fn, x)
    for fn, x in [
        (dense, X),
        (scanned, X),
        (stacked, data(7, 2, 4)),
        (branched, X),
        (switched, X),
        (remat, X),
        (jitted_inside, X),
        (vmapped_inside, X),
        (activations, X),
        (custom_vjp, X),
        (einsums, X),
        (attention, SEQUENCE),
        (embedding, X),
        (transposed, X),
        (reshaped, X),
        (low_precision, X),
        (returned, X),
        (normalised, X),
    ]
}


def slow(value: str) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


LONG = ("activations", "custom_vjp", "low_precision", "switched", "stacked", "vmapped_inside")
LINEAR = ("dense", "jitted_inside", "vmapped_inside", "einsums", "attention", "transposed")


def assert_trees_close(got: Any, expected: Any, tolerance: float = 1e-5) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        got,
        expected,
    )


@pytest.mark.parametrize("name", [slow(n) if n in LONG else n for n in FUNCTIONS])
def test_without_noise_it_is_the_plain_function_and_has_its_gradients(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_noise(monkeypatch)
    fn, x = FUNCTIONS[name]

    def total(p: Any, estimator: str | None) -> Any:
        if estimator is None:
            out = fn(p, x)
        else:
            out = random_array.apply(fn, key(0), p, x, estimator=estimator)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

    plain = jax.jit(jax.value_and_grad(lambda p: total(p, None), has_aux=True))
    (_, expected), slope = plain(gaussian.mean(P))
    # The two differ in rules for linear maps alone.
    for estimator in ("local_reparam", "flipout") if name in LINEAR else ("flipout",):
        noisy = jax.jit(jax.value_and_grad(lambda p, e=estimator: total(p, e), has_aux=True))
        (_, got), grads = noisy(P)
        # A compiler may skip the rounding of one bfloat16 product and not of the other.
        assert_trees_close(got, expected, 2e-2 if name == "low_precision" else 1e-5)
        means = jax.tree.map(
            lambda g: g.mean if gaussian.is_gaussian(g) else g,
            grads,
            is_leaf=gaussian.is_gaussian,
        )
        assert_trees_close(means, slope, 5e-2 if name == "low_precision" else 1e-4)
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", ["dense", "scanned", "attention", "embedding", "returned"])
def test_reparam_is_the_plain_function_at_a_sample(name: str) -> None:
    fn, x = FUNCTIONS[name]
    got = jax.jit(lambda: random_array.apply(fn, key(3), P, x, estimator="reparam"))()
    expected = jax.jit(lambda: fn(gaussian.sample(key(3), P), x))()
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_while_loops_are_entered_with_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    report: dict[str, list[str]] = {}
    random_array.apply(whiled, key(3), P, X, estimator="flipout", report=report)
    assert (report["w"], report["v"]) == (["flipout"], ["reparam"])
    no_noise(monkeypatch)
    got = random_array.apply(whiled, key(3), P, X, estimator="flipout")
    assert_trees_close(got, whiled(gaussian.mean(P), X))


SAMPLED = ("scanned", "stacked", "branched", "switched", "remat", "returned", "normalised")


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("estimator", [slow("local_reparam"), "flipout"])
def test_where_no_rule_applies_the_weight_is_that_of_gaussian_sample(
    name: str, estimator: str
) -> None:
    # In a scan this means: the same weight at every step.
    fn, x = FUNCTIONS[name]
    report: dict[str, list[str]] = {}
    got = random_array.apply(fn, key(3), P, x, estimator=estimator, report=report)
    assert_trees_close(got, fn(gaussian.sample(key(3), P), x), 1e-4)
    assert {rule for used in report.values() for rule in used} == {"reparam"}


def test_the_report_lists_the_rule_of_each_weight() -> None:
    report: dict[str, list[str]] = {}
    rules = {"w": "flipout", "v": "local_reparam", "b": "reparam", "table": "flipout"}
    random_array.apply(
        dense, key(0), P, X, estimator=lambda path: rules.get(path, "reparam"), report=report
    )
    assert report == {
        "w": ["flipout"],
        "v": ["local_reparam"],
        "b": ["reparam"],
        "table": [],
        "qkv": ["reparam"],
    }


def test_local_reparam_over_positions_becomes_flipout_or_an_error() -> None:
    def fn(p: Any, x: Any) -> Any:
        return x @ p["w"]

    for approximate, rule in ((False, "flipout"), (True, "local_reparam")):
        report: dict[str, list[str]] = {}
        options: Any = {"estimator": "local_reparam", "approximate": approximate, "report": report}
        random_array.apply(fn, key(0), P, SEQUENCE, **options)
        assert report["w"] == [rule]
    with pytest.raises(random_array.EstimatorError, match="not exact for 'w'"):
        random_array.apply(fn, key(0), P, SEQUENCE, estimator="local_reparam", strict=True)


def tied(p: Any, x: Any) -> Any:
    return (x @ p["w"]) @ p["w"].T


def used_and_returned(p: Any, x: Any) -> Any:
    return x @ p["w"], jnp.sin(p["w"])


@pytest.mark.parametrize("estimator", ["local_reparam", "flipout"])
@pytest.mark.parametrize("fn", [tied, used_and_returned])
def test_tied_weights_are_drawn_once(fn: Callable[..., Any], estimator: str) -> None:
    report: dict[str, list[str]] = {}
    got = random_array.apply(fn, key(0), P, X, estimator=estimator, report=report)
    assert report["w"] == ["reparam"]
    assert_trees_close(got, fn(gaussian.sample(key(0), P), X))


NOT_EXACT: dict[str, tuple[Callable[..., Any], str]] = {
    "tied": (tied, "'w' is used more than once.*{'w': 'reparam'"),
    "used and returned": (used_and_returned, "'w' is used more than once"),
    "in a loop": (stacked, "'v': it does not enter a linear map.*{'v': 'reparam'"),
    "merged": (lambda p, x: x.reshape(1, 6)[:, :3] @ p["w"], "'w': it does not enter"),
}


@pytest.mark.parametrize("name", NOT_EXACT)
def test_a_named_estimator_that_cannot_be_used_is_an_error(name: str) -> None:
    fn, message = NOT_EXACT[name]
    x = data(7, 2, 4) if name == "in a loop" else X
    with pytest.raises(random_array.EstimatorError, match=message):
        random_array.apply(fn, key(0), P, x, estimator="flipout", strict=True)


@pytest.mark.parametrize("estimator", ["local_reparam", "flipout"])
def test_a_weight_used_twice_outside_linear_maps_is_one_sample(estimator: str) -> None:
    def fn(p: Any, x: Any) -> Any:
        return jnp.sin(p["w"]) ** 2 + jnp.cos(p["w"].reshape(12)).reshape(3, 4) ** 2

    got = random_array.apply(fn, key(0), P, X, estimator=estimator)
    np.testing.assert_allclose(got, np.ones((3, 4)), rtol=1e-5)


@pytest.mark.parametrize("estimator", ["local_reparam", "flipout"])
def test_each_rule_is_called_on_the_shapes_it_needs(
    estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    normal, signs = noise.normal, noise.signs
    monkeypatch.setattr(noise, "normal", lambda k, s, d: shapes.append(s) or normal(k, s, d))
    monkeypatch.setattr(noise, "signs", lambda k, s, d: shapes.append(s) or signs(k, s, d))
    random_array.apply(lambda p, x: x @ p["w"] + bias(p), key(0), P, X, estimator=estimator)
    if estimator == "local_reparam":
        assert shapes == [(2, 4), (2, 4)]
    else:
        assert shapes == [(3, 4), (2, 3), (2, 4), (2, 4), (4,)]


@pytest.mark.parametrize("estimator", ["local_reparam", "flipout"])
def test_a_product_with_other_weights_is_not_one_with_data(estimator: str) -> None:
    # The rows of the plain matrix are not examples, so they must share their noise.
    def fn(p: Any, x: Any) -> Any:
        return x @ (jnp.sin(p["plain"]) @ p["w"])

    report: dict[str, list[str]] = {}
    p = {"plain": data(1, 3, 3), "w": P["w"]}
    got = random_array.apply(fn, key(0), p, X, estimator=estimator, report=report)
    assert report["w"] == ["reparam"]
    assert_trees_close(got, fn(gaussian.sample(key(0), p), X))


@pytest.mark.parametrize("estimator", [slow("reparam"), slow("local_reparam"), "flipout"])
def test_transformations_around_it(estimator: str) -> None:
    def run(k: Any, p: Any, x: Any) -> Any:
        return random_array.apply(dense, k, p, x, estimator=estimator)

    eager = run(key(0), P, X)
    assert_trees_close(jax.jit(run)(key(0), P, X), eager)
    keys = jax.random.split(key(1), 3)
    many = jax.vmap(run, in_axes=(0, None, None))(keys, P, X)
    assert_trees_close(many[1], run(jax.random.split(key(1), 3)[1], P, X))
    if estimator == "flipout":
        assert_trees_close(jax.jit(jax.checkpoint(run))(key(0), P, X), eager)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_data_may_come_from_numpy(estimator: str) -> None:
    expected = random_array.apply(dense, key(0), P, X, estimator=estimator)
    wide = np.asarray(X, np.float64)
    assert_trees_close(random_array.apply(dense, key(0), P, wide, estimator=estimator), expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_only_arguments_are_data(estimator: str) -> None:
    """Of an array that the function closes over, the rows are not known to be examples."""
    got = random_array.apply(lambda p: dense(p, X), key(0), P, estimator=estimator)
    assert_trees_close(got, dense(gaussian.sample(key(0), P), X))


def test_one_key_gives_one_answer_and_two_give_two() -> None:
    for estimator in ESTIMATORS:
        one = random_array.apply(dense, key(0), P, X, estimator=estimator)
        same = random_array.apply(dense, key(0), P, X, estimator=estimator)
        other = random_array.apply(dense, key(1), P, X, estimator=estimator)
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, other)


def test_an_unknown_estimator_is_an_error() -> None:
    with pytest.raises(ValueError, match="Unknown estimator 'flip'"):
        random_array.apply(dense, key(0), P, X, estimator="flip")
    assert issubclass(random_array.EstimatorError, ValueError)
    assert "flipout" in estimators.ESTIMATORS


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_second_derivatives_are_differences_of_first_ones(estimator: str) -> None:
    posterior = {"w": P["w"], "b": P["b"]}

    def network(p: Any, x: Any) -> Any:
        return jnp.tanh(x @ p["w"] + bias(p))

    @jax.jit
    def gradient(q: Any) -> Any:
        def loss(q: Any) -> Any:
            return jnp.sum(random_array.apply(network, key(3), q, X, estimator=estimator) ** 2)

        return jax.grad(loss)(q)

    towards = jax.tree.map(lambda a: data(7, *a.shape), posterior)
    _, second = jax.jvp(gradient, (posterior,), (towards,))
    step = 1e-2
    ahead, behind = (
        gradient(jax.tree.map(lambda a, d, s=s: a + s * d, posterior, towards))
        for s in (step, -step)
    )
    for got, a, b in zip(*(jax.tree.leaves(t) for t in (second, ahead, behind)), strict=True):
        difference = (a - b) / (2 * step)
        np.testing.assert_allclose(got, difference, rtol=2e-2, atol=2e-2 * jnp.abs(got).max())
        assert jnp.abs(got).max() > 1e-2
