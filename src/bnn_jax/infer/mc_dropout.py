"""Monte Carlo dropout: dropout at prediction time makes a trained network a random function.

    model = mc_dropout(network, variables, inputs=(x,))        # linen
    model = mc_dropout(nnx_module, inputs=(x,))                # NNX
    outputs = model(key, x)
    prediction = predict(key, model, x, num_samples=32, likelihood=Categorical())

Each element of a layer's output is zeroed with probability `rate`, and the rest is scaled by
1 / (1 - rate), which preserves the mean. A draw of the masks is a draw from an approximate
posterior of the weights if the network was trained with the same dropout; `forward` trains with it.

Source: Gal, Ghahramani 2016, "Dropout as a Bayesian Approximation", arXiv:1506.02142; for layers
inside a loop over time Gal, Ghahramani 2016, arXiv:1512.05287.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float, PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.networks import layer_calls
from bnn_jax.networks.linen import LinenNetwork
from bnn_jax.networks.network import Network, as_network
from bnn_jax.noise import Draw, PRNGKey, unpaired
from bnn_jax.train import Forward

Where = str | Sequence[str] | type | tuple[type, ...] | Callable[[str, type], bool]

LAYERS = (
    *(linen.Dense, linen.DenseGeneral, linen.Einsum),
    *(linen.Conv, linen.ConvLocal, linen.ConvTranspose),
    *(nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose),
)
DROPOUT = (linen.Dropout, nnx.Dropout)


@dataclasses.dataclass(frozen=True, eq=False)
class MCDropout:
    """A pure function (key, x) -> outputs with dropout; returned by `mc_dropout`.

    Attributes:
        params: params of the network.
        variables: other state of the network, such as batch statistics.
        layers: paths of all layers followed by dropout and of the network's own dropout layers.
        added: paths of the layers that dropout was added to.
        rate: rate of the added dropout; the network's own dropout layers keep theirs.
        base: the network.
    """

    params: PyTree
    variables: PyTree
    layers: tuple[str, ...]
    added: tuple[str, ...]
    rate: float
    base: Network

    def __call__(self, key: PRNGKey, *inputs: PyTree, **kwargs: object) -> PyTree:
        """Returns the network's outputs under one draw of the masks, one mask per example."""
        return self.apply(key, self.params, *inputs, **kwargs)

    def apply(
        self,
        key: PRNGKey,
        params: PyTree,
        *inputs: PyTree,
        variables: PyTree = None,
        **kwargs: object,
    ) -> PyTree:
        """Returns the network's outputs with the given params, under one draw of the masks.

        Args:
            key: determines the masks.
            params: a tree like `.params`.
            inputs, kwargs: arguments of the network.
            variables: other state of the network, by default `.variables`.
        """
        state = self.variables if variables is None else variables
        return layer_calls.call(
            self.base, self.layers, self.hook(key), params, state, inputs, kwargs
        )

    def hook(self, key: PRNGKey) -> layer_calls.Hook:
        """Returns the hook around the calls of `layers` that applies the masks of a key."""
        places = {path: i for i, path in enumerate(self.layers)}
        calls = dict.fromkeys(places, 0)

        def drop(
            path: str, layer: object, run: Callable[[], PyTree], data: tuple[PyTree, ...]
        ) -> PyTree:
            layer_key = jax.random.fold_in(key, places[path])
            call_key = jax.random.fold_in(layer_key, calls[path])
            calls[path] += 1
            if isinstance(layer, DROPOUT):
                return dropout(call_key, data[0], rate=layer.rate, shared=layer.broadcast_dims)
            leaves, structure = jax.tree.flatten(run())
            keys = list(jax.random.split(call_key, len(leaves)))
            dropped = [dropout(k, a, rate=self.rate) for k, a in zip(keys, leaves, strict=True)]
            return jax.tree.unflatten(structure, dropped)

        return drop

    def forward(self, **kwargs: object) -> Forward:
        """Returns the network in the form that `train.build_step` takes, for training with dropout.

        Other state of the network, such as batch statistics, is not updated.
        """

        def forward(
            draw: PRNGKey | Draw, posterior: PyTree, variables: PyTree, inputs: PyTree
        ) -> tuple[PyTree, PyTree]:
            key = unpaired(draw, "A dropout mask")
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            out = self.apply(key, posterior, *arguments, variables=variables, **kwargs)
            return out, variables

        return forward


def mc_dropout(
    model: linen.Module | nnx.Module,
    variables: PyTree = None,
    *,
    inputs: tuple[PyTree, ...],
    rate: float = 0.1,
    where: Where = "auto",
) -> MCDropout:
    """Returns a network with dropout at prediction time. The given network is not modified.

    An NNX module is put into evaluation mode, except for its dropout; a linen module receives only
    the keyword arguments of the call. Dropout inside other layers, such as that of attention
    weights, follows the network's own arguments. Inside nn.scan and other loops, all steps share
    one mask.

    Args:
        model: a linen module, or an NNX module.
        variables: for linen, the variables with "params".
        inputs: a tuple of example inputs, traced to find the layers; nothing is computed.
        rate: probability of a zero, 0 <= rate < 1. The network's own dropout layers keep theirs.
        where: layers after which dropout is added; the network's own dropout is always active.
            "auto": as "dropout" if the network has dropout layers, else as "layers"
            "layers": all dense layers and convolutions except the output layers
            "dropout": none; only the network's own dropout
            "conv*": a glob over the paths of layers with weights, or a list of globs
            nn.Dense: a layer type, or a tuple of layer types
            predicate: a function (path, layer type) -> bool

    Raises:
        TypeError: model is not a Flax module, or inputs is not a tuple.
        ValueError: a rate out of range, or a `where` that selects no layer.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate < 1.0:
        raise ValueError(f"rate must be a probability, 0 <= rate < 1; got {rate!r}.")
    if not isinstance(inputs, tuple) or not inputs:
        raise TypeError(
            "inputs must be a tuple of the network's arguments, inputs=(x,); got "
            f"{inputs if isinstance(inputs, tuple) else type(inputs).__name__}."
        )
    if not isinstance(model, linen.Module | nnx.Module):
        raise TypeError(
            f"mc_dropout takes a linen module or an NNX module, got {type(model).__name__}: "
            "functions have no layers to add dropout to."
        )
    return with_dropout(as_network(model, variables), inputs, rate=rate, where=where)


def with_dropout(
    network: Network, inputs: tuple[PyTree, ...], *, rate: float, where: Where
) -> MCDropout:
    """Returns `mc_dropout` of a `Network`; the inputs may be tracers."""
    # A lifted layer (nn.jit, nn.remat) is recorded under the path of the network itself.
    root = {"": type(network.module)} if isinstance(network, LinenNetwork) else {}
    types = {**network.layer_types(*inputs), **root}
    own = {path for path, kind in types.items() if issubclass(kind, DROPOUT)}
    if isinstance(where, str) and where == "auto":
        where = "dropout" if own else "layers"
    if isinstance(where, str) and where == "dropout":
        added = set()
        if not own:
            raise ValueError(_nothing("where='dropout'", types))
    else:
        added = set(_select(where, network, types, inputs)) - own
    return MCDropout(
        params=network.params,
        variables=network.variables,
        layers=tuple(sorted(own | added)),
        added=tuple(sorted(added)),
        rate=float(rate),
        base=network,
    )


def dropout(
    key: PRNGKey, x: Float[Array, "..."], *, rate: float, shared: Sequence[int] = ()
) -> Float[Array, "..."]:
    """Inverted dropout: zeroes each element with probability `rate`, divides others by 1 - rate.

    Args:
        shared: axes along which all elements share one draw.
    """
    if rate == 0.0:
        return x
    axes = {axis % x.ndim for axis in shared}
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    kept = jnp.broadcast_to(jax.random.bernoulli(key, 1.0 - rate, shape), x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


def _select(
    where: Where, network: Network, types: Mapping[str, type], inputs: tuple[PyTree, ...]
) -> list[str]:
    """Returns the paths of the layers that dropout is added to."""
    if isinstance(where, str) and where == "layers":
        layers = [path for path, kind in types.items() if issubclass(kind, LAYERS)]
        last = layer_calls.last_called(network, layers, inputs)
        chosen = [path for path in layers if path not in last]
    elif isinstance(where, type) or (
        isinstance(where, tuple) and where and all(isinstance(t, type) for t in where)
    ):
        chosen = [path for path, kind in types.items() if issubclass(kind, where)]
    elif isinstance(where, str | Sequence):
        paths = {path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(network.params)}
        with_weights = {path.rpartition("/")[0] for path in paths} & set(types)
        globs: list[str] = [where] if isinstance(where, str) else [str(glob) for glob in where]
        for glob in globs:
            if not any(fnmatchcase(path, glob) for path in with_weights):
                raise ValueError(_nothing(f"The pattern {glob!r}", types))
        chosen = [path for path in with_weights if any(fnmatchcase(path, g) for g in globs)]
    elif callable(where):
        chosen = [path for path, kind in types.items() if where(path, kind)]
    else:
        raise TypeError(
            "where must be 'auto', 'layers', 'dropout', a path pattern or a list of them, a "
            f"layer type, or a function (path, layer type) -> bool; got {where!r}."
        )
    if not chosen:
        raise ValueError(_nothing(f"where={where!r}", types))
    return chosen


def _nothing(what: str, types: Mapping[str, type]) -> str:
    shown = ", ".join(f"{path} ({kind.__name__})" for path, kind in types.items() if path)
    return (
        f"{what} selects no layer to add dropout to. The network's layers are: "
        f"{shown or 'the network itself'}."
    )
