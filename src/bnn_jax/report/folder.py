"""The folder `report` in a run folder.

    index.html      the page, complete in one file
    metrics.json    all its numbers
    NAME.png, .svg  each figure

It is written to a temporary folder and replaces an earlier report when it is complete, so a report
is never incomplete and holds no files of an earlier one.
"""

import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnn_jax.experiment.commands import Run
from bnn_jax.experiment.folder import Record, RunError
from bnn_jax.report import other_images, page
from bnn_jax.report.classifier_gather import gather_classifier
from bnn_jax.report.classifier_scores import classifier_scores
from bnn_jax.report.findings import ClassifierFindings, RegressionFindings
from bnn_jax.report.regression_scores import regression_scores

if TYPE_CHECKING:
    from bnn_jax.report.shared_contents import Picture


def require(path: Path) -> None:
    """Checks that a report can be written to a run folder.

    Raises:
        RunError: matplotlib is missing, or the folder `report` is not a report.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise RunError(
            "A report needs matplotlib, which is not installed: pip install 'bnn-jax[plot]'."
        )
    target = path / "report"
    if target.exists() and not (target / "index.html").is_file():
        raise RunError(
            f"{target} is not a report (it has no index.html): move it, because the report is "
            "written there."
        )


def write(path: Path, run: Run, *, ood: Sequence[str] = ()) -> Record:
    """Writes the report of a finished run into its folder, and replaces an earlier report.

    Args:
        path: the run folder.
        run: the run that `experiment.load` read from it.
        ood: out-of-distribution data sets, each NAME or NAME=FOLDER with the original files.

    Returns:
        The scores, as in metrics.json.

    Raises:
        RunError, DataError: an invalid argument, before anything is computed or written.
    """
    require(path)
    sources = other_images.parse(ood, trained_on=run.config.data.title)
    findings = gather_classifier(path, run, sources)
    return write_findings(path, findings, ece_bins=run.config.evaluation.ece_bins)


def write_findings(
    path: Path, findings: ClassifierFindings | RegressionFindings, *, ece_bins: int = 15
) -> Record:
    """Writes the report of the findings of `gather_classifier` or `gather_regression`.

    Args:
        path: the run folder.
        findings: the contents of the report.
        ece_bins: number of bins of the calibration errors of a classifier.

    Returns:
        The scores, as in metrics.json.
    """
    # Imported here because they need matplotlib.
    from bnn_jax.report.classifier_contents import classifier_contents
    from bnn_jax.report.regression_contents import regression_contents

    if isinstance(findings, ClassifierFindings):
        numbers = classifier_scores(findings, bins=ece_bins)
        contents = classifier_contents(findings, numbers)
    else:
        numbers = regression_scores(findings)
        contents = regression_contents(findings, numbers)
    partial = Path(tempfile.mkdtemp(prefix=".report-", dir=path))
    try:
        _write_files(partial, f"{findings.run}: {findings.data}", contents, numbers)
        partial.chmod(path.stat().st_mode)
        _replace(path / "report", partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return numbers


def _write_files(
    folder: Path, title: str, contents: "Iterable[page.Part | Picture]", numbers: Record
) -> None:
    from bnn_jax.report import style
    from bnn_jax.report.shared_contents import Picture

    parts: list[page.Part] = []
    for part in contents:
        if isinstance(part, Picture):
            _, svg = style.save(part.figure, folder / file_name(part.name))
            parts.append(page.Image(svg.read_bytes(), part.shows, part.caption))
        else:
            parts.append(part)
    text = json.dumps(numbers, indent=2, allow_nan=False) + "\n"
    (folder / "metrics.json").write_text(text)
    (folder / "index.html").write_text(page.render(title, parts), encoding="utf-8")


def file_name(name: str) -> str:
    """Returns a name as part of a file name that is valid on any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _replace(target: Path, partial: Path) -> None:
    old = partial.with_name(f"{partial.name}-old")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
