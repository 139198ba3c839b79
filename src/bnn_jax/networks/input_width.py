"""A call of a network whose errors name the layer that got an input of the wrong width."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.networks.hook import Layer
from bnn_jax.networks.network import Network


def call_checked(
    network: Network,
    params: PyTree,
    variables: PyTree,
    inputs: tuple[PyTree, ...],
    kwargs: Mapping[str, PyTree],
) -> PyTree:
    """Returns `network.call`.

    Raises:
        ValueError: a dense layer or a convolution got an input of the wrong width.
    """
    try:
        return network.call(params, variables, *inputs, **kwargs)
    except Exception as error:
        message = _wrong_width(network, params, variables, inputs, kwargs)
        if message is None:
            raise
        raise ValueError(message) from error


def _wrong_width(
    network: Network,
    params: PyTree,
    variables: PyTree,
    inputs: tuple[PyTree, ...],
    kwargs: Mapping[str, PyTree],
) -> str | None:
    """The first layer whose input does not fit its kernel, found by tracing the network again."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = {path_name(path).rpartition("/")[0] for path, _ in leaves}
    found: list[str] = []

    def compare(
        path: str, layer: Layer, run: Callable[[], PyTree], arguments: tuple[PyTree, ...]
    ) -> PyTree:
        expected = _input_width(layer)
        shape = jnp.shape(arguments[0]) if arguments else ()
        if expected is not None and shape and shape[-1] != expected and not found:
            kind = type(layer).__name__
            where = f"The layer {path!r} ({kind})" if path else f"The network ({kind})"
            found.append(
                f"{where} takes inputs of width {expected} (their last axis), got an input of "
                f"shape {shape}, of width {shape[-1]}."
            )
        return run()

    def run() -> PyTree:
        return network.call_with_hook(compare, paths, params, variables, inputs, kwargs)

    try:
        jax.eval_shape(run)
    except Exception:  # the error that is being explained
        return found[0] if found else None
    return None


def _input_width(layer: Layer) -> int | None:
    """The size of the last axis of its input, where the type of the layer fixes it."""
    if isinstance(layer, nnx.Linear | nnx.Conv):
        return layer.in_features
    if isinstance(layer, linen.Dense | linen.Conv) and layer.has_variable("params", "kernel"):
        kernel: Array = layer.get_variable("params", "kernel")
        groups = layer.feature_group_count if isinstance(layer, linen.Conv) else 1
        return int(kernel.shape[-2]) * groups
    return None
