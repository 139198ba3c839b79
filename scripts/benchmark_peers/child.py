"""The child process of benchmark_peers.py: compiles one case of bnn_jax and runs it on request.

    python child.py W1 train --kl-every 10

The first line on stdout is a JSON object with the versions, written when the case is compiled. For
each number n on stdin, it writes the seconds that n consecutive runs take. It ends with stdin.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp

from bnn_jax.benchmark import cases
from bnn_jax.benchmark.workloads import WORKLOADS

KINDS = ("train", "predict", "predict in pairs")


def build(workload: str, kind: str, kl_every: int) -> cases.Case:
    """Returns a training step with sampled weights, as for the peers, or a prediction."""
    chosen = WORKLOADS[workload].in_fast_form()
    if kind == "train":
        return cases.train_step(chosen, "reparam", dtype=jnp.float32, kl_every=kl_every)
    pairs = kind == "predict in pairs"
    return cases.prediction(chosen, dtype=jnp.float32, samples=32, examples=1000, antithetic=pairs)


def main() -> None:
    """Runs one case until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--kl-every", type=int, default=10)
    args = parser.parse_args()

    case = build(args.workload, args.kind, args.kl_every)
    print(json.dumps({name: version(name) for name in ("bnn-jax", "jax", "jaxlib")}), flush=True)
    for line in sys.stdin:
        runs = int(line)
        result: object = None
        started = time.perf_counter()
        for _ in range(runs):
            result = case.call()
        result = jax.block_until_ready(result)
        seconds = time.perf_counter() - started
        # The result of a step is the data loss, which depends on all earlier updates.
        if not jnp.isfinite(jnp.asarray(result)).all():
            raise FloatingPointError(f"{args.workload}, {args.kind}: the result is not finite.")
        print(repr(seconds), flush=True)


if __name__ == "__main__":
    main()
