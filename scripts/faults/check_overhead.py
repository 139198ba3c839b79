"""Times the checks of a training step: the loop of fit with them and without, in turns.

    python scripts/faults/check_overhead.py [--workload W1] [--rounds 30] [--steps 50]

The checks are those of `bnn_jax.fitting.divergence`: in each step one reduction for each weight and
the loss, and every ten calls a look at the result. Prints the ratio of the two times, the median
over rounds.
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from bnn_jax.benchmark import cases, timing
from bnn_jax.benchmark.workloads import WORKLOADS, Workload
from bnn_jax.fitting import divergence
from bnn_jax.fitting.loop import CALLS_BETWEEN_CHECKS, Loop


def _unchecked(totals: divergence.Totals, state: Any, info: Any) -> divergence.Totals:
    return dataclasses.replace(totals, info=totals.info + info)


def epoch(workload: Workload, estimator: str, *, steps: int, checks: bool) -> Callable[[], object]:
    """Returns a call that runs so many steps, each a call of the compiled step."""
    step, state = cases._training(workload, estimator, jnp.float32, 1, 10)
    loop = Loop(
        step=step,
        examples=cases._batch(workload, steps * workload.batch, jnp.float32),
        augment=None,
        run_key=jax.random.key(0),
        order_key=jax.random.key(4),
        batch_size=workload.batch,
        epochs=1,
        steps_per_call=1,
    )
    totals = loop.no_totals(state)

    def call() -> object:
        nonlocal state, totals
        order = loop.order(0)
        for number in range(1, steps + 1):
            state, totals = loop.call(state, totals, order, loop.examples, loop.run_key, count=1)
            if checks and number % CALLS_BETWEEN_CHECKS == 0:
                divergence.check(totals, state, loop.examples)
        return totals.info.loss

    if checks:
        jax.block_until_ready(call())
    else:
        with mock.patch.object(divergence.Totals, "add", _unchecked):
            jax.block_until_ready(call())
    return call


def main() -> None:
    """Times each estimator of the workload and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="W1", choices=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=50, help="in each timed call")
    options = parser.parse_args()
    workload = WORKLOADS[options.workload].in_fast_form()
    for estimator in workload.estimators:
        calls = {
            name: epoch(workload, estimator, steps=options.steps, checks=name == "with")
            for name in ("with", "without")
        }
        times = timing.in_turns(calls, rounds=options.rounds)
        ratio = timing.ratio(times["with"], times["without"])
        milliseconds = 1e3 * times["without"].median / options.steps
        print(
            f"{options.workload} {estimator}: {milliseconds:.2f} ms a step without checks, "
            f"{100 * (ratio - 1):+.1f} % with them (spread {100 * times['with'].spread:.0f} %)"
        )


if __name__ == "__main__":
    main()
