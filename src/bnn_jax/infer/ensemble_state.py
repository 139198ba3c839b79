"""The state of an ensemble: its members one by one, stacked for `vmap`, or divided over a mesh."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Int, PyTree

from bnn_jax.devices import Placement
from bnn_jax.devices.placement import put
from bnn_jax.gaussian import Leaf


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "members"),
    meta_fields=("structure",),
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of an ensemble.

    Attributes:
        step: number of steps taken.
        members: a tuple with the state of each member; under `vmap`, the leaves of one state with
            the members on a new axis 0.
        structure: the structure of a member's state under `vmap`, else None.
    """

    step: Leaf
    members: PyTree
    structure: PyTreeDef | None = None

    @classmethod
    def of(cls, step: Int[Array, ""], states: list[PyTree], vectorized: bool) -> "State":
        if not vectorized:
            return cls(step, tuple(states))
        leaves = [jax.tree.leaves(state) for state in states]
        return cls(step, stack(leaves), jax.tree.structure(states[0]))

    def states(self) -> list[PyTree]:
        """Returns the state of each member."""
        if self.structure is None:
            return list(self.members)
        size = len(self.members[0])
        return [self._unflatten([leaf[i] for leaf in self.members]) for i in range(size)]

    def vmap(
        self, function: Callable[..., Any], *arguments: object, axis: str | None = None
    ) -> PyTree:
        """Returns function(member's state, *its arguments), where `members` are stacked leaves.

        Args:
            function: of one member.
            arguments: with the members on axis 0.
            axis: of the mesh that divides the members, if any.
        """

        def one(leaves: list[Array], *rest: object) -> PyTree:
            return function(self._unflatten(leaves), *rest)

        return jax.vmap(one, spmd_axis_name=axis)(self.members, *arguments)

    def _unflatten(self, leaves: list[Array]) -> PyTree:
        return jax.tree.unflatten(self.structure, leaves)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the members are held: one by one or stacked, and stacked where a mesh divides them.

    Attributes:
        stacked_alone: whether they are stacked on one device.
        over: the mesh that divides them; None for one device.
    """

    stacked_alone: bool
    over: Placement | None

    @property
    def stacked(self) -> bool:
        return self.stacked_alone or self.over is not None

    @property
    def axis(self) -> str | None:
        return None if self.over is None else "samples"

    def state(self, step: Int[Array, ""], states: list[PyTree]) -> State:
        new = State.of(step, states, self.stacked)
        if self.over is None:
            return new
        return dataclasses.replace(new, members=put(new.members, self.over.members))

    def portable(self, state: State) -> State:
        """Returns the state as it is on one device."""
        if self.stacked == self.stacked_alone:
            return state
        return State.of(state.step, state.states(), self.stacked_alone)

    def resumed(self, state: State) -> State:
        return state if self.over is None else self.state(state.step, state.states())


def stack(trees: list[PyTree]) -> PyTree:
    """Returns one tree, with the trees on a new axis 0."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
