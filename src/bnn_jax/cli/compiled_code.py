"""The cache of compiled programs of the command line."""

from pathlib import Path


def keep_compiled_code() -> None:
    """Caches compiled programs on disk, so that a second run does not compile them again."""
    import jax

    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if given is None:
        folder = Path.home() / ".cache" / "bnn_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
