"""The equations of a jaxpr: what each does, and how to run one on other values.

For what follows or evaluates a network equation by equation: `example_axis`, `random_array` and
`antithetic_pairs`.
"""

from collections.abc import Sequence
from typing import Any

import jax.extend.core as jex

# A jitted function by this name is a convolution, however it computes it.
NHWC_CONVOLUTION = "nhwc_convolution_as_a_whole"

# Operations that only call another jaxpr, and the parameter that holds it.
CALLS = {"jit": "jaxpr", "closed_call": "call_jaxpr"}

# Operations that move or cast elements without combining them.
VIEWS = (
    "reshape",
    "transpose",
    "rev",
    "squeeze",
    "expand_dims",
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
)


def bind(eqn: jex.JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
    """The outputs of the equation for other values than it was traced with, of the same shapes."""
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return out if eqn.primitive.multiple_results else [out]


def operation_of(eqn: jex.JaxprEqn) -> str:
    """The primitive's name, or that of a convolution where a function which is one is called."""
    if eqn.primitive.name != "jit" or eqn.params["name"] != NHWC_CONVOLUTION:
        return str(eqn.primitive.name)
    # Under vmap, and in derivatives, other functions are called by this name.
    shapes = [shape_of(v) for v in (*eqn.invars, *eqn.outvars)]
    if [len(shape) for shape in shapes] != [4, 4, 4]:
        return "jit"
    (n, height, width, channels), (i, j, inputs, features), out = shapes
    whole = channels == inputs and out == (n, height - i + 1, width - j + 1, features)
    return NHWC_CONVOLUTION if whole else "jit"


def shape_of(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)
