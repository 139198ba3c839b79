"""Settings of every test: JAX at its strictest, and the folder of the shared data sets."""

import os
import signal
import tempfile
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
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


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


# Most of the time of the tests is spent on compiling programs that run once. With these flags, and
# without most optimizations, that takes about a fifth of the time. The values are (quick, default).
_FLAGS: dict[str, tuple[bool | int, bool | int]] = {"xla_cpu_parallel_codegen_split_count": (1, 32)}
if jax.__version_info__ < (0, 11):  # newer versions abort on a flag that they do not know
    _FLAGS["xla_cpu_use_fusion_emitters"] = (False, True)
# Their slow tests compile many small programs and run each once, too.
_SMALL_PROGRAMS = {"core", "experimental", "interpreter", "models", "moments", "predictive", "zoo"}


def _is_quick(config: pytest.Config) -> bool:
    """Returns whether this is a run of the tests that are not slow."""
    return config.option.markexpr == "not slow"


def pytest_configure(config: pytest.Config) -> None:
    if not _is_quick(config):
        return
    jax.config.update("jax_disable_most_optimizations", True)
    given = os.environ.get("XLA_FLAGS", "")
    flags = {name: str(quick).lower() for name, (quick, _) in _FLAGS.items() if name not in given}
    os.environ["XLA_FLAGS"] = " ".join([given, *(f"--{name}={flags[name]}" for name in flags)])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip most optimizations in the test and its fixtures, unless the test asks for them."""
    quick = _is_quick(item.config) or item.path.parent.name in _SMALL_PROGRAMS
    asks = "optimized" in getattr(item, "fixturenames", ())
    jax.config.update("jax_disable_most_optimizations", quick and not asks)


@pytest.fixture
def optimized() -> dict[str, bool | int]:
    """Turns XLA's optimizations on, and returns the options of `jax.jit` for the flags of users."""
    return {name: default for name, (_, default) in _FLAGS.items()}
