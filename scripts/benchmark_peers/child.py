"""bnn_jax's side of benchmark_peers.py: compile one case, then run it as often as stdin says.

    python child.py W1 train --kl-every 10

The first line on stdout is a JSON object with the versions; it appears when the case is compiled.
Each number on stdin is answered with the seconds that so many runs in a row take. The end of stdin
ends the process.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp

from bnn_jax.benchmark import cases
from bnn_jax.benchmark.workloads import WORKLOADS

KINDS = ("train", "predict", "predict in pairs")


def build(workload: str, kind: str, kl_every: int) -> cases.Case:
    """The case: a training step with sampled weights, as the peers have it, or a prediction."""
    chosen = WORKLOADS[workload].in_fast_form()
    if kind == "train":
        return cases.train_step(chosen, "reparam", dtype=jnp.float32, kl_every=kl_every)
    pairs = kind == "predict in pairs"
    return cases.prediction(chosen, dtype=jnp.float32, samples=32, examples=1000, antithetic=pairs)


def main() -> None:
    """Serve one case until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--kl-every", type=int, default=10)
    args = parser.parse_args()

    case = build(args.workload, args.kind, args.kl_every)
    print(json.dumps({name: version(name) for name in ("bnn-jax", "jax", "jaxlib")}), flush=True)
    for line in sys.stdin:
        runs = int(line)
        result: Any = None
        started = time.perf_counter()
        for _ in range(runs):
            result = case.call()
        result = jax.block_until_ready(result)
        seconds = time.perf_counter() - started
        # Of a step it is the data loss, which knows all updates before it.
        if not jnp.isfinite(result).all():
            raise FloatingPointError(f"{args.workload}, {args.kind}: the result is not finite.")
        print(repr(seconds), flush=True)


if __name__ == "__main__":
    main()
