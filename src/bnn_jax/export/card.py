"""The card of an export, card.json: all that a user of the file must know."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import jax
from jaxtyping import PyTree

from bnn_jax import likelihoods
from bnn_jax.export.program import Program

Units = str | Sequence[str | None] | None


def check_labels(program: Program, labels: Sequence[str] | None) -> None:
    """Raises a ValueError unless there is one label for each class."""
    if labels is None:
        return
    if not isinstance(program.likelihood, likelihoods.Classification):
        raise ValueError("labels are the names of classes, and the likelihood has none.")
    shape = program.outputs["probabilities"].shape
    bernoulli = isinstance(program.likelihood, likelihoods.Bernoulli)
    classes = 2 if bernoulli else shape[-1]
    if len(labels) != classes:
        raise ValueError(f"labels must name the {classes} classes in order, got {len(labels)}.")


def check_features(program: Program, features: Sequence[str] | None) -> None:
    """Raises a ValueError unless there is a name for each number on the last axis of the input."""
    if features is None:
        return
    shapes = [x.shape[1:] for x in program.examples]
    if len(shapes) != 1 or not shapes[0] or shapes[0][-1] != len(features):
        raise ValueError(
            "features must name the numbers on the last axis of the only input, got "
            f"{len(features)} names for inputs of shapes {shapes}."
        )


def card(
    program: Program,
    *,
    form: str,
    file: str,
    labels: Sequence[str] | None,
    features: Sequence[str] | None,
    targets: Sequence[str] | None,
    units: Units,
    target_units: str | None,
    versions: Mapping[str, str],
    more: Mapping[str, PyTree],
) -> str:
    """Returns the text of card.json.

    Args:
        program: what was exported.
        form: the file format, such as "stablehlo".
        file: the name of the file or folder beside the card.
        labels, features, targets, units, target_units: see `prepare`.
        versions: of the packages that wrote the file, beside bnn_jax, jax and Python.
        more: further entries of this format.
    """
    content = {
        "format": form,
        "file": file,
        "kind": program.kind,
        "num_samples": program.num_samples,
        "inputs": _inputs(program, units),
        "features": None if features is None else list(features),
        "outputs": [
            {"name": name, **_array(spec), "units": _output_units(name, target_units)}
            for name, spec in program.outputs.items()
        ],
        "labels": None if labels is None else list(labels),
        "targets": None if targets is None else list(targets),
        "likelihood": _likelihood(program),
        "temperature": getattr(program.likelihood, "temperature", None),
        "generator": program.generator,
        "versions": {
            "bnn_jax": _own_version(),
            "jax": jax.__version__,
            "python": platform.python_version(),
            **versions,
        },
        **more,
    }
    return json.dumps(content, indent=2) + "\n"


def input_names(program: Program) -> list[str]:
    """Returns the names of the arguments: x0, x1, ..., after the key if there is one."""
    has_key = program.kind == "sampled"
    names = [f"x{i}" for i in range(len(program.examples))]
    return ["key", *names] if has_key else names


def check_units(units: Units, count: int) -> list[str | None]:
    """Returns the units of each input; one text stands for all.

    Raises:
        ValueError: the wrong number of units.
    """
    if units is None or isinstance(units, str):
        return [units] * count
    if len(units) != count:
        raise ValueError(f"units must have one entry for each of {count} inputs, got {len(units)}.")
    return list(units)


def _own_version() -> str:
    try:
        return version("bnn-jax")
    except PackageNotFoundError:  # on the path without being installed
        return "unknown"


def _inputs(program: Program, units: Units) -> list[dict[str, PyTree]]:
    each: list[str | None] = check_units(units, len(program.examples))
    if program.kind == "sampled":
        each = ["random bits, new for every call", *each]
    return [
        {"name": name, **_array(spec), "units": unit}
        for name, spec, unit in zip(input_names(program), program.specs, each, strict=True)
    ]


def _array(spec: jax.ShapeDtypeStruct) -> dict[str, PyTree]:
    shape = [n if isinstance(n, int) else str(n) for n in spec.shape]
    return {"shape": shape, "dtype": str(spec.dtype)}


def _output_units(name: str, target_units: str | None) -> str | None:
    if name in ("expected_entropy", "mutual_information"):
        return "nats"
    if name == "probabilities" or target_units is None:
        return None
    return target_units if name == "mean" else f"({target_units})^2"


def _likelihood(program: Program) -> dict[str, PyTree]:
    likelihood = program.likelihood
    if not isinstance(likelihood, likelihoods.Likelihood):
        return {"name": "a function of the outputs"}
    return {"name": type(likelihood).__name__, **vars(likelihood)}
