"""The inference problem: a network with its prior, a likelihood, and the size of the data.

Every method of `infer` is built for a `Problem`, and uses these functions of it:

    nll(params, variables, key, batch)     the data loss of a batch
    loss(params, variables, key, batch)    the negative log posterior per example, in nats
    log_prior(params)                      the log density of the random weights

`params` is a plain params tree. The leaves that `to_bnn` made random are the weights whose
posterior is wanted; the other leaves have no prior. They are trained beside the random ones, or
kept as they are with train_rest=False (as for LoRA, where only the adapters are random).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, priors
from bnn_jax.devices import Placement
from bnn_jax.likelihoods import Likelihood
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.priors import Prior
from bnn_jax.train import Forward
from bnn_jax.train.accumulation import accumulated
from bnn_jax.transforms import BayesianModel

Batch = tuple[PyTree, Array]
Metrics = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A posterior to be inferred.

    Attributes:
        model: the network, its prior, and the leaves that are random, as `to_bnn` returns it.
        forward: the network in training mode, as `model.forward` returns it.
        likelihood: the distribution of targets given the network's outputs.
        num_data: number of training examples.
        num_steps: number of steps that will be taken, for schedules.
        train_rest: whether the leaves that are not random are trained too.
        metric_fn: (outputs, targets) -> {name: scalar}, reported by each step.
        evaluation: the network in evaluation mode, as `model.forward` returns it; by default in the
            mode that `network.in_mode` finds.
        inputs: the shapes and dtypes of a batch's inputs, for methods that must see how the network
            uses its weights; None if they are not known before the first batch.
        placement: the mesh of devices, for methods that divide more than the batch over it; None
            for one device.
        accumulate_steps: parts of a batch whose gradients are computed one at a time.
    """

    model: BayesianModel
    forward: Forward
    likelihood: Likelihood
    num_data: int
    num_steps: int
    train_rest: bool = True
    metric_fn: Callable[[PyTree, Array], Metrics] | None = None
    evaluation: Forward | None = None
    inputs: PyTree = None
    placement: Placement | None = None
    accumulate_steps: int = 1

    def __post_init__(self) -> None:
        for name in ("num_data", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")

    @property
    def params(self) -> PyTree:
        """The params at which inference starts: the mean of the model's initial posterior."""
        return gaussian.mean(self.model.posterior)

    @property
    def is_random(self) -> PyTree:
        """A tree of bools with the structure of the params: which leaves are random."""
        return jax.tree.map(
            gaussian.is_gaussian, self.model.posterior, is_leaf=gaussian.is_gaussian
        )

    def evaluate(self, params: PyTree, variables: PyTree, inputs: PyTree) -> PyTree:
        """Returns the network's outputs in evaluation mode.

        Args:
            params: a plain params tree.
            variables: the network's other state.
            inputs: a batch of inputs.
        """
        forward = self.evaluation
        if forward is None:
            network, mode = self.model.network.in_mode(train=False)
            options: dict[str, Any] = dict(mode)
            forward = dataclasses.replace(self.model, network=network).forward(**options)
        return forward(Draw(jax.random.key(0)), params, variables, inputs)[0]

    def log_prior(self, params: PyTree) -> Float[Array, ""]:
        """Returns the log density of all random weights under the prior, in nats."""
        prior = self.model.prior
        own = None if isinstance(prior, Prior) else priors.prior_leaves(prior)
        leaves = jax.tree_util.tree_leaves_with_path(params)
        total = jnp.zeros((), jnp.float32)
        for (path, leaf), random in zip(leaves, jax.tree.leaves(self.is_random), strict=True):
            if random:
                of_leaf = prior if own is None else own[gaussian.path_name(path)]
                total = total + jnp.sum(of_leaf.log_prob(leaf)).astype(total.dtype)
        return total

    def nll(
        self, params: PyTree, variables: PyTree, key: PRNGKey, batch: Batch
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        """Returns the mean negative log likelihood of a batch, in nats.

        Args:
            params: a plain params tree.
            variables: the network's other state.
            key: gives the noise of dropout streams, if the network has any.
            batch: (inputs, targets).

        Returns:
            (nll, (new variables, metrics)).
        """
        return accumulated(self._nll, self.accumulate_steps)(params, variables, key, batch)

    def _nll(
        self, params: PyTree, variables: PyTree, key: PRNGKey, batch: Batch
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        inputs, targets = batch
        outputs, variables = self.forward(Draw(key), params, variables, inputs)
        metrics = self.metric_fn(outputs, targets) if self.metric_fn else {}
        return self.likelihood.nll(outputs, targets), (variables, metrics)

    def loss(
        self, params: PyTree, variables: PyTree, key: PRNGKey, batch: Batch
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], PyTree, Metrics]]:
        """Returns an unbiased estimate of -log p(params, data) / num_data, in nats.

        Returns:
            (loss, (nll, new variables, metrics)).
        """
        nll, (variables, metrics) = self.nll(params, variables, key, batch)
        loss = nll - self.log_prior(params).astype(nll.dtype) / self.num_data
        return loss, (nll, variables, metrics)

    def masked(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """Returns the optimizer, restricted to random leaves if train_rest is False."""
        if self.train_rest:
            return optimizer

        def frozen(updates: PyTree) -> PyTree:
            # The updates are those of params, or of a mean-field posterior.
            return jax.tree.map(
                lambda random, update: jax.tree.map(lambda _: not random, update),
                self.is_random,
                updates,
            )

        return optax.chain(optimizer, optax.masked(optax.set_to_zero(), frozen))
