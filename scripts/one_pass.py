"""One pass of means and variances against weight samples, on the trained network of run folders.

    python scripts/one_pass.py runs/lenet5_mnist --ood fashion_mnist --output runs/one_pass.jsonl
    python scripts/one_pass.py --output runs/one_pass.jsonl --table
    python scripts/one_pass.py --output runs/one_pass.jsonl --figure docs/images/one_pass.png

For each run the first call predicts test examples, and with `--ood` as many images of another data
set, with 4,096 weight samples, with 1, 8, 32 and 128 of another key, and with method="moments". It
appends a line for each of them to the output file:

    nll, ece           on the test examples
    total_variation    from the 4,096 samples, the mean over test examples
    auroc              of mutual information for the other images, as out of distribution; in the
                       line of the 4,096 samples that of 512
    milliseconds       for the test examples: the median over turns of all methods in one process

`--table` prints the lines as Markdown, and `--figure` plots total variation against time.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np

from bnn_jax import experiment, toolbox
from bnn_jax.report import other_images

SAMPLES = (1, 8, 32, 128)
REFERENCE, REFERENCE_OUTSIDE = 4096, 512
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def predictions(run: experiment.Run, images: Any, name: str) -> Any:
    """Returns the predictive by "one pass" or by a number of samples."""
    if name == "one pass":
        return run.fit.predict(images, method="moments")
    # The reference has noise of its own.
    key = jax.random.key(0 if int(name) == REFERENCE else 1)
    return run.fit.predict(images, int(name), key=key)


def rows_of(folder: Path, ood: str | None, examples: int, turns: int) -> list[dict[str, Any]]:
    """Returns one row for each method on the run of a folder."""
    run = experiment.load(folder)
    images, labels = (np.asarray(a[:examples]) for a in run.examples.held_out)
    others = None
    if ood is not None:
        source, shape = other_images.Source.parse(ood), images.shape[1:]
        data_dir = run.images.data_dir
        others = other_images.load(source, data_dir, shape=shape, most=examples).images
    names = [*map(str, SAMPLES), "one pass"]
    reference = predictions(run, images, str(REFERENCE))
    rows = [scores(run, folder, name, reference, images, labels, others) for name in names]
    whole = scores(run, folder, str(REFERENCE), reference, images, labels, others)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            start = time.perf_counter()
            predictions(run, images, name)
            seconds[name].append(time.perf_counter() - start)
    for row in rows:
        row["milliseconds"] = 1000 * statistics.median(seconds[row["method"]])
    return [*rows, whole]


def scores(
    run: experiment.Run,
    folder: Path,
    name: str,
    reference: Any,
    images: np.ndarray,
    labels: np.ndarray,
    others: np.ndarray | None,
) -> dict[str, Any]:
    """Returns the row of one method, without its time."""
    same = name == str(REFERENCE)
    inside = reference if same else predictions(run, images, name)
    p = inside.probabilities
    auroc = None
    if others is not None:
        number = str(REFERENCE_OUTSIDE) if same else name
        ranked = predictions(run, images, number) if same else inside
        outside = predictions(run, others, number)
        information = np.concatenate([ranked.mutual_information, outside.mutual_information])
        is_out = np.arange(len(information)) >= len(images)
        auroc = float(toolbox.out_of_distribution.auroc(information, is_out))
    return {
        "run": folder.name,
        "method": name,
        "examples": len(images),
        "accuracy": float(toolbox.metrics.accuracy(p, labels)),
        "nll": float(toolbox.metrics.nll(p, labels)),
        "ece": float(toolbox.calibration.ece(p, labels)),
        "total_variation": float(toolbox.fidelity.total_variation(p, reference.probabilities)),
        "auroc": auroc,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| run | method | NLL | ECE | mean total variation | OOD AUROC | milliseconds |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        method = row["method"] if row["method"] == "one pass" else f"{row['method']} samples"
        variation = "" if row["method"] == str(REFERENCE) else f"{row['total_variation']:.4f}"
        spent = f"{row['milliseconds']:.0f}" if "milliseconds" in row else ""
        auroc = "" if row["auroc"] is None else f"{row['auroc']:.4f}"
        numbers = f"{row['nll']:.4f} | {row['ece']:.4f} | {variation} | {auroc}"
        lines.append(f"| {row['run']} | {method} | {numbers} | {spent} |")
    return "\n".join(lines)


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Plots the distance from the reference against time, a line of samples for each run."""
    _, axes = plt.subplots(figsize=(8.4, 4.2), layout="constrained")
    for name, color in zip(dict.fromkeys(row["run"] for row in rows), COLORS, strict=False):
        own = [row for row in rows if row["run"] == name and "milliseconds" in row]
        sampled = [row for row in own if row["method"] != "one pass"]
        (one,) = (row for row in own if row["method"] == "one pass")
        xs, ys = ([row[k] for row in sampled] for k in ("milliseconds", "total_variation"))
        axes.plot(xs, ys, "o-", color=color, label=f"{name}: samples")
        for row, x, y in zip(sampled, xs, ys, strict=True):
            axes.annotate(row["method"], (x, y), (4, 4), textcoords="offset points", fontsize=8)
        at = (one["milliseconds"], one["total_variation"])
        axes.plot(*at, "*", color=color, markersize=13, label=f"{name}: one pass")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("milliseconds for the test images")
    axes.set_ylabel(f"mean total variation from {REFERENCE:,} samples")
    axes.margins(x=0.1)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    plt.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="One pass against weight samples.")
    parser.add_argument("run", type=Path, nargs="?", help="a run folder of a classifier")
    parser.add_argument("--ood", help="another data set, NAME or NAME=FOLDER")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True, help="a file of JSON lines")
    parser.add_argument("--table", action="store_true", help="print the output file as Markdown")
    parser.add_argument("--figure", type=Path, help="plot the output file")
    given = parser.parse_args()
    if given.run is not None:
        with given.output.open("a") as file:
            for row in rows_of(given.run, given.ood, given.examples, given.turns):
                file.write(json.dumps(row) + "\n")
    rows = [json.loads(line) for line in given.output.read_text().splitlines()]
    if given.table:
        print(table(rows))
    if given.figure is not None:
        figure(rows, given.figure)


if __name__ == "__main__":
    main()
