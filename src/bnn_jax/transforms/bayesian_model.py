"""A Bayesian network: a posterior, a prior, and pure functions of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, priors, random_array
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import Prior
from bnn_jax.train import Forward
from bnn_jax.transforms.network import Network


@dataclasses.dataclass(frozen=True)
class BayesianModel:
    """What `to_bnn` returns. It has no hidden state: functions take the posterior they are to use.

    Attributes:
        posterior: the network's params tree with the chosen leaves `Gaussian`.
        prior: one prior for all, or a tree with one at each random leaf.
        variables: the network's other state, such as batch statistics.
        estimators: {path of a random weight: reparam, local_reparam or flipout}.
        shared: what local_reparam becomes where positions share a weight; see `random_array.apply`.
        network: the network as a function of its params.
    """

    posterior: PyTree
    prior: Prior | PyTree
    variables: PyTree
    estimators: Mapping[str, str]
    shared: str
    network: Network

    def apply(
        self,
        key: PRNGKey,
        posterior: PyTree,
        *inputs: Any,
        variables: PyTree = None,
        antithetic: bool = False,
        report: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The network's output with weights drawn from the posterior.

        Args:
            key: gives the noise of the weights.
            posterior: as `.posterior`, trained or not.
            inputs, kwargs: the network's own, `train`, `rngs`, `mutable` and `method` included.
            variables: the network's other state, if not that of `.variables`.
            antithetic: the twin with negated noise.
            report: filled with {path: [rule that was applied]}.

        Returns:
            What the network returns; with mutable state, (outputs, new variables).
        """
        state = self.variables if variables is None else variables
        leaves, structure = jax.tree.flatten((inputs, kwargs))
        arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)}

        def call(params: PyTree, data: dict[int, Any]) -> Any:
            merged = [data.get(i, x) for i, x in enumerate(leaves)]
            now_inputs, now_kwargs = jax.tree.unflatten(structure, merged)
            return self.network.call(params, state, *now_inputs, **now_kwargs)

        return random_array.apply(
            call,
            key,
            posterior,
            arrays,
            estimator=lambda path: self.estimators[path],
            shared=self.shared,
            antithetic=antithetic,
            report=report,
        )

    def mean_apply(
        self, posterior: PyTree, *inputs: Any, variables: PyTree = None, **kwargs: Any
    ) -> Any:
        """The network's output at the posterior mean: no noise, the cost of the plain network."""
        state = self.variables if variables is None else variables
        return self.network.call(gaussian.mean(posterior), state, *inputs, **kwargs)

    def kl(self, posterior: PyTree, **options: Any) -> Float[Array, ""]:
        """KL(posterior || prior) in nats; the options are those of `priors.kl_by_weight`."""
        return priors.kl_divergence(posterior, self.prior, **options)

    def mean(self, posterior: PyTree) -> PyTree:
        """Params for the unmodified network: the posterior mean."""
        return gaussian.mean(posterior)

    def sample(self, key: PRNGKey, posterior: PyTree) -> PyTree:
        """Params for the unmodified network: one draw."""
        return gaussian.sample(key, posterior)

    def ensemble(self, key: PRNGKey, posterior: PyTree, *, size: int) -> list[PyTree]:
        """Params for the unmodified network: a list of independent draws."""
        if size < 1:
            raise ValueError(f"An ensemble has at least one member, got size={size}.")
        return [gaussian.sample(k, posterior) for k in jax.random.split(key, size)]

    def forward(self, *, streams: tuple[str, ...] = (), **kwargs: Any) -> Forward:
        """The network as `train.build_step` takes it, with these keyword arguments at each call.

        Args:
            streams: for linen, the names of other random streams, such as "dropout"; each step's
                are derived from the step's key.
            kwargs: passed on at every call, such as train=True.
        """
        has_state = bool(jax.tree.leaves(self.variables))
        if self.network.kind == "linen" and has_state:
            kwargs = {"mutable": list(self.variables), **kwargs}
        elif self.network.kind == "nnx" and has_state:
            kwargs = {"mutable": True, **kwargs}

        def forward(
            key: PRNGKey, posterior: PyTree, variables: PyTree, inputs: Any, *, antithetic: bool
        ) -> tuple[Any, PyTree]:
            rngs = {name: jax.random.fold_in(key, 1_000_000 + i) for i, name in enumerate(streams)}
            options = {**kwargs, "rngs": rngs} if rngs else kwargs
            out = self.apply(
                key, posterior, inputs, variables=variables, antithetic=antithetic, **options
            )
            return out if has_state else (out, variables)

        return forward
