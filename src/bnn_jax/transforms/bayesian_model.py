"""A Bayesian network: a posterior, a prior, and pure functions of them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, priors
from bnn_jax.interpreter import random_array
from bnn_jax.networks.network import Network, nnx_view
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.priors import Prior
from bnn_jax.train import Forward
from bnn_jax.transforms import batch_statistics
from bnn_jax.transforms.conversion_report import Report, report


@dataclasses.dataclass(frozen=True)
class BayesianModel:
    """What `to_bnn` returns. It has no hidden state: functions take the posterior they are to use.

    Attributes:
        posterior: the network's params tree with the chosen leaves `Gaussian`.
        prior: one prior for all, or a tree with one at each random leaf.
        variables: the network's other state, such as batch statistics.
        estimators: {path of a random weight: reparam, local_reparam or flipout}.
        strict: an estimator that cannot be used for its weight is an error, see `to_bnn`.
        approximate: use local_reparam where positions share weights, without their covariance.
        network: the network as a function of its params.
    """

    posterior: PyTree
    prior: Prior | PyTree
    variables: PyTree
    estimators: Mapping[str, str]
    strict: bool
    approximate: bool
    network: Network

    def apply(
        self,
        key: PRNGKey | Draw,
        posterior: PyTree,
        *inputs: Any,
        variables: PyTree = None,
        report: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The network's output with weights drawn from the posterior.

        Args:
            key: gives the noise of the weights: a key, or a draw of an antithetic pair.
            posterior: as `.posterior`, trained or not.
            inputs, kwargs: the network's own, `train`, `rngs`, `mutable` and `method` included.
            variables: the network's other state, if not that of `.variables`.
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
            strict=self.strict,
            approximate=self.approximate,
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

    def sample(self, key: PRNGKey | Draw, posterior: PyTree) -> PyTree:
        """Params for the unmodified network: one draw."""
        return gaussian.sample(key, posterior)

    def ensemble(self, key: PRNGKey, posterior: PyTree, *, size: int) -> list[PyTree]:
        """Params for the unmodified network: a list of independent draws."""
        if size < 1:
            raise ValueError(f"An ensemble has at least one member, got size={size}.")
        return [gaussian.sample(k, posterior) for k in jax.random.split(key, size)]

    def report(self, *inputs: Any, **kwargs: Any) -> Report:
        """A table of all weights: path, layer type, shape, random or not, estimator, prior.

        Args:
            inputs, kwargs: example arguments of the network. With them the table says which rule
                is applied to each weight where it is not the chosen estimator, and a linen module
                tells the types of its layers. Nothing is computed.
        """
        applied: dict[str, list[str]] | None = None
        if inputs:
            applied = {path: [] for path in self.estimators}

            def trace(key: PRNGKey, posterior: PyTree) -> Any:
                return self.apply(key, posterior, *inputs, report=applied, **kwargs)

            jax.eval_shape(trace, jax.random.key(0), self.posterior)
        types = self.network.layer_types(*inputs, **kwargs)
        return report(self.posterior, self.prior, self.estimators, types, applied)

    def view(self, **attributes: Any) -> "BayesianModel":
        """For NNX: the same model with other settings of its layers, as `nnx.view` makes them.

        model.view(deterministic=False, use_running_average=False) is the training mode of dropout
        and batch normalisation. Posteriors and variables fit both.
        """
        return dataclasses.replace(self, network=nnx_view(self.network, **attributes))

    def batch_statistics(
        self,
        posterior: PyTree,
        batches: Iterable[Any],
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        variables: PyTree = None,
        **kwargs: Any,
    ) -> PyTree:
        """The variables, with batch statistics computed again for this posterior.

        Args:
            posterior: the trained posterior.
            batches: inputs of the network, each an array or a tuple of arguments.
            key: without it the statistics are those of the posterior mean; with it those of the
                predictive, of weights drawn anew for each pass.
            num_samples: passes over each batch, with a key.
            variables: the network's other state, if not that of `.variables`.
            kwargs: what puts a linen network into training mode, such as train=True. An NNX
                network's mode is that of `view`.

        Raises:
            TypeError: one array instead of a list of inputs.
            ValueError: no batches, a network without batch statistics, or one that is not in
                training mode.
        """
        if isinstance(batches, jax.Array | np.ndarray):
            raise TypeError(
                "batches has to be a list (or another iterable) of inputs, [x]; got one array."
            )
        state = self.variables if variables is None else variables
        merge, statistics = self.network.batch_statistics(state)

        def update(index: Any, now: Any, batch: Any) -> Any:
            inputs = batch if isinstance(batch, tuple) else (batch,)
            options = {**kwargs, "variables": merge(now), "mutable": self.network.mutable}
            if key is None:
                _, after = self.mean_apply(posterior, *inputs, **options)
            else:
                pass_key = jax.random.fold_in(key, index)
                _, after = self.apply(pass_key, posterior, *inputs, **options)
            return self.network.batch_statistics(after)[1]

        samples = 1 if key is None else num_samples
        return merge(batch_statistics.recompute(update, statistics, batches, num_samples=samples))

    def forward(self, *, streams: tuple[str, ...] = (), **kwargs: Any) -> Forward:
        """The network as `train.build_step` takes it, with these keyword arguments at each call.

        A batch is (inputs, targets); inputs that are a tuple are several arguments of the network.

        Args:
            streams: for linen, the names of other random streams, such as "dropout"; each step's
                are derived from the step's key. Those of an NNX network are its own, and go on
                from weight sample to weight sample.
            kwargs: passed on at every call, such as train=True.
        """
        if streams and self.network.kind != "linen":
            raise ValueError(
                f"streams={streams!r} are random streams of linen modules, and this is a "
                f"{self.network.kind} network: an NNX module holds its own, a function takes keys "
                "as inputs."
            )
        has_state = bool(jax.tree.leaves(self.variables))
        if self.network.kind == "linen" and has_state:
            kwargs = {"mutable": list(self.variables), **kwargs}
        elif self.network.kind == "nnx" and has_state:
            kwargs = {"mutable": True, **kwargs}

        def forward(
            key: PRNGKey | Draw, posterior: PyTree, variables: PyTree, inputs: Any
        ) -> tuple[Any, PyTree]:
            draw = Draw.of(key)
            rngs = {
                name: jax.random.fold_in(draw.key, 1_000_000 + i) for i, name in enumerate(streams)
            }
            options = {**kwargs, "rngs": rngs} if rngs else kwargs
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            out = self.apply(draw, posterior, *arguments, variables=variables, **options)
            return out if has_state else (out, variables)

        return forward
