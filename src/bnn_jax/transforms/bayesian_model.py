"""A Bayesian network: a posterior, a prior, and pure functions of them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, priors
from bnn_jax.interpreter import random_array
from bnn_jax.networks.input_width import call_checked
from bnn_jax.networks.network import Network
from bnn_jax.networks.preprocess import Preprocess
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.priors import Prior
from bnn_jax.train import Forward
from bnn_jax.transforms import batch_statistics
from bnn_jax.transforms.call_arguments import check_arguments, check_posterior, check_random
from bnn_jax.transforms.conversion_report import ConversionReport, report


@dataclasses.dataclass(frozen=True)
class BayesianModel:
    """A Bayesian network, as `to_bnn` returns it. Every method takes the posterior that it uses.

    Attributes:
        posterior: the network's params tree with the chosen leaves `Gaussian`.
        prior: one prior for all weights, or a tree with a prior at each random leaf.
        variables: the network's other state, such as batch statistics.
        estimators: {path of a random weight: reparam, local_reparam or flipout}.
        strict: an estimator that is invalid for its weight is an error, see `to_bnn`.
        approximate: use local_reparam also where positions share weights, without their covariance.
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
        *inputs: PyTree,
        variables: PyTree = None,
        rules_used: dict[str, list[str]] | None = None,
        **kwargs: PyTree,
    ) -> PyTree:
        """Returns the network's output for weights sampled from the posterior.

        Args:
            key: the source of the weights' noise: a key, or a draw of an antithetic pair.
            posterior: a posterior tree like `.posterior`, trained or not.
            inputs, kwargs: the network's own arguments, including `train`, `rngs`, `mutable` and
                `method`.
            variables: the network's other state; `.variables` by default.
            rules_used: a dict that receives {path: [rule that was applied]}.

        Returns:
            The network's outputs; with mutable state, (outputs, new variables).

        Raises:
            TypeError: the key is not a JAX key, or inputs were passed instead of the posterior.
            ValueError: an input has the wrong width.
        """
        check_arguments(key, posterior, self.posterior)
        state = self.variables if variables is None else variables
        leaves, structure = jax.tree.flatten((inputs, kwargs))
        arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)}

        def call(params: PyTree, data: dict[int, Array]) -> PyTree:
            merged = [data.get(i, x) for i, x in enumerate(leaves)]
            now_inputs, now_kwargs = jax.tree.unflatten(structure, merged)
            return call_checked(self.network, params, state, now_inputs, now_kwargs)

        return random_array.apply(
            call,
            key,
            posterior,
            arrays,
            estimator=lambda path: self.estimators[path],
            strict=self.strict,
            approximate=self.approximate,
            report=rules_used,
        )

    def mean_apply(
        self, posterior: PyTree, *inputs: PyTree, variables: PyTree = None, **kwargs: PyTree
    ) -> PyTree:
        """Returns the network's output at the posterior mean, at the cost of the plain network."""
        check_posterior(posterior, self.posterior, call="model.mean_apply(model.posterior, x)")
        state = self.variables if variables is None else variables
        return call_checked(self.network, gaussian.mean(posterior), state, inputs, kwargs)

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> NoReturn:
        """Raises a TypeError that names the methods to use."""
        raise TypeError(
            "A BayesianModel cannot be called. Use model.apply(key, posterior, x) for outputs "
            "under drawn weights, model.mean_apply(posterior, x) for outputs at the posterior "
            "mean, and model.forward() as the network of train.build_step."
        )

    def kl(self, posterior: PyTree, **options: PyTree) -> Float[Array, ""]:
        """Returns KL(posterior || prior) in nats; options are those of `priors.kl_by_weight`.

        Raises:
            ValueError: the posterior has other Gaussian leaves than the model.
        """
        check_random(posterior, self.posterior)
        return priors.kl_divergence(posterior, self.prior, **options)

    def mean(self, posterior: PyTree) -> PyTree:
        """Returns params for the unmodified network: the posterior mean."""
        return gaussian.mean(posterior)

    def sample(self, key: PRNGKey | Draw, posterior: PyTree) -> PyTree:
        """Returns params for the unmodified network: one draw."""
        return gaussian.sample(key, posterior)

    def ensemble(self, key: PRNGKey, posterior: PyTree, *, size: int) -> list[PyTree]:
        """Returns a list of independent draws, each params for the unmodified network."""
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}.")
        return [gaussian.sample(k, posterior) for k in jax.random.split(key, size)]

    def report(self, *inputs: PyTree, **kwargs: PyTree) -> ConversionReport:
        """Returns a table of all weights: path, layer type, shape, random, estimator, prior.

        Args:
            inputs, kwargs: example arguments of the network. With them, the report also has the
                rules that replace the chosen estimators, and the layer types of a linen module.
                The network is traced, not computed.
        """
        applied: dict[str, list[str]] | None = None
        if inputs:
            applied = {path: [] for path in self.estimators}

            def trace(key: PRNGKey, posterior: PyTree) -> PyTree:
                return self.apply(key, posterior, *inputs, rules_used=applied, **kwargs)

            jax.eval_shape(trace, jax.random.key(0), self.posterior)
        types = self.network.layer_types(*inputs, **kwargs)
        return report(self.posterior, self.prior, self.estimators, types, applied)

    def view(self, **attributes: PyTree) -> "BayesianModel":
        """Returns an NNX model with other settings of its layers, as `nnx.view` makes them.

        model.view(deterministic=False, use_running_average=False) is the training mode of dropout
        and batch normalisation. Posteriors and variables fit both models.

        Raises:
            TypeError: the network is not an NNX module.
        """
        return dataclasses.replace(self, network=self.network.view(**attributes))

    def preprocessed(self, preprocess: Preprocess) -> "BayesianModel":
        """Returns the model with a function applied to the network's first input in every call.

        It is part of training, prediction and export alike:
        model.preprocessed(lambda images: images.astype(jnp.float32) / 255.0).

        Args:
            preprocess: a pure function of the input, with the examples on axis 0.
        """
        network = dataclasses.replace(self.network, preprocess=preprocess)  # type: ignore[type-var]
        return dataclasses.replace(self, network=network)

    def batch_statistics(
        self,
        posterior: PyTree,
        batches: Iterable[PyTree],
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        variables: PyTree = None,
        **kwargs: PyTree,
    ) -> PyTree:
        """Returns the variables with batch statistics recomputed for this posterior.

        Args:
            posterior: the trained posterior.
            batches: inputs of the network, each an array or a tuple of arguments.
            key: None for the statistics at the posterior mean; a key for those of the predictive
                distribution, with new weights for each pass.
            num_samples: the number of passes over each batch if a key is given.
            variables: the network's other state; `.variables` by default.
            kwargs: the arguments that select the training mode of a linen network, such as
                train=True. The mode of an NNX network is set by `view`.

        Raises:
            TypeError: batches is one array instead of a list of inputs.
            ValueError: there are no batches, or the network has no batch statistics or is not in
                training mode.
        """
        if isinstance(batches, jax.Array | np.ndarray):
            raise TypeError(
                "batches must be a list (or another iterable) of inputs, [x]; got one array."
            )
        state = self.variables if variables is None else variables
        places = self.network.batch_statistics(state)
        statistics = batch_statistics.take(state, places)

        def update(
            index: int | Array, now: batch_statistics.Statistics, batch: PyTree
        ) -> batch_statistics.Statistics:
            inputs = batch if isinstance(batch, tuple) else (batch,)
            put = batch_statistics.put(state, places, now)
            options = {**kwargs, "variables": put, **self.network.mutable_options()}
            if key is None:
                _, after = self.mean_apply(posterior, *inputs, **options)
            else:
                pass_key = jax.random.fold_in(key, index)
                _, after = self.apply(pass_key, posterior, *inputs, **options)
            return batch_statistics.take(after, self.network.batch_statistics(after))

        samples = 1 if key is None else num_samples
        new = batch_statistics.recompute(update, statistics, batches, num_samples=samples)
        return batch_statistics.put(state, places, new)

    def forward(self, *, streams: tuple[str, ...] = (), **kwargs: PyTree) -> Forward:
        """Returns the forward function for `train.build_step`.

        A batch is (inputs, targets). A tuple of inputs is several arguments of the network.

        Args:
            streams: for linen, the names of other random streams, such as "dropout"; their keys are
                derived from the step's key. An NNX network has its own streams, which advance from
                weight sample to weight sample.
            kwargs: keyword arguments of every call, such as train=True.

        Raises:
            ValueError: streams for a network that is not a linen module.
        """
        self.network.check_streams(streams)
        has_state = bool(jax.tree.leaves(self.variables))
        if has_state:
            kwargs = {**self.network.mutable_options(), **kwargs}

        def forward(
            key: PRNGKey | Draw, posterior: PyTree, variables: PyTree, inputs: PyTree
        ) -> tuple[PyTree, PyTree]:
            draw = Draw.of(key)
            rngs = {
                name: jax.random.fold_in(draw.key, 1_000_000 + i) for i, name in enumerate(streams)
            }
            options = {**kwargs, "rngs": rngs} if rngs else kwargs
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            out = self.apply(draw, posterior, *arguments, variables=variables, **options)
            return out if has_state else (out, variables)

        return forward
