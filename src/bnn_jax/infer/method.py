"""The interface of an inference method: three pure functions, built from its hyper-parameters.

    method = infer.map(learning_rate=1e-3)              # hyper-parameters, a frozen dataclass
    run = method.build(problem)                         # pure functions
    state = run.init(key)
    state, info = run.step(state, run_key, batch)       # to be jitted
    posterior = run.posterior(state)

Each file of this package is one method, with the same headings in the same order: formula and
source in the docstring, the state, `build` with `init`, `step` and `posterior`, private helpers.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bnn_jax.gaussian import Leaf
from bnn_jax.infer.hyperparameters import check_numbers
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import Posterior

# Each method has its own; all have the field `step`, the number of steps taken.
State = Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("loss", "nll", "metrics", "steps"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Info:
    """The values of a step before its update; or their sums over steps, by `+`.

    Attributes:
        loss: the quantity that the method minimises, or the potential energy, per example in nats.
        nll: the mean negative log likelihood of the batch, in nats.
        metrics: what problem.metric_fn returned, and the method's own numbers.
        steps: 1, or the number of steps in the sum.
    """

    loss: Leaf
    nll: Leaf
    metrics: PyTree
    steps: Leaf = dataclasses.field(default_factory=lambda: jnp.ones((), jnp.int32))

    def __add__(self, other: "Info") -> "Info":
        return jax.tree.map(jnp.add, self, other)

    def means(self) -> dict[str, Any]:
        """Returns the means over the summed steps as plain numbers, the metrics first."""
        sums = jax.device_get(self)
        steps = int(sums.steps)

        def mean(total: Any) -> float:
            return float(total) / steps if steps else math.nan

        metrics = {name: mean(total) for name, total in sums.metrics.items()}
        return {**metrics, "loss": mean(sums.loss), "nll": mean(sums.nll)}


def _same(state: PyTree) -> PyTree:
    return state


class Inference(NamedTuple):
    """A method built for a problem.

    Attributes:
        init: key -> state.
        step: (state, run key, batch) -> (state, info); pure, to be jitted. The noise of a step is
            fold_in(run key, state.step).
        posterior: state -> posterior.
        finish: (state, batches) -> state, or None: passes over all training batches after the last
            step, as the curvature of a Laplace approximation needs. `batches` is a function that
            returns an iterable of (inputs, targets), and may be called several times.
        diagnostics: state -> numbers such as R-hat, or None.
        shapes: () -> the posterior after `finish`, with shapes in place of its arrays; None if
            they are those of posterior(init(key)).
        portable: state -> the state in a form that is the same for every number of devices, for
            checkpoints.
        resumed: the inverse of `portable`.
    """

    init: Callable[[PRNGKey], State]
    step: Callable[[State, PRNGKey, Batch], tuple[State, Any]]
    posterior: Callable[[State], Posterior]
    finish: Callable[[State, Callable[[], Iterable[Batch]]], State] | None = None
    diagnostics: Callable[[State], dict[str, float]] | None = None
    shapes: Callable[[], PyTree] | None = None
    portable: Callable[[State], PyTree] = _same
    resumed: Callable[[PyTree], State] = _same


@runtime_checkable
class Method(Protocol):
    """Hyper-parameters of an inference method.

    Attributes:
        name: the method's name in configs and tables.
        whole_data: whether a step takes the whole training set as its batch, as NUTS does.
    """

    @property
    def name(self) -> str: ...

    @property
    def whole_data(self) -> bool: ...

    def build(self, problem: Problem) -> Inference:
        """Returns the pure functions of this method for a problem."""
        ...


def check_positive(method: str, **values: float) -> None:
    """Refuses hyper-parameters that are not positive numbers."""
    check_numbers(method, **values)
    for name, value in values.items():
        if not value > 0 or value == float("inf"):
            raise ValueError(f"{method}: {name} must be a positive number, got {value!r}.")
