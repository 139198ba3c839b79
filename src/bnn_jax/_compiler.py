"""What XLA is asked for on CPU: vectors as wide as the machine has them.

XLA on CPU keeps to vectors of 256 bits, also where the machine has 512. What a Bayesian network
adds to an ordinary one is arithmetic on long arrays (noise, stds, divergences, the optimizer), and
with the wider ones a normal draw takes half the time. Where there are none it makes no difference.

    step = jax.jit(step, donate_argnums=0, compiler_options=compiler_options())

The training loop of the command line and `predict` compile so. For all that a program compiles, set
XLA_FLAGS=--xla_cpu_prefer_vector_width=512 in its environment.
"""

import os
from typing import Any

import jax

_WIDTH = "xla_cpu_prefer_vector_width"


def compiler_options() -> dict[str, Any]:
    """For `jax.jit`: the width of vectors on CPU; nothing elsewhere, or where XLA_FLAGS has it."""
    if jax.default_backend() != "cpu" or _WIDTH in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {_WIDTH: 512}
