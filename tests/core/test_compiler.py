"""The compiler's options: accepted, the same numbers, and out of the way of the user's own."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import gaussian, noise
from bnn_jax._compiler import (
    compiler_options,
    false_at_run_time,
    recompute_softplus,
    softplus,
    store,
    wait_for,
)
from bnn_jax.benchmark import timing
from bnn_jax.priors.normal_kl import normal_kl

CPUINFO = Path("/proc/cpuinfo")
HAS_512_BITS = CPUINFO.is_file() and "avx512f" in CPUINFO.read_text()


def test_draws_do_not_depend_on_the_width_of_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert compiler_options() == {"xla_cpu_prefer_vector_width": 512}
    drawn = [
        jax.jit(lambda key: noise.normal(key, (37, 1001)), compiler_options=options)(
            jax.random.key(3)
        )
        for options in (None, compiler_options())
    ]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("draw", [noise.normal, noise.signs])
def test_noise_outside_of_jit_is_one_program(draw: Any) -> None:
    compiled: list[str] = []

    def count(event: str, seconds: float, **_: Any) -> None:
        compiled.append(event)

    key, other = jax.random.split(jax.random.key(0))
    draw(key, (2, 5))  # the programs that do not depend on the shape
    with jax_event(count, "backend_compile"):
        draw(other, (3, 41))
    assert len(compiled) == 1


@contextlib.contextmanager
def jax_event(listener: Any, name: str) -> Iterator[None]:
    """Calls the listener for JAX's timed events whose name contains `name`."""

    def filtered(event: str, seconds: float, **options: Any) -> None:
        if name in event:
            listener(event, seconds, **options)

    jax.monitoring.register_event_duration_secs_listener(filtered)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(filtered)


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    assert compiler_options() == {}


def test_other_backends_get_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() == {}


def costs(fn: Any, options: dict[str, Any], *args: Any, **jit_options: Any) -> dict[str, float]:
    """XLA's counts for a program that is compiled as users compile it."""
    jitted = jax.jit(fn, compiler_options={**compiler_options(), **options}, **jit_options)
    found: dict[str, float] = jitted.lower(*args).compile().cost_analysis()
    return found


def bytes_of_a_step(std: Any, wait: bool, options: dict[str, Any]) -> float:
    """The bytes that XLA counts for a step of gradient descent on one random weight."""

    def loss(q: Any, key: Any, x: Any) -> Any:
        kl = jnp.sum(normal_kl((q.mean, std(q.rho) + 1e-6), (0.0, 0.1)))
        return jnp.sum(jnp.tanh(x @ gaussian.sample(key, q))) + kl, kl

    def step(q: Any, key: Any, x: Any) -> Any:
        grads, kl = jax.grad(loss, has_aux=True)(q, key, x)
        grads = wait_for(kl, grads) if wait else grads
        return jax.tree.map(lambda a, b: a - 0.1 * b, q, grads), kl

    q = gaussian.centred(jnp.ones((256, 256)), 0.1)
    args = q, jax.random.key(0), jnp.ones((64, 256))
    return costs(step, options, *args, donate_argnums=0)["bytes accessed"]


def test_wait_for_and_recompute_softplus_are_still_needed(optimized: dict[str, Any]) -> None:
    both = bytes_of_a_step(recompute_softplus, True, optimized)
    assert bytes_of_a_step(recompute_softplus, False, optimized) > both
    assert bytes_of_a_step(softplus, True, optimized) > both


def test_materialise_is_still_needed(
    optimized: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three operations use the same signs, whose bits are drawn once."""

    def uses(key: Any, w: Any, x: Any) -> Any:
        signs = noise.signs(key, w.shape)
        return x @ (signs * w), jnp.sum(signs * w, axis=0), jnp.tanh(signs)

    args = jax.random.key(0), jnp.ones((256, 128)), jnp.ones((32, 256))
    once = costs(uses, optimized, *args)["flops"]
    monkeypatch.setattr(noise, "materialise", lambda a, divide_by: a * divide_by)
    jax.clear_caches()  # of the trace of the signs
    assert costs(uses, optimized, *args)["flops"] > 1.05 * once
    jax.clear_caches()


def test_false_at_run_time_is_still_needed(optimized: dict[str, Any]) -> None:
    """A loop over weight samples, as in predictions."""

    def sum_of_outputs(sign: Any, key: Any, q: Any, x: Any) -> Any:
        def add(i: Any, total: Any) -> Any:
            weights = gaussian.sample(noise.Draw(jax.random.fold_in(key, i), sign(i)), q)
            return total + jnp.sum(x @ weights)

        return jax.lax.fori_loop(0, 8, add, jnp.zeros(()))

    args = jax.random.key(0), gaussian.centred(jnp.ones((64, 64)), 0.1), jnp.ones((1000, 64))
    at_run_time, known = (
        costs(partial(sum_of_outputs, sign), optimized, *args)["flops"]
        for sign in (lambda i: jnp.where(false_at_run_time(i), -1, 1), lambda i: 1)
    )
    assert known > 1.03 * at_run_time


def test_store_is_still_needed(optimized: dict[str, Any]) -> None:
    """Convolutions read the result of normalizations, and so do the derivatives of kernels."""

    def bytes_accessed(keep: Any) -> float:
        def loss(kernels: Any, x: Any) -> Any:
            for kernel in kernels:
                y = jax.lax.conv_general_dilated(
                    keep(x), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                centred = y - y.mean((0, 1, 2), keepdims=True)
                variance = (centred**2).mean((0, 1, 2), keepdims=True)
                x = jax.nn.relu(x + centred / jnp.sqrt(variance + 1e-5))
            return jnp.sum(x)

        kernels, x = [jnp.ones((3, 3, 8, 8))] * 4, jnp.ones((16, 16, 16, 8))
        return costs(jax.grad(loss), optimized, kernels, x)["bytes accessed"]

    assert bytes_accessed(lambda x: x) > 1.02 * bytes_accessed(store)


def test_one_program_is_still_needed() -> None:
    compiled: list[str] = []
    with jax_event(lambda event, seconds, **_: compiled.append(event), "backend_compile"):
        noise._normal.__wrapped__(jax.random.key(0), (7, 43), jnp.dtype("float32"), "threefry")
    assert len(compiled) > 20


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_softplus_is_still_faster_than_that_of_jax() -> None:
    x = jnp.linspace(-5.0, 5.0, 500_000)
    calls = {
        name: partial(jax.jit(fn), x)
        for name, fn in {"ours": softplus, "JAX's": jax.nn.softplus}.items()
    }
    times = timing.in_turns(calls, rounds=21)
    assert timing.ratio(times["JAX's"], times["ours"]) > 1.2


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.skipif(not HAS_512_BITS, reason="the machine has no vectors of 512 bits")
def test_vectors_of_512_bits_are_still_not_the_default() -> None:
    key = jax.random.key(0)
    calls = {
        name: partial(jax.jit(lambda k: noise.normal(k, (500_000,)), compiler_options=options), key)
        for name, options in {"ours": compiler_options(), "XLA's": None}.items()
    }
    with jax.debug_key_reuse(False):
        times = timing.in_turns(calls, rounds=21)
    assert timing.ratio(times["XLA's"], times["ours"]) > 1.2
