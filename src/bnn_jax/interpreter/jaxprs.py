"""Functions that trace, read and bind the equations of a jaxpr.

This file handles the differences between versions of JAX. Up to 0.10, a traced function is a
`ClosedJaxpr` that holds a `Jaxpr` and its constants; JAX 0.11 merged the two (jax #39009).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

Equation = jex.JaxprEqn
Jaxpr = jex.Jaxpr
Literal = jex.Literal
Var = jex.Var

# Primitives that call one jaxpr with their arguments, and the name of the parameter that holds it.
CALLS = {"jit": "jaxpr", "closed_call": "call_jaxpr"}

# The same, with primitives that define their derivatives. Evaluation of their inner jaxpr loses the
# definition, so these are only for interpretations that compute no values.
WRAPPERS = {
    **CALLS,
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}

# Primitives that move or cast elements and do not combine them.
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


def trace(fn: Callable[..., PyTree], *args: PyTree) -> tuple[Jaxpr, Sequence[ArrayLike], PyTree]:
    """Returns the jaxpr of fn(*args), its constants, and the pytree of the output shapes."""
    closed, out_shape = jax.make_jaxpr(fn, return_shape=True)(*args)
    return *opened(closed), out_shape


def opened(jaxpr: Any) -> tuple[Jaxpr, Sequence[ArrayLike]]:
    """Returns the open jaxpr of an open or closed jaxpr, and its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def called(eqn: Equation, calls: dict[str, str]) -> tuple[Jaxpr, Sequence[ArrayLike]] | None:
    """Returns the jaxpr that an equation calls, and its constants, if it is one of `calls`."""
    inner = eqn.params.get(calls.get(eqn.primitive.name, ""))
    return None if inner is None else opened(inner)


def bind(eqn: Equation, values: Sequence[ArrayLike]) -> Sequence[Array]:
    """Returns the outputs of the equation. The shapes may differ from the traced ones."""
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return out if eqn.primitive.multiple_results else [out]


def shape_of(atom: Var | Literal) -> tuple[Any, ...]:
    """Returns the shape: whole numbers, or the symbolic sizes of `jax.export`."""
    return tuple(getattr(atom.aval, "shape", ()))


def dtype_of(atom: Any) -> jnp.dtype:
    return atom.aval.dtype


def place_of(eqn: Equation) -> str:
    """Where an equation comes from: the Flax layer, as far as known, and the line of code."""
    stack = str(getattr(eqn.source_info, "name_stack", ""))
    traceback = getattr(eqn.source_info, "traceback", None)
    frames = () if traceback is None else traceback.frames
    lines = (f"{f.file_name}:{f.line_num}" for f in frames if not _of_a_library(f.file_name))
    parts = (f"in the layer {stack}" if stack else "", next(lines, ""))
    return ", ".join(part for part in parts if part)


def _of_a_library(file_name: str) -> bool:
    packages = ("jax", "flax", "bnn_jax", "jaxtyping", "beartype")
    return file_name.startswith("<@beartype") or any(f"/{name}/" in file_name for name in packages)
