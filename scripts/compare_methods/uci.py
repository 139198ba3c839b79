"""Every inference method on the UCI regression sets: log likelihood, RMSE, distance to NUTS, time.

    export XLA_FLAGS=--xla_cpu_multi_thread_eigen=false
    python scripts/compare_methods/uci.py --folder ../shared/data/uci --output runs/uci.jsonl
    python scripts/compare_methods/uci.py --output runs/uci.jsonl --table --figure uci.png

The seconds are CPU time of the fit, compilation included.

One hidden layer of 50 tanh units and a learned noise level, as in Hernandez-Lobato and Adams 2015;
inputs and targets are standardised by the training data, results are in the targets' units. The
priors are N(0, 1) for the first layer, N(0, 0.42) for the last, and N(-1, 1) for the noise's rho.
The hyper-parameters of each method are the same for all sets. Those of SGHMC were selected on a
fifth of the training examples of split 0 of three sets; the others were not tuned.

A finished (set, split, method) is a line of the output file, and is not run again. NUTS runs first
in each split: the others' total variation from it is computed from the predictive densities.
"""

import argparse
import dataclasses
import json
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from bnn_jax import (
    BayesianModel,
    Fit,
    NormalPrior,
    data,
    fit,
    gaussian,
    infer,
    likelihoods,
    to_bnn,
)
from bnn_jax.infer import Method
from bnn_jax.posteriors import size

SETS = ("boston", "concrete", "energy", "wine", "yacht")
HIDDEN = 50
FIELDS = {
    "log likelihood": "log_likelihood",
    "RMSE": "rmse",
    "distance to NUTS": "total_variation",
    "CPU seconds": "cpu_seconds",
}
GRID = np.linspace(-5.0, 5.0, 1001)  # standardised targets


class Network(nn.Module):
    """One hidden layer, and one rho of the noise for all examples."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch features"]) -> tuple[Array, Array]:
        hidden = nn.tanh(nn.Dense(HIDDEN, name="first")(x))
        rho = self.param("noise", nn.initializers.constant(-1.0), (1,))
        mean = nn.Dense(1, name="last")(hidden)
        return mean, jnp.broadcast_to(rho, mean.shape)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A method as it is run on a UCI set: built for a number of examples, and its epochs."""

    method: Callable[[int], Method]
    epochs: int
    estimator: str = "reparam"
    initial_std: float = 0.1
    batch_size: int = 32


SETTINGS = {
    "nuts": Setting(lambda n: infer.nuts(warmup=300, chains=2), 600),
    "hmc": Setting(lambda n: infer.hmc(warmup=300, chains=2), 600),
    "map": Setting(lambda n: infer.map(learning_rate=1e-2), 200),
    "ensemble": Setting(lambda n: infer.ensemble(infer.map(learning_rate=1e-2), size=10), 200),
    "bayes_by_backprop": Setting(
        lambda n: infer.bayes_by_backprop(learning_rate=1e-2, kl_warmup=0.3), 600, "local_reparam"
    ),
    "flipout": Setting(
        lambda n: infer.bayes_by_backprop(learning_rate=1e-2, kl_warmup=0.3), 600, "flipout"
    ),
    "moments": Setting(
        lambda n: infer.bayes_by_backprop(learning_rate=3e-2, kl_warmup=0.3, estimator="moments"),
        300,
    ),
    "mixture": Setting(
        lambda n: infer.ensemble(
            infer.bayes_by_backprop(learning_rate=1e-2, kl_warmup=0.3), size=5
        ),
        600,
        "local_reparam",
    ),
    "ivon": Setting(lambda n: infer.ivon(learning_rate=0.1), 400),
    "mc_dropout": Setting(lambda n: infer.mc_dropout(rate=0.05), 400),
    "swag": Setting(lambda n: infer.swag(learning_rate=1e-2), 300),
    "multiswag": Setting(lambda n: infer.ensemble(infer.swag(learning_rate=1e-2), size=5), 300),
    "laplace": Setting(lambda n: infer.laplace(learning_rate=1e-2, curvature="kronecker"), 200),
    "sgld": Setting(lambda n: infer.sgld(), 1000),
    "sghmc": Setting(
        lambda n: infer.sghmc(step_size=3e-3, friction=0.03, num_samples=200), 4000, batch_size=100
    ),
    "csghmc": Setting(lambda n: infer.sghmc(cycles=4, num_samples=32), 1000),
}

# The key of a method is that of its place here, or of the checksum of its name.
NUMBERS = (
    *("bayes_by_backprop", "csghmc", "ensemble", "hmc", "ivon", "laplace", "map", "mc_dropout"),
    *("mixture", "multiswag", "nuts", "sgld", "swag"),
)


def model_of(x: Float[np.ndarray, "n d"], setting: Setting, key: Array) -> BayesianModel:
    """Returns the Bayesian network for standardised inputs like x."""
    network = Network()
    variables = network.init(key, jnp.zeros((1, x.shape[1])))
    stds = {"first": 1.0, "last": 0.42}
    prior = {
        name: jax.tree.map(lambda _, s=std: NormalPrior(0.0, s), variables["params"][name])
        for name, std in stds.items()
    }
    return to_bnn(
        network,
        variables,
        where="all",
        estimator=setting.estimator,
        prior={**prior, "noise": NormalPrior(-1.0, 1.0)},
        initial_std=setting.initial_std,
    )


def densities(
    result: Fit, x: Float[np.ndarray, "n d"], num_samples: int | None
) -> Float[np.ndarray, "n grid"]:
    """Returns the predictive density of each standardised target on a grid from -5 to 5."""
    predicted = result.predict(x, num_samples, keep_samples=True)
    mean, rho = (np.asarray(a, np.float64)[..., 0] for a in predicted.samples)
    std = np.logaddexp(0.0, rho) + gaussian.STD_FLOOR
    z = (GRID[None, None] - mean[..., None]) / std[..., None]
    return np.mean(np.exp(-0.5 * z**2) / (std[..., None] * np.sqrt(2 * np.pi)), axis=0)


def distance(p: Float[np.ndarray, "n grid"], q: Float[np.ndarray, "n grid"]) -> float:
    """Returns the total variation between two predictives, the mean over examples."""
    return float(np.mean(0.5 * np.trapezoid(np.abs(p - q), GRID, axis=1)))


def run_one(
    name: str, set_name: str, split: int, folder: Path, references: Path
) -> dict[str, object]:
    """Fits and evaluates one method on one split; returns the row of the table.

    Args:
        references: the folder of the densities of NUTS, written by NUTS and read by the others.
    """
    (x, y), (x_test, y_test) = data.uci(set_name, split=split, folder=folder)
    setting = SETTINGS[name]
    number = NUMBERS.index(name) if name in NUMBERS else zlib.crc32(name.encode())
    key = jax.random.fold_in(jax.random.key(split), number)
    model = model_of(x, setting, jax.random.fold_in(key, 1))
    start = time.process_time()
    result = fit(
        key,
        model,
        (x, y),
        method=setting.method(len(x)),
        likelihood=likelihoods.Normal(),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        standardize=True,
        progress=False,
    )
    seconds = time.process_time() - start
    num_samples = size(result.posterior) or 200
    scores = result.evaluate(x_test, y_test, num_samples)
    density = densities(result, x_test, num_samples)
    reference = references / f"{set_name}_{split}.npy"
    if name == "nuts":
        np.save(reference, density)
    return {
        "set": set_name,
        "split": split,
        "method": name,
        **{k: scores[k] for k in ("rmse", "log_likelihood", "coverage_of_90_percent")},
        "total_variation": distance(density, np.load(reference)) if reference.exists() else None,
        "cpu_seconds": round(seconds, 2),
        "diagnosis": [finding.problem for finding in result.diagnosis],
    }


def table(rows: list[dict[str, Any]], sets: Sequence[str], methods: Sequence[str]) -> str:
    """Returns Markdown tables of the mean and standard error over splits, by method and set."""
    lines = []
    for title, field in FIELDS.items():
        lines += [f"| {title} | splits | {' | '.join(sets)} |", "| --- " * (len(sets) + 2) + "|"]
        for method in methods:
            of_sets = [[r for r in rows if (r["set"], r["method"]) == (s, method)] for s in sets]
            if any(of_sets):
                splits = min(len(own) for own in of_sets)
                cells = " | ".join(mean_and_error(own, field) for own in of_sets)
                lines.append(f"| {method} | {splits} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def mean_and_error(rows: list[dict[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return ""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3g} ± {error:.2g}"


def figure(
    rows: list[dict[str, Any]], sets: Sequence[str], methods: Sequence[str], path: Path
) -> None:
    """Draws the mean log likelihood of each method against its CPU time, a panel for each set."""
    from matplotlib import pyplot

    fig, axes = pyplot.subplots(1, len(sets), figsize=(3.2 * len(sets), 3.6), layout="constrained")
    for ax, set_name in zip(np.atleast_1d(axes), sets, strict=True):
        for index, method in enumerate(methods):
            own = [r for r in rows if (r["set"], r["method"]) == (set_name, method)]
            seconds = [r["cpu_seconds"] for r in own if r.get("cpu_seconds") is not None]
            if not seconds:
                continue
            values = [r["log_likelihood"] for r in own]
            error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
            color, marker = f"C{index % 10}", "o" if index < 10 else "s"
            x, y = float(np.median(seconds)), float(np.mean(values))
            ax.errorbar(x, y, yerr=error, color=color, marker=marker, label=method, capsize=2)
        ax.set(title=set_name.capitalize(), xlabel="CPU seconds of a fit")
        ax.grid(alpha=0.3)
    axes = np.atleast_1d(axes)
    axes[0].set_ylabel("test log likelihood")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Every inference method on the UCI sets.")
    parser.add_argument("--folder", type=Path, default=Path("uci"), help="with the sets' folders")
    parser.add_argument("--output", type=Path, required=True, help="a file of JSON lines")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS))
    parser.add_argument("--table", action="store_true", help="print the table of the output file")
    parser.add_argument("--figure", type=Path, help="with --table: draw quality against cost")
    given = parser.parse_args()
    if given.table:
        rows = [json.loads(line) for line in given.output.read_text().splitlines()]
        rows = [row for row in rows if row["split"] < given.splits]
        print(table(rows, given.sets, given.methods))
        if given.figure is not None:
            figure(rows, given.sets, given.methods, given.figure)
        return
    lines = given.output.read_text().splitlines() if given.output.exists() else []
    done = {(r["set"], r["split"], r["method"]) for r in map(json.loads, lines)}
    references = given.output.with_suffix("")
    references.mkdir(parents=True, exist_ok=True)
    for split in range(given.splits):
        for set_name in given.sets:
            for name in given.methods:
                if (set_name, split, name) not in done:
                    row = run_one(name, set_name, split, given.folder, references)
                    with given.output.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)


if __name__ == "__main__":
    main()
