"""The compiler's options: accepted, the same numbers, and out of the way of the user's own."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import gaussian, noise
from bnn_jax._compiler import compiler_options, recompute_softplus, softplus, wait_for
from bnn_jax.priors.normal_kl import normal_kl


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


def bytes_of_a_step(std: Any, wait: bool) -> float:
    """The bytes that XLA counts for a step of gradient descent on one random weight."""

    def loss(q: Any, key: Any, x: Any) -> Any:
        kl = jnp.sum(normal_kl((q.mean, std(q.rho) + 1e-6), (0.0, 0.1)))
        return jnp.sum(jnp.tanh(x @ gaussian.sample(key, q))) + kl, kl

    def step(q: Any, key: Any, x: Any) -> Any:
        grads, kl = jax.grad(loss, has_aux=True)(q, key, x)
        grads = wait_for(kl, grads) if wait else grads
        return jax.tree.map(lambda a, b: a - 0.1 * b, q, grads), kl

    q = gaussian.centred(jnp.ones((256, 256)), 0.1)
    jitted = jax.jit(step, donate_argnums=0, compiler_options=compiler_options())
    program = jitted.lower(q, jax.random.key(0), jnp.ones((64, 256))).compile()
    return float(program.cost_analysis()["bytes accessed"])


@pytest.mark.usefixtures("optimized")
def test_wait_for_and_recompute_softplus_are_still_needed() -> None:
    both = bytes_of_a_step(recompute_softplus, wait=True)
    assert bytes_of_a_step(recompute_softplus, wait=False) > both
    assert bytes_of_a_step(softplus, wait=True) > both
