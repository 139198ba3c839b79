"""What all formats share: the arguments of an export, their checks, and the folder."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from bnn_jax.export.card import Units, card, check_features, check_labels, check_units
from bnn_jax.export.program import Program, program
from bnn_jax.export.scaling import Scaling
from bnn_jax.noise import PRNGKey


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A checked export that is not yet written.

    Attributes:
        folder: where to.
        program: the function.
        described: the entries of the card that the caller gave.
    """

    folder: Path
    program: Program
    described: Mapping[str, Any]

    def write(
        self,
        form: str,
        file: str,
        write: Callable[[Path], object],
        *,
        versions: Mapping[str, str],
        more: Mapping[str, PyTree],
    ) -> Path:
        """Writes the folder, whole or not at all, and returns its path.

        Args:
            form: the format, such as "stablehlo".
            file: the name of the file or folder beside the card.
            write: writes the file or folder of this path.
            versions: of the packages that wrote the file, beside bnn_jax, jax and Python.
            more: further entries of the card.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".export-", dir=self.folder.parent))
        try:
            write(partial / file)
            text = card(
                self.program, form=form, file=file, versions=versions, **self.described, more=more
            )
            (partial / "card.json").write_text(text)
            partial.chmod(0o777 & ~_umask())
            if self.folder.exists():
                self.folder.rmdir()  # it is empty
            partial.rename(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return self.folder


def prepare(
    folder: str | Path,
    model: object,
    posterior: PyTree,
    likelihood: object,
    example_inputs: PyTree,
    *,
    kind: str,
    key: PRNGKey | None = None,
    num_samples: int | None = None,
    antithetic: bool = False,
    temperature: float | None = None,
    scaling: Scaling | None = None,
    any_batch: bool = True,
    labels: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    units: Units = None,
    target_units: str | None = None,
    **kwargs: object,
) -> Prepared:
    """Checks the arguments of an export, which are the same for all formats.

    Args:
        folder: a new or empty folder.
        model: what `to_bnn` returns, or a function (params, x) -> outputs.
        posterior: as in `predict`; None for the model's own.
        likelihood: as in `predict`.
        example_inputs: an array (examples, ...) or a tuple of them, for shapes and dtypes.
        kind: "mean", the network at the posterior mean; "members", fixed weight samples as one
            network; "one_pass", the prediction of `predict(method="moments")`, for mean-field
            posteriors; "sampled", new weight samples at each call, whose first argument is the raw
            key, uint32 (2,), as `jax.random.key_data` returns it.
        key: draws the members; not needed for an ensemble.
        num_samples: of members or draws; all networks of an ensemble by default.
        antithetic: members or draws in pairs with opposite noise, as in `predict`.
        temperature: divides the logits of a Categorical likelihood; recorded in the card.
        scaling: of a fit on standardised data, `fit.scaling`: the program then takes inputs in
            their own units and returns numbers in those of the targets.
        any_batch: a symbolic number of examples; False for that of example_inputs.
        labels: names of the classes, for the card.
        features: names of the numbers on the last axis of the input, for the card.
        targets: names of the targets of a regression, for the card.
        units: of the inputs, one text for all or one for each input, for the card.
        target_units: of the targets of a regression, for the card.
        kwargs: the network's own, such as train=False.

    Raises:
        FileExistsError: the folder is not empty.
        TypeError, ValueError: an invalid argument.
        MomentsError: of kind "one_pass", an operation that variances cannot pass.
    """
    path = checked_folder(folder)
    source = program(
        model,
        posterior,
        likelihood,
        example_inputs,
        kind=kind,
        key=key,
        num_samples=num_samples,
        antithetic=antithetic,
        temperature=temperature,
        scaling=scaling,
        any_batch=any_batch,
        kwargs=kwargs,
    )
    check_labels(source, labels)
    check_units(units, len(source.examples))
    check_features(source, features)
    described = {
        "labels": labels,
        "features": features,
        "targets": targets,
        "units": units,
        "target_units": target_units,
    }
    return Prepared(path, source, described)


def checked_folder(folder: str | Path) -> Path:
    """Returns the absolute path of a folder that is empty or does not exist.

    Raises:
        FileExistsError: it holds something.
    """
    path = Path(folder).expanduser().absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is not empty: choose a new folder for the export.")
    return path


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
