"""Settings of every test: JAX at its strictest, and the folder of the shared data sets."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# A shell starts background jobs with these ignored, and fits leave ignored signals alone.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) == signal.SIG_IGN:
        default = signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, default)

# Many tests compile the same program: once a session is enough, for all its processes.
if "BNN_JAX_TESTS_COMPILED" not in os.environ:
    _COMPILED = tempfile.TemporaryDirectory(prefix="bnn_jax_tests_")
    os.environ["BNN_JAX_TESTS_COMPILED"] = _COMPILED.name
jax.config.update("jax_compilation_cache_dir", os.environ["BNN_JAX_TESTS_COMPILED"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the original data files and reference numbers, or skip the test."""
    folder = os.environ.get("BNN_JAX_SHARED")
    if not folder:
        pytest.skip("BNN_JAX_SHARED is not set: it names the folder with the data sets")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"BNN_JAX_SHARED is {folder!r}, which is not a folder")
    return path


# Their tests compile many small programs and run each once.
_MANY_SMALL_PROGRAMS = {"core", "interpreter", "moments", "predictive", "models", "experimental"}


@pytest.fixture(autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Skip most of XLA's optimizations in some folders, except where a test asks for them."""
    quick = request.path.parent.name in _MANY_SMALL_PROGRAMS
    jax.config.update(
        "jax_disable_most_optimizations", quick and "optimized" not in request.fixturenames
    )
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def optimized() -> None:
    """Requested by tests that must be compiled as users compile."""
