"""Monte Carlo dropout: a network trained and used with dropout, as approximate inference.

    minimise  E_masks[-log p(data | w, masks)] - log p(w)

per training example in nats, by a stochastic optimizer; the prior is the weight decay of the paper.
A prediction averages over masks. Dropout acts after chosen layers, and in the network's own dropout
layers; the network needs none. Plain functions have no layers, so they are refused.

To find the layers, a linen network is traced with its inputs alone: keyword arguments need
defaults, and these must be those of evaluation mode. The masks of a step come from the step's key.
Linen networks are trained in the mode of `problem.forward`, NNX networks in training mode.

Source: Gal, Ghahramani 2016, "Dropout as a Bayesian Approximation", arXiv:1506.02142.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jaxtyping import Array, Float, PyTree

from bnn_jax.infer.hyperparameters import check_numbers, check_optimizer
from bnn_jax.infer.mc_dropout import MCDropout as Masks
from bnn_jax.infer.mc_dropout import Where, with_dropout
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.methods.map import State, apply
from bnn_jax.infer.problem import Batch, Metrics, Problem
from bnn_jax.networks import layer_calls
from bnn_jax.networks.function import FunctionNetwork
from bnn_jax.networks.nnx import NnxNetwork
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.posteriors import Dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class MCDropout:
    """Hyper-parameters of MC dropout.

    Attributes:
        rate: probability of a zero where dropout is added; the network's own layers keep theirs.
        where: the layers after which dropout is added, as for `infer.mc_dropout.mc_dropout`.
        learning_rate: of Adam; decays to zero by a cosine over the run.
        optimizer: any optax transformation, in place of Adam and its schedule.
    """

    rate: float = 0.1
    where: Where = "auto"
    learning_rate: float = 1e-3
    optimizer: optax.GradientTransformation | None = None

    name: ClassVar[str] = "mc_dropout"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self.name, learning_rate=self.learning_rate)
        check_numbers(self.name, rate=self.rate)
        check_optimizer(self.name, self.optimizer)
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"mc_dropout: rate must be in [0, 1), got {self.rate!r}.")

    def build(self, problem: Problem) -> Inference:
        network = problem.model.network
        if isinstance(network, FunctionNetwork):
            raise TypeError(
                "mc_dropout: the network must be a Flax module, and this is a function, which has "
                "no layers to put dropout after: use another method."
            )
        schedule = optax.cosine_decay_schedule(self.learning_rate, problem.num_steps)
        optimizer = problem.masked(self.optimizer or optax.adam(schedule))

        def masks(inputs: tuple[Any, ...]) -> Masks:
            return with_dropout(network, inputs, rate=self.rate, where=self.where)

        def masked(
            key: PRNGKey,
            call: Callable[..., PyTree],
            params: PyTree,
            variables: PyTree,
            inputs: tuple[PyTree, ...],
        ) -> PyTree:
            if isinstance(network, NnxNetwork):
                return masks(inputs).apply(key, params, *inputs, variables=variables)
            chosen = masks(inputs)
            with linen.intercept_methods(_interceptor(chosen.layers, chosen.hook(key))):
                return call(params, variables, *inputs)

        def init(key: PRNGKey) -> State:
            params, variables = jax.tree.map(jnp.array, (problem.params, problem.model.variables))
            opt_state = jax.tree.map(jnp.array, optimizer.init(params))
            return State(jnp.zeros((), jnp.int32), params, opt_state, variables)

        def loss(
            params: PyTree, variables: PyTree, key: PRNGKey, batch: Batch
        ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], PyTree, Metrics]]:
            inputs = batch[0] if isinstance(batch[0], tuple) else (batch[0],)
            chosen = masks(inputs)
            mask_key, nll_key = jax.random.split(key)
            if isinstance(network, NnxNetwork):
                trained = _trained(problem, chosen, mask_key)
                return trained.loss(params, variables, nll_key, batch)
            with linen.intercept_methods(_interceptor(chosen.layers, chosen.hook(mask_key))):
                return problem.loss(params, variables, nll_key, batch)

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
            key = jax.random.fold_in(run_key, state.step)
            gradient = jax.value_and_grad(loss, has_aux=True)
            (value, (nll, variables, metrics)), grads = gradient(
                state.params, state.variables, key, batch
            )
            params, opt_state = apply(optimizer, grads, state.opt_state, state.params)
            return State(state.step + 1, params, opt_state, variables), Info(value, nll, metrics)

        def posterior(state: State) -> Dropout:
            return Dropout(state.params, state.variables, masked)

        return Inference(init, step, posterior)


def _trained(problem: Problem, masks: Masks, key: PRNGKey) -> Problem:
    """Returns the problem whose forward is an NNX network in training mode, with masks."""
    drop = masks.hook(key)

    def hook(path: str, layer: Any, run: Callable[[], Any], data: tuple[Any, ...]) -> PyTree:
        if path:
            return drop(path, layer, run, data)
        # The network itself: all its layers are in evaluation mode until here.
        layer.train()
        return run()

    def forward(
        draw: PRNGKey | Draw, posterior: PyTree, variables: PyTree, inputs: PyTree
    ) -> tuple[PyTree, PyTree]:
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        has_state = bool(jax.tree.leaves(variables))
        out = layer_calls.call(
            masks.base,
            ("", *masks.layers),
            hook,
            posterior,
            variables,
            arguments,
            {"mutable": True} if has_state else {},
        )
        return out if has_state else (out, variables)

    return dataclasses.replace(problem, forward=forward)


def _interceptor(paths: Collection[str], hook: layer_calls.Hook) -> Callable[..., Any]:
    """Returns a linen interceptor with the hook around each call of the layers at these paths."""
    # A layer under nn.remat or nn.jit calls itself.
    running: set[str] = set()

    def intercept(next_fn: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> PyTree:
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or path not in paths or path in running:
            return next_fn(*args, **kwargs)
        running.add(path)
        try:
            data = (*args, *kwargs.values())
            return hook(path, context.module, lambda: next_fn(*args, **kwargs), data)
        finally:
            running.remove(path)

    return intercept
