"""A plain function apply(params, *inputs) as a `Network`."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from jaxtyping import PyTree

from bnn_jax.networks.hook import Hook
from bnn_jax.networks.preprocess import Preprocess, preprocessed


@dataclasses.dataclass(frozen=True)
class FunctionNetwork:
    """A function of params and inputs. It has no other state, and its layers are not known."""

    function: Callable[..., PyTree]
    params: PyTree
    variables: None = None
    preprocess: Preprocess | None = None

    def call(self, params: PyTree, variables: PyTree, *inputs: PyTree, **kwargs: PyTree) -> PyTree:
        return self.function(params, *preprocessed(self.preprocess, inputs), **kwargs)

    def call_with_hook(
        self,
        hook: Hook,
        paths: Collection[str],
        params: PyTree,
        variables: PyTree,
        inputs: tuple[PyTree, ...],
        kwargs: Mapping[str, PyTree],
    ) -> PyTree:
        if paths:
            raise TypeError(f"A plain function has no layers, got the paths {sorted(paths)}.")
        return self.call(params, variables, *inputs, **kwargs)

    def layer_types(self, *inputs: PyTree, **kwargs: PyTree) -> dict[str, type]:
        return {}

    def mutable_options(self) -> dict[str, PyTree]:
        return {}

    def batch_statistics(self, variables: PyTree) -> dict[str, int]:
        return {}

    def in_mode(self, *, train: bool) -> "tuple[FunctionNetwork, dict[str, bool]]":
        """A plain function has one mode."""
        return self, {}

    def streams(self) -> tuple[str, ...]:
        return ()

    def check_streams(self, streams: tuple[str, ...]) -> None:
        if streams:
            raise ValueError(
                f"streams={streams!r} are random streams of linen modules, and this is a plain "
                "function: pass keys to it as inputs."
            )

    def view(self, **attributes: PyTree) -> NoReturn:
        raise TypeError(
            "view() sets attributes of NNX layers, and this is a plain function: pass its own "
            "keyword argument at the call instead, such as train=True."
        )
