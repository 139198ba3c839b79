"""The common interface of the three kinds of network: linen module, NNX module, plain function."""

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

from flax import linen, nnx
from jaxtyping import PyTree

from bnn_jax.networks.function import FunctionNetwork
from bnn_jax.networks.hook import Hook
from bnn_jax.networks.linen import LinenNetwork
from bnn_jax.networks.nnx import NnxNetwork
from bnn_jax.networks.preprocess import Preprocess


@runtime_checkable
class Network(Protocol):
    """A network as a pure function of its params. The module it was made from never changes.

    Attributes:
        params: nested dicts of arrays.
        variables: all other state (batch statistics, streams, caches); None or empty if there is
            none.
        preprocess: applied to the first input of a call; None for nothing.
    """

    @property
    def params(self) -> PyTree: ...

    @property
    def variables(self) -> PyTree: ...

    @property
    def preprocess(self) -> Preprocess | None: ...

    def call(self, params: PyTree, variables: PyTree, *inputs: PyTree, **kwargs: PyTree) -> PyTree:
        """Returns the outputs, or (outputs, new variables) when kwargs ask for mutable state."""
        ...

    def call_with_hook(
        self,
        hook: Hook,
        paths: Collection[str],
        params: PyTree,
        variables: PyTree,
        inputs: tuple[PyTree, ...],
        kwargs: Mapping[str, PyTree],
    ) -> PyTree:
        """Calls the network with the hook around each call of the layers at these paths.

        An NNX network is called in evaluation mode.

        Raises:
            TypeError: a function, which has no layers.
        """
        ...

    def layer_types(self, *inputs: PyTree, **kwargs: PyTree) -> Mapping[str, type]:
        """Returns {path of a layer: its type}, as far as known.

        The layers of a linen module are known only with example inputs.
        """
        ...

    def mutable_options(self) -> dict[str, PyTree]:
        """Returns the keyword arguments of a call that returns the other state as well."""
        ...

    def batch_statistics(self, variables: PyTree) -> dict[str, int]:
        """Returns {path: position among the leaves of the variables} of the running averages."""
        ...

    def in_mode(self, *, train: bool) -> "tuple[Network, dict[str, bool]]":
        """Returns the network in training or evaluation mode, and the keyword arguments of a call.

        NNX layers are in a mode; a linen module is called with an argument such as train=True.
        """
        ...

    def streams(self) -> tuple[str, ...]:
        """Returns the random streams that a call in training mode takes."""
        ...

    def check_streams(self, streams: tuple[str, ...]) -> None:
        """Raises ValueError if the network takes no random streams at a call."""
        ...

    def view(self, **attributes: PyTree) -> "Network":
        """Returns the network with other settings of its layers, as `nnx.view` makes them.

        Raises:
            TypeError: a network that is not an NNX module.
        """
        ...


def as_network(model: object, variables: PyTree) -> Network:
    """Any supported model as a `Network`.

    Raises:
        TypeError: a model of another type, or a class instead of an instance.
        ValueError: missing variables, or variables for an NNX module.
    """
    if isinstance(model, nnx.Module):
        if variables is not None:
            raise ValueError(
                "An NNX module holds its own variables: call to_bnn(model) without any."
            )
        return NnxNetwork.from_module(model)
    if isinstance(model, linen.Module):
        return LinenNetwork.from_module(model, variables)
    if callable(model) and not isinstance(model, type):
        if variables is None:
            raise ValueError(
                "A plain function apply(params, x) needs its params: to_bnn(apply, params)."
            )
        return FunctionNetwork(model, variables)
    raise TypeError(
        "The model must be a linen module with its variables, an NNX module, or a function "
        f"apply(params, x) with its params; got {_describe(model)}."
    )


def _describe(model: object) -> str:
    if isinstance(model, type):
        return f"the class {model.__name__}: pass an instance of it"
    return type(model).__name__
