"""Test error of a trained network against the fraction of its weights that are pruned.

    python scripts/prune_mlp.py runs/mlp_mnist

For 0, 50, 75, 95 and 98 % of the weights, by signal-to-noise ratio and by magnitude, it prints the
error of the predictive of 32 weight samples and of the network at the posterior mean on the test
images, as a Markdown table. Blundell et al. 2015 (arXiv:1505.05424, table 2) have these fractions
for an MLP of two layers of 1,200 units.
"""

import argparse
from pathlib import Path

import numpy as np

from bnn_jax import compression, experiment, gaussian, toolbox

FRACTIONS = (0.0, 0.5, 0.75, 0.95, 0.98)


def errors(run: experiment.Run, fraction: float, by: str, scope: str) -> tuple[float, float]:
    """Returns the test error in percent: of the predictive, and at the posterior mean."""
    images, labels = (np.asarray(a) for a in run.images.held_out)
    pruned = compression.prune(run.weights, fraction, by=by, scope=scope).posterior
    found = []
    for posterior in (pruned, gaussian.mean(pruned)):
        p = run.predict(posterior, images).probabilities
        found.append(100 * (1 - float(toolbox.metrics.accuracy(p, labels))))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Test error against the fraction pruned.")
    parser.add_argument("run", type=Path, help="a run folder of an image classifier")
    parser.add_argument("--scope", choices=("global", "layer"), default="global")
    given = parser.parse_args()
    run = experiment.load(given.run)
    weights = sum(leaf.size for leaf in gaussian.random_leaves(run.weights).values())
    print("| pruned | weights left | by SNR | at the mean | by magnitude | at the mean |")
    print("| --- | --- | --- | --- | --- | --- |")
    for fraction in FRACTIONS:
        cells = [
            f"{error:.2f} %"
            for by in ("snr", "magnitude")
            for error in errors(run, fraction, by, given.scope)
        ]
        left = weights - round(fraction * weights)
        print(f"| {100 * fraction:.0f} % | {left:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
