"""ONNX by the library jax2onnx, for the runtimes of other languages and devices.

jax2onnx converts operation by operation and does not know all of them. So up to three forms of the
program are tried: its primitive operations with the members under `vmap`; those with the members
one after another; and the layers of Flax that jax2onnx knows as such. The first that ONNX Runtime
computes like JAX on the example inputs is written.
"""

import contextlib
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from bnn_jax._extras import optional_import
from bnn_jax.export.card import input_names
from bnn_jax.export.prepare import prepare
from bnn_jax.export.program import Program
from bnn_jax.export.saved_model import check_fixed
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation, bind, trace

FILE = "model.onnx"
TOLERANCE = 1e-4  # relative to the largest magnitude of an output, or to 0.1 if that is more


def onnx(
    folder: str | Path,
    model: object,
    posterior: PyTree,
    likelihood: object,
    example_inputs: PyTree,
    *,
    kind: str,
    **options: Any,
) -> Path:
    """Writes a network as ONNX, model.onnx, and its card, card.json.

    ONNX Runtime must return the outputs of JAX for the example inputs, or nothing is written.

    Args:
        folder, model, posterior, likelihood, example_inputs, options: as in `stablehlo`.
        kind: "mean", "members" or "one_pass".

    Returns:
        The folder.

    Raises:
        MissingExtra: jax2onnx or onnxruntime is not installed.
        NotImplementedError: jax2onnx cannot convert an operation of this network.
        Exception: as in `export.prepare`, before anything is written.
    """
    check_fixed(kind, "An ONNX file")
    with optional_import("export.onnx"):
        import jax2onnx
        import onnxruntime
    prepared = prepare(folder, model, posterior, likelihood, example_inputs, kind=kind, **options)
    content = _converted(jax2onnx, onnxruntime, prepared.program)
    return prepared.write(
        "onnx",
        FILE,
        lambda path: path.write_bytes(content),
        versions={"jax2onnx": version("jax2onnx"), "onnxruntime": version("onnxruntime")},
        more={},
    )


def _converted(jax2onnx: Any, onnxruntime: Any, source: Program) -> bytes:
    """Returns the serialised model of the first form that computes what JAX computes."""
    expected = jax.jit(source.call)(*source.examples)
    reasons = []
    for name, form in _forms(source):
        # Any failure of the library is a reason to try the next form.
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                proto = jax2onnx.to_onnx(
                    form(),
                    list(source.specs),
                    input_names=input_names(source),
                    output_names=sorted(source.outputs),
                )
            content: bytes = proto.SerializeToString()
            _check(onnxruntime, content, source, expected)
        except Exception as error:
            reasons.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
        else:
            return content
    raise NotImplementedError(
        f"jax2onnx {version('jax2onnx')} cannot convert this network. Export it by "
        "export.stablehlo or export.savedmodel, which take any network; any_batch=False may help. "
        "Tried were " + "; ".join(reasons)
    )


def _forms(source: Program) -> Iterator[tuple[str, Callable[[], Callable[..., Any]]]]:
    """Yields the name of each form and what builds the function that jax2onnx traces."""

    def results(call: Callable[..., dict[str, Any]]) -> Callable[..., tuple[Any, ...]]:
        return lambda *inputs: tuple(jax.tree.leaves(call(*inputs)))

    def primitives(call: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
        # Traced outside of jax2onnx, which then meets no layers of Flax.
        jaxpr, consts, _ = trace(results(call), *source.specs)

        def function(*inputs: PyTree) -> tuple[Any, ...]:
            return tuple(
                cell.value for cell in interpret(jaxpr, consts, [*map(Cell, inputs)], RULES)
            )

        return function

    yield "primitive operations", lambda: primitives(source.call)
    if source.kind == "members":
        yield "members one by one", lambda: primitives(source.unrolled)
    yield "layers", lambda: results(source.unrolled)


def _bound(eqn: Equation, cells: Sequence[Cell[Any]]) -> list[Cell[Any]]:
    return [Cell(y) for y in bind(eqn, [cell.value for cell in cells])]


def _max_pool(eqn: Equation, cells: Sequence[Cell[Any]]) -> list[Cell[Any]]:
    """Returns the maximum of one slice for each element of the window.

    jax2onnx makes a MaxPool over all axes, and ONNX Runtime has none for more than three.
    """
    x, params = cells[0].value, eqn.params
    window, strides, dilation = (
        params[name] for name in ("window_dimensions", "window_strides", "window_dilation")
    )
    if any(step != 1 for step in params["base_dilation"]):
        return _bound(eqn, cells)
    if any(any(pair) for pair in params["padding"]):
        lowest = jax.numpy.asarray(-jax.numpy.inf, x.dtype)
        x = jax.lax.pad(x, lowest, [(*pair, 0) for pair in params["padding"]])
    result: Any = eqn.outvars[0].aval
    parts = []
    for place in itertools.product(*map(range, window)):
        start = [i * step for i, step in zip(place, dilation, strict=True)]
        limit = [
            i + (n - 1) * step + 1 for i, n, step in zip(start, result.shape, strides, strict=True)
        ]
        parts.append(jax.lax.slice(x, start, limit, strides))
    return [Cell(functools.reduce(jax.lax.max, parts))]


def _unchanged(eqn: Equation, cells: Sequence[Cell[Any]]) -> list[Cell[Any]]:
    """Returns the operands: ONNX has no `optimization_barrier`."""
    return [*cells]


RULES = Rules(
    default=_bound, table={"reduce_window_max": _max_pool, "optimization_barrier": _unchanged}
)


def _check(onnxruntime: Any, content: bytes, source: Program, expected: PyTree) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its complaints are errors, which are caught
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = zip(input_names(source), source.examples, strict=True)
    got = session.run(sorted(source.outputs), {name: np.asarray(x) for name, x in inputs})
    for name, actual in zip(sorted(source.outputs), got, strict=True):
        wanted = np.asarray(expected[name])
        largest = np.max(np.abs(wanted), initial=0.1)
        if actual.shape != wanted.shape or not np.allclose(
            actual, wanted, rtol=0, atol=TOLERANCE * largest, equal_nan=True
        ):
            raise ArithmeticError(f"ONNX Runtime computes other {name} than JAX.")
