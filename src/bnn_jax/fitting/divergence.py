"""Steps whose loss or weights are not finite: noticed inside the compiled step, named in an error.

A flag of three numbers is carried beside the sums of an epoch; one sum over each weight finds it.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from bnn_jax import gaussian
from bnn_jax.gaussian import Leaf

# Parts of a state that follow from its weights, or are too large to be read in every step.
_NOT_WATCHED = frozenset(
    (
        *("adaptation", "average", "buffer", "log_densities", "moments", "opt_state"),
        *("samples", "sums", "velocity"),
    )
)
_FIELDS_OF_WEIGHTS = ("members", "posterior", "params", "core", "mean", "chains")
# From this size on, inputs or targets are the first suspects.
LARGE = 1e3


class Diverged(FloatingPointError):
    """Training gave a loss or weights that are not finite.

    Attributes:
        step: the first step with such values, counted from 1.
        where: the first weight with such values, or "loss" if all weights are finite.
    """

    def __init__(self, message: str, *, step: int, where: str) -> None:
        super().__init__(message)
        self.step, self.where = step, where


@partial(jax.tree_util.register_dataclass, data_fields=("info", "diverged"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Totals:
    """What the steps of an epoch report.

    Attributes:
        info: the sums.
        diverged: zeros; or, of the first step with values that are not finite: its number from 1,
            whether the loss is one of them, and the number of the first such weight from 1 or 0.
    """

    info: Any
    diverged: Leaf

    def add(self, state: PyTree, info: Any) -> "Totals":
        """Returns the totals after a step, from its new state and what it reports."""
        weights = [leaf for _, leaf in _watched(state)]
        # A sum is finite if all its terms are, unless they are absurdly large.
        bad = [~jnp.isfinite(jnp.sum(leaf, dtype=jnp.float32)) for leaf in weights]
        in_loss = ~jnp.isfinite(_loss(info))
        any_weight = jnp.any(jnp.stack(bad)) if bad else jnp.zeros((), bool)
        first = jnp.argmax(jnp.stack(bad)) + 1 if bad else jnp.zeros((), jnp.int32)
        now = jnp.stack(
            [
                jnp.asarray(state.step, jnp.int32),
                in_loss.astype(jnp.int32),
                jnp.where(any_weight, first, 0).astype(jnp.int32),
            ]
        )
        is_first = (self.diverged[0] == 0) & (in_loss | any_weight)
        return Totals(self.info + info, jnp.where(is_first, now, self.diverged))

    def means(self) -> dict[str, Any]:
        """Returns the means over the summed steps as plain numbers."""
        return self.info.means()


def zero_flag() -> Int[Array, "3"]:
    """Returns the flag of steps that are all finite."""
    return jnp.zeros((3,), jnp.int32)


def check(totals: Totals, state: PyTree, examples: PyTree) -> None:
    """Raises an error if a step of the totals has diverged.

    Args:
        totals: of the epoch so far; the call waits for them.
        state: the newest state, for the names of the weights.
        examples: the training data, for the likely cause.
    """
    step, in_loss, leaf = (int(n) for n in np.asarray(totals.diverged))
    if step == 0:
        return
    names = [name for name, _ in _watched(state)]
    where = names[leaf - 1] if leaf else "loss"
    what = " and ".join(
        ["the loss"] * bool(in_loss) + [f"the weights (first {where})"] * bool(leaf)
    )
    raise Diverged(
        f"Training diverged in step {step}: {what} are not finite. {_cause(step, leaf, examples)} "
        "The state of this step is not saved.",
        step=step,
        where=where,
    )


def _cause(step: int, leaf: int, examples: PyTree) -> str:
    largest = max(
        (
            float(np.max(np.abs(np.asarray(array, np.float64)), initial=0.0))
            for array in jax.tree.leaves(examples)
            if jnp.issubdtype(array.dtype, jnp.floating)
        ),
        default=0.0,
    )
    if largest > LARGE:
        return (
            f"Likely cause: the data, with values up to {largest:.2g}: standardise the inputs "
            "and targets, or lower the learning rate."
        )
    if step == 1 or not leaf:
        return (
            "Likely cause: the network or the likelihood at these weights (a logarithm or a "
            "division by zero), the prior's scale, or initial_std."
        )
    return (
        "Likely cause: the learning rate, which is too large: lower it; then check the prior's "
        "scale."
    )


def _loss(info: Any) -> Array:
    """Returns the loss; where a step leaves out the KL, the data loss."""
    kl_steps = getattr(info, "kl_steps", None)
    return info.loss if kl_steps is None else jnp.where(kl_steps > 0, info.loss, info.nll)


def _watched(state: PyTree) -> Iterator[tuple[str, Array]]:
    """Yields the floating-point arrays of a state that are checked, with the weights' names."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        parts = gaussian.path_name(path).split("/")
        if _NOT_WATCHED.isdisjoint(parts[:3]) and jnp.issubdtype(leaf.dtype, jnp.floating):
            while len(parts) > 1 and (parts[0] in _FIELDS_OF_WEIGHTS or parts[0].isdigit()):
                parts = parts[1:]
            yield "/".join(parts), leaf
