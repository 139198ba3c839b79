"""What a network of the zoo is: the network, its inputs, and what is particular about it.

The networks know nothing of Bayes: `zoo_linen`, `zoo_nnx` and `zoo_functions` are ordinary Flax and
JAX code.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Case:
    """One network, small enough to be compiled in about a second.

    Attributes:
        name: names the test.
        make: () -> (module, variables); NNX: (module, None); a function: (function, params).
        inputs: seed -> the positional inputs, axis 0 the examples.
        kwargs: the keyword arguments of each call.
        where: which weights become random, if not the default of to_bnn.
        tied: globs of the weights that are used more than once in a forward pass.
        idle: globs of the weights on which the output does not depend, such as the bias of a key
            in attention, which the softmax takes out.
        rngs: names of linen's random streams.
        similar: another case is of a similar kind, so its training step is a slow test.
    """

    name: str
    make: Callable[[], tuple[Any, Any]]
    inputs: Callable[[int], tuple[Any, ...]]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    where: Any = "layers"
    tied: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    rngs: tuple[str, ...] = ()
    similar: bool = False

    def call_kwargs(self) -> dict[str, Any]:
        """The keyword arguments with linen's streams, at fixed keys."""
        streams = {name: jax.random.key(70 + i) for i, name in enumerate(self.rngs)}
        return {**self.kwargs, **({"rngs": streams} if streams else {})}


def normal(seed: int, *shape: int) -> Any:
    return jax.numpy.asarray(np.random.default_rng(seed).normal(size=shape), jax.numpy.float32)


def tokens(seed: int, *shape: int, vocabulary: int) -> Any:
    draw = np.random.default_rng(seed).integers(0, vocabulary, size=shape)
    return jax.numpy.asarray(draw, jax.numpy.int32)


def normals(*shapes: tuple[int, ...]) -> Callable[[int], tuple[Any, ...]]:
    """Inputs of the given shapes."""
    return lambda seed: tuple(normal(10 * seed + i, *s) for i, s in enumerate(shapes))


def filled(abstract: Any) -> Any:
    """A network's variables, of which only shapes are known, as fixed numbers that vary.

    Takes the place of the initialisers, whose compilation would take as long as the tests. No bias
    is zero, no scale one.
    """
    rng = np.random.default_rng(0)

    def fill(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(5)
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating) or "cache" in name:
            return jax.numpy.zeros(leaf.shape, leaf.dtype)
        values = rng.normal(size=leaf.shape) / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        if any(word in name for word in ("scale", "var", "sigma")) and "kernel" not in name:
            values = 1.0 + 0.2 * np.abs(values)
        return jax.numpy.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, abstract)


def plain_params(model: Any, variables: Any) -> Any:
    """The params of the ordinary network, as nested dicts."""
    if isinstance(model, nnx.Module):
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))
    return variables["params"] if isinstance(model, nn.Module) else variables


def plain_call(
    model: Any, variables: Any, params: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Run the ordinary network with these params as its users would: (outputs, its other state)."""
    if isinstance(model, nnx.Module):
        module = nnx.clone(model)
        state = nnx.state(module, nnx.Param)
        nnx.replace_by_pure_dict(state, params)
        nnx.update(module, state)
        outputs = module(*inputs, **kwargs)
        return outputs, nnx.state(module, nnx.Not(nnx.Param))
    if isinstance(model, nn.Module):
        others = {name: tree for name, tree in variables.items() if name != "params"}
        collections = {"params": params, **others}
        if not others:
            return model.apply(collections, *inputs, **kwargs), {}
        return model.apply(collections, *inputs, mutable=list(others), **kwargs)
    return model(params, *inputs, **kwargs), {}
