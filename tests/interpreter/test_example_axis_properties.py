"""The example axis that the interpreter reports is where a changed example changes the output."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_jax.interpreter import example_axis, jaxprs
from bnn_jax.interpreter.interpret import Cell, Rules, interpret

Step = Callable[[Any], Any]


def reported(fn: Step, x: np.ndarray) -> int | None:
    jaxpr, consts, _ = jaxprs.trace(fn, x)
    rules: Rules[None] = Rules(default=example_axis.follow, constant=lambda _: Cell(None))
    (out,) = interpret(jaxpr, consts, [Cell(None, True, 0)], rules)
    return out.axis


def changed(fn: Step, x: np.ndarray, example: int) -> np.ndarray:
    """Which elements of the output depend on an example."""
    moved = x.copy()
    moved[example] += 1.0
    return np.asarray(fn(jnp.asarray(x)) != fn(jnp.asarray(moved)))


@st.composite
def functions(draw: Any) -> tuple[Step, tuple[int, ...]]:
    """A composition of reshapes, transposes, broadcasts and sums, and the shape of its input."""
    start = tuple(draw(st.lists(st.integers(2, 3), min_size=2, max_size=3)))
    shape, steps = start, []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["transpose", "merge", "split", "new axis", "repeat", "sum"]))
        if kind == "transpose":
            order = tuple(draw(st.permutations(range(len(shape)))))
            steps.append(lambda x, order=order: jnp.transpose(x, order))
            shape = tuple(shape[i] for i in order)
        elif kind == "merge" and len(shape) > 1:
            at = draw(st.integers(0, len(shape) - 2))
            shape = (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
            steps.append(lambda x, shape=shape: jnp.reshape(x, shape))
        elif kind == "split":
            at = draw(st.integers(0, len(shape) - 1))
            parts = [n for n in range(2, shape[at]) if shape[at] % n == 0]
            if parts:
                n = draw(st.sampled_from(parts))
                shape = (*shape[:at], n, shape[at] // n, *shape[at + 1 :])
                steps.append(lambda x, shape=shape: jnp.reshape(x, shape))
        elif kind == "new axis":
            at = draw(st.integers(0, len(shape)))
            shape = (*shape[:at], 1, *shape[at:])
            steps.append(lambda x, at=at: jnp.expand_dims(x, at))
        elif kind == "repeat" and 1 in shape:
            at = shape.index(1)
            shape = (*shape[:at], 2, *shape[at + 1 :])
            steps.append(lambda x, shape=shape: jnp.broadcast_to(x, shape))
        elif kind == "sum" and len(shape) > 1:
            at = draw(st.integers(0, len(shape) - 1))
            shape = (*shape[:at], *shape[at + 1 :])
            steps.append(lambda x, at=at: jnp.sum(x, axis=at))

    def fn(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return fn, start


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(functions())
def test_a_reported_axis_is_the_true_one(case: tuple[Step, tuple[int, ...]]) -> None:
    fn, shape = case
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    axis = reported(fn, x)
    masks = [changed(fn, x, example) for example in range(shape[0])]
    if axis is None:
        return
    for example, mask in enumerate(masks):
        expected = np.zeros_like(mask)
        np.moveaxis(expected, axis, 0)[example] = True
        np.testing.assert_array_equal(mask, expected)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.permutations(range(4)), st.integers(0, 4), st.integers(2, 3))
def test_it_is_followed_through_transposes_and_new_axes(
    order: list[int], at: int, copies: int
) -> None:
    def fn(x: Any) -> Any:
        y = jnp.expand_dims(jnp.transpose(x, order), at)
        return jnp.broadcast_to(y, (*y.shape[:at], copies, *y.shape[at + 1 :]))

    place = order.index(0)
    assert reported(fn, np.zeros((2, 3, 4, 5), np.float32)) == place + (at <= place)
