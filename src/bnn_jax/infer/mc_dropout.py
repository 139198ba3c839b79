"""Monte Carlo dropout: a trained network as a random function, by dropout at prediction time.

    model = mc_dropout(network, variables, inputs=(x,))        # linen
    model = mc_dropout(nnx_module, inputs=(x,))                # NNX
    outputs = model(key, x)
    prediction = predict(key, model, x, num_samples=32, likelihood=Categorical())

Each element of a layer's output is zeroed with probability `rate`, and the rest is scaled by
1 / (1 - rate), so that the mean stays. A draw of the masks is a draw from an approximate posterior
of the weights, if the network was trained with the same dropout; `forward` serves to train it so.

Source: Gal, Ghahramani 2016, "Dropout as a Bayesian Approximation", arXiv:1506.02142; for layers
inside a loop over time Gal, Ghahramani 2016, arXiv:1512.05287.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float, PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.networks import layer_calls
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
    """What `mc_dropout` returns: a function (key, x) -> outputs, without hidden state.

    Attributes:
        params: the network's.
        variables: its other state, such as batch statistics.
        layers: the paths of the layers whose output is dropped out, and of the network's own
            dropout layers.
        added: those of them whose dropout is not the network's own.
        rate: of the dropout that was added; the network's own layers keep theirs.
        base: the network itself.
    """

    params: PyTree
    variables: PyTree
    layers: tuple[str, ...]
    added: tuple[str, ...]
    rate: float
    base: Network

    def __call__(self, key: PRNGKey, *inputs: Any, **kwargs: Any) -> Any:
        """The network's outputs under one draw of the masks; each example has masks of its own."""
        return self.apply(key, self.params, *inputs, **kwargs)

    def apply(
        self,
        key: PRNGKey,
        params: PyTree,
        *inputs: Any,
        variables: PyTree = None,
        **kwargs: Any,
    ) -> Any:
        """As a call, with other params.

        Args:
            key: gives the masks.
            params: as `.params`, trained or not.
            inputs, kwargs: the network's own.
            variables: the network's other state, if not that of `.variables`.
        """
        state = self.variables if variables is None else variables
        places = {path: i for i, path in enumerate(self.layers)}
        calls = dict.fromkeys(places, 0)

        def drop(path: str, layer: Any, run: Callable[[], Any], data: tuple[Any, ...]) -> Any:
            layer_key = jax.random.fold_in(key, places[path])
            call_key = jax.random.fold_in(layer_key, calls[path])
            calls[path] += 1
            if isinstance(layer, DROPOUT):
                return dropout(call_key, data[0], rate=layer.rate, shared=layer.broadcast_dims)
            leaves, structure = jax.tree.flatten(run())
            keys = list(jax.random.split(call_key, len(leaves)))
            dropped = [dropout(k, a, rate=self.rate) for k, a in zip(keys, leaves, strict=True)]
            return jax.tree.unflatten(structure, dropped)

        return layer_calls.call(self.base, places, drop, params, state, inputs, kwargs)

    def forward(self, **kwargs: Any) -> Forward:
        """The network as `train.build_step` takes it: training with dropout.

        Other state of the network, such as batch statistics, stays as it is.
        """

        def forward(
            draw: PRNGKey | Draw, posterior: PyTree, variables: PyTree, inputs: Any
        ) -> tuple[Any, PyTree]:
            key = unpaired(draw, "A dropout mask")
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            out = self.apply(key, posterior, *arguments, variables=variables, **kwargs)
            return out, variables

        return forward


def mc_dropout(
    model: Any,
    variables: Any = None,
    *,
    inputs: tuple[Any, ...],
    rate: float = 0.1,
    where: Where = "auto",
) -> MCDropout:
    """A network with dropout at prediction time. The network itself and its variables stay.

    An NNX module is put into evaluation mode, but for its dropout; a linen module gets only the
    keyword arguments of the call. Dropout that is not a layer of its own, such as that of attention
    weights, follows the network's own arguments. Inside nn.scan and other loops one mask serves all
    steps.

    Args:
        model: a linen module, or an NNX module.
        variables: linen: the variables with "params".
        inputs: example inputs, a tuple; they tell which layers there are. Nothing is computed.
        rate: probability of a zero, 0 <= rate < 1. The network's own dropout layers keep theirs.
        where: after which layers dropout is added; the network's own dropout always acts.
            "auto": after none if the network has dropout layers, else as "layers"
            "layers": every dense layer and convolution, but not the one (in a network with several
                heads those) whose output is the network's
            "dropout": none, only the network's own
            "conv*": a glob over the paths of layers that have weights, or a list of globs
            nn.Dense: a layer type, or a tuple of them
            predicate: a function (path, layer type) -> bool

    Raises:
        TypeError: a model that is no Flax module, inputs that are no tuple.
        ValueError: a rate out of range, a `where` that chooses nothing.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate < 1.0:
        raise ValueError(f"rate is the probability of a zero, 0 <= rate < 1; got {rate!r}.")
    if not isinstance(inputs, tuple) or not inputs:
        raise TypeError(
            "inputs has to be a tuple of the network's arguments, inputs=(x,); got "
            f"{inputs if isinstance(inputs, tuple) else type(inputs).__name__}."
        )
    if not isinstance(model, linen.Module | nnx.Module):
        raise TypeError(
            f"mc_dropout takes a linen module or an NNX module, got {type(model).__name__}: a "
            "function has no layers to put dropout after."
        )
    network = as_network(model, variables)
    types = {**network.layer_types(*inputs), "": type(model)}
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
    """Inverted dropout: each element is zeroed with probability rate, or else over 1 - rate.

    Args:
        shared: axes along which one draw serves all elements.
    """
    if rate == 0.0:
        return x
    axes = {axis % x.ndim for axis in shared}
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    kept = jnp.broadcast_to(jax.random.bernoulli(key, 1.0 - rate, shape), x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


def _select(
    where: Where, network: Network, types: Mapping[str, type], inputs: tuple[Any, ...]
) -> list[str]:
    """The paths of the layers to put dropout after."""
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
            "where has to be 'auto', 'layers', 'dropout', a path pattern or a list of them, a "
            f"layer type, or a function (path, layer type) -> bool; got {where!r}."
        )
    if not chosen:
        raise ValueError(_nothing(f"where={where!r}", types))
    return chosen


def _nothing(what: str, types: Mapping[str, type]) -> str:
    shown = ", ".join(f"{path} ({kind.__name__})" for path, kind in types.items() if path)
    return (
        f"{what} chooses no layer to put dropout after. The network's layers are: "
        f"{shown or 'the network itself'}."
    )
