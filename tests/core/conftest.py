"""The tests of the core compile many small programs and run each once."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Save the compiler's time, but where a test asks for what users compile."""
    quick = "optimized" not in request.fixturenames
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def optimized() -> None:
    """Asked for by tests that are to be compiled as users compile."""
