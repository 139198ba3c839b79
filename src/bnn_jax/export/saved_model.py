"""TensorFlow's SavedModel by jax2tf: the program as StableHLO inside of a TensorFlow function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from bnn_jax._extras import optional_import
from bnn_jax.export.card import input_names
from bnn_jax.export.prepare import prepare
from bnn_jax.export.program import BATCH, Program
from bnn_jax.export.stablehlo_file import PLATFORMS

FOLDER = "saved_model"


def savedmodel(
    folder: str | Path,
    model: object,
    posterior: PyTree,
    likelihood: object,
    example_inputs: PyTree,
    *,
    kind: str,
    platforms: Sequence[str] = PLATFORMS,
    **options: Any,
) -> Path:
    """Writes a network as a TensorFlow SavedModel, saved_model/, and its card, card.json.

    The signature `serving_default` takes x0, x1, ... and returns the outputs by name.

    Args:
        folder, model, posterior, likelihood, example_inputs, platforms, options: as in `stablehlo`.
        kind: "mean", "members" or "one_pass".

    Returns:
        The folder.

    Raises:
        MissingExtra: TensorFlow is not installed.
        Exception: as in `export.prepare`, before anything is written.
    """
    check_fixed(kind, "A SavedModel")
    with optional_import("export.savedmodel"):
        import tensorflow as tf
    prepared = prepare(folder, model, posterior, likelihood, example_inputs, kind=kind, **options)
    module = tf.Module()
    module.f = _function(tf, prepared.program, tuple(platforms))
    return prepared.write(
        "savedmodel",
        FOLDER,
        lambda path: tf.saved_model.save(module, str(path), signatures=module.f),
        versions={"tensorflow": tf.__version__},
        more={"signature": "serving_default", "platforms": list(platforms)},
    )


def check_fixed(kind: str, what: str) -> None:
    """Raises a ValueError for the kind that needs JAX's random numbers."""
    if kind == "sampled":
        raise ValueError(
            f'{what} draws no weights: use kind="mean", "members" or "one_pass", or '
            "export.stablehlo for the sampled predictor."
        )


def _function(tf: Any, source: Program, platforms: tuple[str, ...]) -> Any:
    from jax.experimental import jax2tf

    shapes = [
        ", ".join(n if isinstance(n, str) else str(n) for n in map(str, spec.shape))
        for spec in source.specs
    ]
    converted = jax2tf.convert(
        source.call,
        polymorphic_shapes=[f"({shape})" for shape in shapes],
        with_gradient=False,
        native_serialization_platforms=platforms,
    )
    signature = [
        tf.TensorSpec([None if str(n) == BATCH else n for n in spec.shape], str(spec.dtype), name)
        for spec, name in zip(source.specs, input_names(source), strict=True)
    ]
    return tf.function(converted, autograph=False, input_signature=signature)
