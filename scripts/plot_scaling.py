"""Time of a dense network against batch size, width and number of weight samples.

    .venv/bin/python scripts/plot_scaling.py docs/images/scaling.png

The script measures training steps of an MLP 784-w-w-10 for batches of 32 to 4,096 and widths of 200
to 3,200, and predictions of 1,000 examples with 1 to 64 weight samples, alternately with the
deterministic network. It plots the medians, and writes the numbers to a file of JSON lines in the
folder of the figure. It requires matplotlib.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt

from bnn_jax.benchmark import cases, timing
from bnn_jax.benchmark.workloads import WORKLOADS, Workload
from bnn_jax.models import MLP

BATCHES = (32, 128, 512, 2048, 4096)
WIDTHS = (200, 400, 800, 1600, 3200)
SAMPLES = (1, 2, 4, 8, 16, 32, 64)
STYLES = {
    "plain": ("black", "-", "o"),
    "reparam": ("#0072B2", "-", "s"),
    "local_reparam": ("#009E73", "--", "^"),
    "flipout": ("#D55E00", "-.", "D"),
    "predict": ("#0072B2", "-", "s"),
}
DTYPE = jnp.float32


def of_width(width: int) -> Workload:
    return dataclasses.replace(
        WORKLOADS["W1"],
        title=f"MLP 784-{width}-{width}-10",
        network=lambda dtype: MLP((width, width), dtype=dtype),
    )


def steps(workload: Workload) -> dict[str, Callable[[], Any]]:
    made = {"plain": cases.train_step(workload, None, dtype=DTYPE)}
    for estimator in workload.estimators:
        made[estimator] = cases.train_step(workload, estimator, dtype=DTYPE)
    return {name: case.call for name, case in made.items()}


def predictions(samples: int) -> dict[str, Callable[[], Any]]:
    options: dict[str, Any] = {"dtype": DTYPE, "examples": 1000}
    workload = WORKLOADS["W1"]
    return {
        "plain": cases.plain_passes(workload, passes=samples, **options).call,
        "predict": cases.prediction(workload, samples=samples, **options).call,
    }


def measure(
    places: Sequence[int], make: Callable[[int], dict[str, Callable[[], Any]]], rounds: int
) -> list[dict[str, Any]]:
    found = []
    for place in places:
        times = timing.in_turns(make(place), rounds=rounds)
        found.append({"at": place, **{name: 1e3 * t.median for name, t in times.items()}})
        print(found[-1], flush=True)
    return found


def draw(panels: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        for name in [name for name in found[0] if name != "at"]:
            color, line, marker = STYLES[name]
            label = "plain passes" if name == "plain" and "predict" in found[0] else name
            x, y = [f["at"] for f in found], [f[name] for f in found]
            axis.plot(x, y, color=color, linestyle=line, marker=marker, markersize=4, label=label)
        axis.set(xscale="log", yscale="log", xlabel=title, ylabel="ms")
        axis.set_xticks([f["at"] for f in found], [str(f["at"]) for f in found], fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    axes[0].set_title("Training step, width 400", fontsize=11)
    axes[1].set_title("Training step, batch 128", fontsize=11)
    axes[2].set_title("Prediction, 1,000 examples, width 400", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="file of the figure")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    w1 = WORKLOADS["W1"]
    panels = {
        "batch": measure(
            BATCHES, lambda n: steps(dataclasses.replace(w1, batch=n)), arguments.rounds
        ),
        "width": measure(WIDTHS, lambda n: steps(of_width(n)), arguments.rounds),
        "weight samples": measure(SAMPLES, predictions, arguments.rounds),
    }
    lines = [json.dumps({"panel": k, **line}) for k, found in panels.items() for line in found]
    arguments.output.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")
    draw(panels, arguments.output)


if __name__ == "__main__":
    main()
