"""Optional dependencies: which extra of bnn-jax installs which package.

The core of bnn-jax needs jax, flax, optax, orbax-checkpoint, jaxtyping and numpy. Code that needs
another package imports it under `optional_import`, so that its absence is an error that says what
to install.
"""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "cli": ("click", "pydantic", "rich", "tqdm", "yaml"),
    "data": (
        "PIL",
        "array_record",
        "grain",
        "importlib_resources",
        "requests",
        "sklearn",
        "tensorflow_datasets",
    ),
    "distributions": ("numpyro",),
    "export": ("flatbuffers",),
    "huggingface": ("datasets", "PIL"),
    "onnx": ("jax2onnx", "onnxruntime"),
    "parquet": ("pyarrow",),
    "plot": ("matplotlib",),
    "samplers": ("blackjax",),
    "savedmodel": ("tensorflow",),
    "tensorboard": ("tensorboardX",),
}


class MissingExtra(ModuleNotFoundError):
    """An optional dependency is not installed; the message says how to install it."""


@contextmanager
def optional_import(purpose: str) -> Iterator[None]:
    """Imports of optional dependencies.

    Args:
        purpose: what needs them, which starts the error message.

    Raises:
        MissingExtra: one of the packages in `EXTRAS` is not installed.
    """
    try:
        yield
    except MissingExtra:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        for extra, packages in EXTRAS.items():
            if package in packages:
                raise MissingExtra(
                    f"{purpose} needs {package}, which is not installed: "
                    f"pip install 'bnn-jax[{extra}]'",
                    name=error.name,
                ) from error
        raise
