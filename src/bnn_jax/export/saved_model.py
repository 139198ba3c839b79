"""TensorFlow's SavedModel by jax2tf: the program as StableHLO inside of a TensorFlow function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from bnn_jax._extras import optional_import
from bnn_jax.export.card import (
    Units,
    check_labels,
    check_units,
    checked_folder,
    input_names,
    write_card,
)
from bnn_jax.export.program import BATCH, Program, program
from bnn_jax.export.stablehlo_file import PLATFORMS
from bnn_jax.noise import PRNGKey

FOLDER = "saved_model"


def savedmodel(
    folder: str | Path,
    model: object,
    posterior: PyTree,
    likelihood: object,
    example_inputs: PyTree,
    *,
    kind: str,
    key: PRNGKey | None = None,
    num_samples: int | None = None,
    temperature: float | None = None,
    labels: Sequence[str] | None = None,
    units: Units = None,
    target_units: str | None = None,
    any_batch: bool = True,
    platforms: Sequence[str] = PLATFORMS,
    **kwargs: object,
) -> Path:
    """Writes a network as a TensorFlow SavedModel, saved_model/, and its card, card.json.

    The signature `serving_default` takes x0, x1, ... and returns the outputs by name.

    Args:
        folder, model, posterior, likelihood, example_inputs, key, num_samples, temperature, labels,
            units, target_units, any_batch, platforms, kwargs: as in `stablehlo`.
        kind: "mean" or "members".

    Returns:
        The folder.

    Raises:
        MissingExtra: TensorFlow is not installed.
        FileExistsError: the folder is not empty.
        TypeError, ValueError: an invalid argument, before anything is written.
    """
    check_fixed(kind, "A SavedModel")
    with optional_import("export.savedmodel"):
        import tensorflow as tf
    path = checked_folder(folder)
    source = program(
        model,
        posterior,
        likelihood,
        example_inputs,
        kind=kind,
        key=key,
        num_samples=num_samples,
        temperature=temperature,
        any_batch=any_batch,
        kwargs=kwargs,
    )
    check_labels(source, labels)
    check_units(units, len(source.examples))
    module = tf.Module()
    module.f = _function(tf, source, tuple(platforms))
    path.mkdir(parents=True, exist_ok=True)
    tf.saved_model.save(module, str(path / FOLDER), signatures=module.f)
    write_card(
        path,
        source,
        form="savedmodel",
        file=FOLDER,
        labels=labels,
        units=units,
        target_units=target_units,
        versions={"tensorflow": tf.__version__},
        more={"signature": "serving_default", "platforms": list(platforms)},
    )
    return path


def check_fixed(kind: str, what: str) -> None:
    """Raises a ValueError for the kind that needs JAX's random numbers."""
    if kind == "sampled":
        raise ValueError(
            f'{what} holds fixed networks: use kind="mean" or kind="members", or export.stablehlo '
            "for the sampled predictor."
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
