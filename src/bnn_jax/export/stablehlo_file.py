"""StableHLO by `jax.export`: any network, run by a process that has JAX only.

from jax import export
run = export.deserialize(Path("folder/model.stablehlo").read_bytes()).call
run(x)["probabilities"]
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import jax
from jax import export
from jaxtyping import PyTree

from bnn_jax._extras import optional_import
from bnn_jax.export.card import Units, check_labels, check_units, checked_folder, write_card
from bnn_jax.export.program import program
from bnn_jax.noise import PRNGKey

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
    """Writes a network as StableHLO, model.stablehlo, and its card, card.json.

    The outputs are those of `predict`: probabilities, expected_entropy and mutual_information, or
    mean, aleatoric_variance and epistemic_variance. The mean network has the probabilities, or the
    mean and aleatoric_variance.

    Args:
        folder: a new or empty folder.
        model: what `to_bnn` returns, or a function (params, x) -> outputs.
        posterior: as in `predict`; None for the model's own.
        likelihood: as in `predict`.
        example_inputs: an array (examples, ...) or a tuple of them, for shapes and dtypes.
        kind: "mean", the network at the posterior mean; "members", fixed weight samples as one
            network; "sampled", new weight samples at each call, whose first argument is the raw
            key, uint32 (2,), as `jax.random.key_data` returns it.
        key: draws the members; not needed for an ensemble.
        num_samples: of members or draws; all networks of an ensemble by default.
        temperature: divides the logits of a Categorical likelihood; recorded in the card.
        labels: names of the classes, for the card.
        units: of the inputs, one text for all or one for each input, for the card.
        target_units: of the targets of a regression, for the card.
        any_batch: a symbolic number of examples; False for that of example_inputs.
        platforms: on which the file can run.
        kwargs: the network's own, such as train=False.

    Returns:
        The folder.

    Raises:
        MissingExtra: flatbuffers is not installed.
        FileExistsError: the folder is not empty.
        TypeError, ValueError: an invalid argument, before anything is written.
    """
    with optional_import("export.stablehlo"):
        import_module("flatbuffers")  # which jax.export needs to serialise
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
    exported = export.export(jax.jit(source.call), platforms=tuple(platforms))(*source.specs)
    content = exported.serialize()
    path.mkdir(parents=True, exist_ok=True)
    (path / FILE).write_bytes(content)
    write_card(
        path,
        source,
        form="stablehlo",
        file=FILE,
        labels=labels,
        units=units,
        target_units=target_units,
        versions={},
        more={
            "platforms": list(exported.platforms),
            "calling_convention_version": exported.calling_convention_version,
        },
    )
    return path
