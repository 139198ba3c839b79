"""The compiler's options: accepted, the same numbers, and out of the way of the user's own."""

import jax
import numpy as np
import pytest

from bnn_jax import noise
from bnn_jax._compiler import compiler_options


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


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    assert compiler_options() == {}


def test_other_backends_get_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() == {}
