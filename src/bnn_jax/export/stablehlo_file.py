"""StableHLO by `jax.export`: any network, run by a process that has JAX only.

from jax import export
run = export.deserialize(Path("folder/model.stablehlo").read_bytes()).call
run(x)["probabilities"]
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
from jax import export
from jaxtyping import PyTree

from bnn_jax._extras import optional_import
from bnn_jax.export.prepare import prepare

FILE = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def stablehlo(
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
    """Writes a network as StableHLO, model.stablehlo, and its card, card.json.

    The outputs are those of `predict`: probabilities, expected_entropy and mutual_information, or
    mean, aleatoric_variance and epistemic_variance. The mean network has the probabilities, or the
    mean and aleatoric_variance.

    Args:
        folder: a new or empty folder.
        model, posterior, likelihood: as in `predict`.
        example_inputs: an array (examples, ...) or a tuple of them, for shapes and dtypes.
        kind: "mean", "members", "one_pass" or "sampled".
        platforms: on which the file can run.
        options: those of `export.prepare`, such as key, num_samples, scaling and labels, and the
            network's own keyword arguments.

    Returns:
        The folder.

    Raises:
        MissingExtra: flatbuffers is not installed.
        Exception: as in `export.prepare`, before anything is written.
    """
    with optional_import("export.stablehlo"):
        import_module("flatbuffers")  # which jax.export needs to serialise
    prepared = prepare(folder, model, posterior, likelihood, example_inputs, kind=kind, **options)
    source = prepared.program
    exported = export.export(jax.jit(source.call), platforms=tuple(platforms))(*source.specs)
    content = exported.serialize()
    return prepared.write(
        "stablehlo",
        FILE,
        lambda path: path.write_bytes(content),
        versions={},
        more={
            "platforms": list(exported.platforms),
            "calling_convention_version": exported.calling_convention_version,
        },
    )
