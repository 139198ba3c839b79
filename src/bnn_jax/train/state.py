"""The state of training, and the state before the first step."""

import dataclasses
from functools import partial
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.gaussian import Leaf

Posterior = TypeVar("Posterior")
Variables = TypeVar("Variables")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "posterior", "opt_state", "variables", "average"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State(Generic[Posterior, Variables]):
    """All values that training carries from step to step.

    Attributes:
        step: number of steps taken.
        posterior: params tree with Gaussian leaves, in float32 (or float64).
        opt_state: the optimizer's.
        variables: the network's other state, such as batch statistics; may be None.
        average: exponential moving average of the posterior, or None.
    """

    step: Leaf
    posterior: Posterior
    opt_state: optax.OptState
    variables: Variables
    average: Posterior | None


def init(
    posterior: Posterior,
    optimizer: optax.GradientTransformation,
    *,
    variables: PyTree = None,
    average: bool = False,
) -> State[Posterior, PyTree]:
    """Returns the state before the first step; `average` adds a moving average of the posterior.

    The arrays are copied, so a step that donates its state does not delete the given ones.

    Raises:
        ValueError: a leaf of the posterior is not floating point, so it has no gradient.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ValueError(
                f"{gaussian.path_name(path)!r} is {jnp.result_type(leaf)}, and only floating-point "
                "params can be trained: let the function close over it, or pass it as an input."
            )
    posterior, variables = jax.tree.map(jnp.array, (posterior, variables))
    return State(
        step=jnp.zeros((), jnp.int32),
        posterior=posterior,
        # Some optimizers use one array of zeros twice, which cannot be donated twice.
        opt_state=jax.tree.map(jnp.array, optimizer.init(posterior)),
        variables=variables,
        average=jax.tree.map(jnp.array, posterior) if average else None,
    )
