"""The loss of a step: the data loss over Monte Carlo samples of the weights, and the KL."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from bnn_jax import objective, priors
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.priors import Prior
from bnn_jax.train.accumulation import accumulated
from bnn_jax.train.step_info import StepInfo

Tree = TypeVar("Tree")
Batch = tuple[PyTree, PyTree]
LossFn = Callable[[PyTree, PyTree], Float[Array, ""]]
MetricFn = Callable[[PyTree, PyTree], Mapping[str, Array]]


@runtime_checkable
class Forward(Protocol):
    """The network: (draw, posterior, variables, inputs) -> (outputs, new variables)."""

    def __call__(
        self, draw: Draw, posterior: PyTree, variables: PyTree, inputs: PyTree, /
    ) -> tuple[PyTree, PyTree]:
        """Draw the noise from draw.key; multiply that of the weights by draw.sign."""
        ...


@dataclasses.dataclass(frozen=True)
class VariationalLoss:
    """The loss of a step as a function of the posterior; the attributes are `build_step`'s."""

    forward: Forward
    loss_fn: LossFn
    metric_fn: MetricFn | None
    prior: Prior | PyTree
    dnn_factor: float
    num_samples: int
    antithetic: bool
    reverse_kl: bool
    accumulate_steps: int = 1

    def __call__(
        self,
        posterior: PyTree,
        variables: PyTree,
        key: PRNGKey,
        bnn_factor: Float[Array, ""],
        batch: Batch,
    ) -> tuple[Float[Array, ""], tuple[StepInfo[Array], PyTree]]:
        """Returns the loss, and with it the step's info and the network's new variables."""
        data_loss = accumulated(self.data_loss, self.accumulate_steps)
        nll, (variables, metrics) = data_loss(posterior, variables, key, batch)
        # Unless the batch has parts, a Monte Carlo KL sees the weights of the forward pass.
        layers = self.kl_by_layer(posterior, self.draws(jax.random.clone(key))[0].key)
        kl = _sum(layers.values())
        info = StepInfo(
            loss=self.total(nll, kl, bnn_factor),
            nll=nll,
            kl=kl,
            dnn_factor=jnp.asarray(self.dnn_factor, jnp.float32),
            bnn_factor=bnn_factor,
            kl_by_layer=layers,
            metrics=metrics,
            steps=jnp.ones((), jnp.int32),
            kl_steps=jnp.ones((), jnp.int32),
        )
        return info.loss, (info, variables)

    def data_loss(
        self, posterior: PyTree, variables: PyTree, key: PRNGKey, batch: Batch
    ) -> tuple[Float[Array, "..."], tuple[PyTree, PyTree]]:
        """Returns the mean data loss over the samples, and (new variables, mean metrics)."""
        inputs, labels = batch
        outputs, variables = self.outputs(self.draws(key), posterior, variables, inputs)
        losses = [self.loss_fn(each, labels) for each in outputs]
        metrics = [self.metric_fn(each, labels) if self.metric_fn else {} for each in outputs]
        return _sum(losses) / self.num_samples, (variables, _tree_mean(metrics))

    def outputs(
        self, draws: list[Draw], posterior: PyTree, variables: PyTree, inputs: PyTree
    ) -> tuple[list[PyTree], PyTree]:
        """Returns the network's outputs for each Monte Carlo sample, and its new variables."""
        outputs, after = [], []
        now = variables
        for i, draw in enumerate(draws):
            each, new = self.forward(draw, posterior, now, inputs)
            outputs.append(each)
            after.append(new)
            if i + 1 < len(draws) and (draw.sign < 0 or not self.antithetic):
                now = _with_counters_of(new, variables)
        return outputs, _with_counters_of(after[-1], _tree_mean(after))

    def draws(self, key: PRNGKey) -> list[Draw]:
        """Returns one draw per sample; the two of an antithetic pair share their key."""
        if not self.antithetic:
            return [Draw(k) for k in jax.random.split(key, self.num_samples)]
        pairs = [Draw(jax.random.clone(k)) for k in jax.random.split(key, self.num_samples // 2)]
        return [draw for pair in pairs for draw in (pair, pair.opposite)]

    def kl_by_layer(self, posterior: PyTree, key: PRNGKey) -> dict[str, Array]:
        return priors.kl_by_layer(
            posterior, self.prior, key=jax.random.clone(key), reverse=self.reverse_kl
        )

    def total(
        self, nll: Float[Array, "..."], kl: Float[Array, ""], bnn_factor: Float[Array, ""]
    ) -> Float[Array, ""]:
        return objective.bnn_loss(
            nll, kl, dnn_factor=self.dnn_factor, bnn_factor=bnn_factor.astype(kl.dtype)
        )

    def kl_only_if(
        self, valued: Array, info: StepInfo[Array], posterior: PyTree, key: PRNGKey
    ) -> StepInfo[Array]:
        """Returns the info with the value of the KL if `valued`; XLA drops the value it had."""
        layers = lax.cond(
            valued,
            lambda: self.kl_by_layer(posterior, self.draws(key)[0].key),
            lambda: {name: jnp.full_like(x, jnp.nan) for name, x in info.kl_by_layer.items()},
        )
        kl = _sum(layers.values())
        return dataclasses.replace(
            info,
            loss=self.total(info.nll, kl, info.bnn_factor),
            kl=kl,
            kl_by_layer=layers,
            kl_steps=valued.astype(jnp.int32),
        )


def _sum(values: Iterable[Array]) -> Array:
    first, *others = list(values) or [jnp.zeros((), jnp.float32)]
    return sum(others, start=first)


def _with_counters_of(after: Tree, variables: Tree) -> Tree:
    """Returns the variables, with the counters and all other non-float leaves of a later call.

    The random streams of an NNX network advance from one weight sample to the next, or all samples
    would have the same dropout masks; the two of an antithetic pair do. Running averages are floats
    and start from the same values for each sample.
    """

    def choose(old: Array, new: Array) -> Array:
        return old if jnp.issubdtype(jnp.result_type(old), jnp.floating) else new

    return jax.tree.map(choose, variables, after)


def _tree_mean(trees: list[Tree]) -> Tree:
    """Returns the mean over trees of one structure; leaves that are not floats are the first's."""

    def mean(first: Array, *rest: Array) -> Array:
        if not rest or not jnp.issubdtype(jnp.result_type(first), jnp.floating):
            return first
        return sum(rest, start=first) / (1 + len(rest))

    return jax.tree.map(mean, *trees)
