"""The folder `report` in a run folder.

    index.html      the page, complete in one file
    metrics.json    all its numbers
    NAME.png, .svg  each figure

It is written beside the old one and takes its place when complete, so that a report that is there
is whole, and holds nothing of an earlier one.
"""

import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnn_jax.experiment.commands import Run
from bnn_jax.experiment.folder import RunError
from bnn_jax.report import other_images, page
from bnn_jax.report.classifier_gather import gather_classifier
from bnn_jax.report.classifier_scores import classifier_scores
from bnn_jax.report.findings import ClassifierFindings, RegressionFindings
from bnn_jax.report.regression_scores import regression_scores


def require(run_folder: Path) -> None:
    """Refuse at once what would fail at the end.

    Raises:
        RunError: matplotlib is missing, or there is a folder `report` that is not a report.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise RunError(
            "A report needs matplotlib, which is not installed: pip install 'bnn-jax[plot]'."
        )
    target = run_folder / "report"
    if target.exists() and not (target / "index.html").is_file():
        raise RunError(
            f"{target} is there and is not a report (it has no index.html): move it away, the "
            "report takes its place."
        )


def write(run_folder: Path, run: Run, *, ood: Sequence[str] = ()) -> dict[str, Any]:
    """Write the report of a finished run into its folder, in place of an earlier report.

    Args:
        run_folder: the run folder.
        run: what `experiment.load` made of it.
        ood: data sets out of distribution, each NAME or NAME=FOLDER with the original files.

    Returns:
        The numbers, as in metrics.json.

    Raises:
        RunError, DataError: told in one line, before anything is computed or written.
    """
    require(run_folder)
    sources = other_images.parse(ood, trained_on=run.config.data.name)
    findings = gather_classifier(run_folder, run, sources)
    return write_findings(run_folder, findings, ece_bins=run.config.evaluation.ece_bins)


def write_findings(
    run_folder: Path, findings: ClassifierFindings | RegressionFindings, *, ece_bins: int = 15
) -> dict[str, Any]:
    """Write the report of what `gather_classifier` or `gather_regression` has found.

    Returns:
        The numbers, as in metrics.json.
    """
    # These draw, and so need matplotlib.
    from bnn_jax.report.classifier_contents import classifier_contents
    from bnn_jax.report.regression_contents import regression_contents

    if isinstance(findings, ClassifierFindings):
        numbers = classifier_scores(findings, bins=ece_bins)
        contents = classifier_contents(findings, numbers)
    else:
        numbers = regression_scores(findings)
        contents = regression_contents(findings, numbers)
    partial = Path(tempfile.mkdtemp(prefix=".report-", dir=run_folder))
    try:
        _write_files(partial, f"{findings.run}: {findings.data}", contents, numbers)
        partial.chmod(run_folder.stat().st_mode)
        _replace(run_folder / "report", partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return numbers


def _write_files(
    folder: Path, title: str, contents: Iterable[Any], numbers: Mapping[str, Any]
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
    """A name as part of a file name on any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _replace(target: Path, partial: Path) -> None:
    old = partial.with_name(f"{partial.name}-old")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
