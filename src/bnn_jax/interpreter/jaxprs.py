"""The equations of a jaxpr: how to trace, read and bind them.

The only file that knows how versions of JAX differ here. Up to 0.10 a traced function is a
`ClosedJaxpr` that holds a `Jaxpr` and its constants; JAX 0.11 merged the two (jax #39009).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jaxtyping import PyTree

Equation = jex.JaxprEqn
Jaxpr = jex.Jaxpr
Literal = jex.Literal

# Primitives that call one jaxpr with their own arguments, and the parameter that holds it.
CALLS = {"jit": "jaxpr", "closed_call": "call_jaxpr"}

# The same with a rule of their own for derivatives, which is lost when their jaxpr is evaluated in
# their place: for interpretations that evaluate nothing.
WRAPPERS = {
    **CALLS,
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}

# Primitives that move or cast elements without combining them.
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


def trace(fn: Callable[..., PyTree], *args: PyTree) -> tuple[Jaxpr, Sequence[Any], PyTree]:
    """The jaxpr of fn(*args), its constants, and the shapes of the outputs as fn returns them."""
    closed, out_shape = jax.make_jaxpr(fn, return_shape=True)(*args)
    return *opened(closed), out_shape


def opened(jaxpr: Any) -> tuple[Jaxpr, Sequence[Any]]:
    """A jaxpr, open or closed, and its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def called(eqn: Equation, calls: dict[str, str]) -> tuple[Jaxpr, Sequence[Any]] | None:
    """The jaxpr that an equation calls and its constants, if its primitive is one of `calls`."""
    inner = eqn.params.get(calls.get(eqn.primitive.name, ""))
    return None if inner is None else opened(inner)


def bind(eqn: Equation, values: Sequence[Any]) -> Sequence[Any]:
    """The equation's outputs for these values, whose shapes may differ from the traced ones."""
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return out if eqn.primitive.multiple_results else [out]


def shape_of(atom: Any) -> tuple[int, ...]:
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
