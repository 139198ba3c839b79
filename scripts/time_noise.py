"""Time of a normal draw in nanoseconds, for each generator.

    .venv/bin/python scripts/time_noise.py

Each program draws 2.4 million numbers, as many as an MLP 784-1200-1200-10 has weights. The
generators run alternately in one process.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax

from bnn_jax import noise
from bnn_jax._compiler import compiler_options
from bnn_jax.benchmark import timing

SHAPE = (2400, 1000)


def draws(name: str) -> Callable[[], Any]:
    with noise.generator(name):
        program = jax.jit(lambda key: noise.normal(key, SHAPE), compiler_options=compiler_options())
        program = program.lower(jax.random.key(0)).compile()
    return lambda: program(jax.random.key(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    times = timing.in_turns({name: draws(name) for name in noise.GENERATORS}, rounds=rounds)
    count = SHAPE[0] * SHAPE[1]
    for name, t in times.items():
        print(f"{name:11} {1e9 * t.median / count:6.2f} ns a draw, spread {t.spread:.0%}")


if __name__ == "__main__":
    main()
