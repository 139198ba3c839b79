"""A function of the network's input that precedes its first layer, such as scaling of pixels."""

from collections.abc import Callable

from jaxtyping import PyTree

Preprocess = Callable[[PyTree], PyTree]


def preprocessed(preprocess: Preprocess | None, inputs: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
    """Returns the inputs of a call with `preprocess` applied to the first one; None keeps it."""
    if preprocess is None or not inputs:
        return inputs
    return (preprocess(inputs[0]), *inputs[1:])
