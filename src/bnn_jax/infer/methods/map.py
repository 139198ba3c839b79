"""Maximum a posteriori (MAP): the params with the largest posterior density.

    minimise  -log p(data | w) - log p(w)

by a stochastic optimizer on minibatches; per training example, in nats. With a flat prior this is
maximum likelihood. The posterior is a single point.

Source: any textbook, for instance Murphy 2022, "Probabilistic Machine Learning", section 4.5.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from bnn_jax.gaussian import Leaf
from bnn_jax.infer.hyperparameters import check_flags, check_optimizer
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import Point


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "opt_state", "variables"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of MAP.

    Attributes:
        step: number of steps taken.
        params: the params tree.
        opt_state: the optimizer's.
        variables: the network's other state, such as batch statistics.
    """

    step: Leaf
    params: PyTree
    opt_state: PyTree
    variables: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAP:
    """Hyper-parameters of MAP.

    Attributes:
        learning_rate: of Adam; decays to zero by a cosine over the run unless `constant` is set.
        constant: keep the learning rate constant.
        optimizer: any optax transformation, in place of Adam and its schedule.
    """

    learning_rate: float = 1e-3
    constant: bool = False
    optimizer: optax.GradientTransformation | None = None

    name: ClassVar[str] = "map"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("map", learning_rate=self.learning_rate)
        check_flags("map", constant=self.constant)
        check_optimizer("map", self.optimizer)

    def build(self, problem: Problem) -> Inference:
        optimizer = problem.masked(self.optimizer or adam(self, problem.num_steps))

        def init(key: PRNGKey) -> State:
            params, variables = jax.tree.map(jnp.array, (problem.params, problem.model.variables))
            opt_state = jax.tree.map(jnp.array, optimizer.init(params))
            return State(jnp.zeros((), jnp.int32), params, opt_state, variables)

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
            key = jax.random.fold_in(run_key, state.step)
            gradient = jax.value_and_grad(problem.loss, has_aux=True)
            (loss, (nll, variables, metrics)), grads = gradient(
                state.params, state.variables, key, batch
            )
            params, opt_state = apply(optimizer, grads, state.opt_state, state.params)
            return State(state.step + 1, params, opt_state, variables), Info(loss, nll, metrics)

        def posterior(state: State) -> Point:
            return Point(state.params, state.variables)

        return Inference(init, step, posterior)


def adam(method: MAP, num_steps: int) -> optax.GradientTransformation:
    """Returns Adam with the method's learning rate and schedule."""
    if method.constant:
        return optax.adam(method.learning_rate)
    return optax.adam(optax.cosine_decay_schedule(method.learning_rate, num_steps))


def apply(
    optimizer: optax.GradientTransformation, grads: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """Returns the updated params and optimizer state."""
    # Optimizers need not keep to a strict dtype promotion.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state
