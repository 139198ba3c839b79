"""A run in memory: the objects built from its settings, its result, and its predictions."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, PyTree

from bnn_jax import gaussian, likelihoods, noise
from bnn_jax.config.schema import Config
from bnn_jax.experiment import build, memory_check, method_check, network_checks
from bnn_jax.experiment import examples as run_data
from bnn_jax.experiment import method as methods
from bnn_jax.experiment.build import named_key
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.fitting import Fit
from bnn_jax.fitting.evaluation import LEVELS
from bnn_jax.fitting.loop import STEPS_PER_CALL_ON_ACCELERATORS
from bnn_jax.fitting.standardize import Standardizer
from bnn_jax.infer.method import Method
from bnn_jax.likelihoods import Categorical, Likelihood
from bnn_jax.posteriors import MeanField, Posterior, size
from bnn_jax.predictive.posterior_predictive import Classification, Regression, predict
from bnn_jax.transforms import BayesianModel

Prediction = Classification | Regression


@dataclasses.dataclass(frozen=True)
class Run:
    """The objects of a run, built from its settings.

    Attributes:
        config: the settings.
        examples: the data, on the device.
        likelihood: the distribution of targets given the network's outputs.
        model: the Bayesian network at its initial posterior. It takes inputs as in `examples`.
        method: the inference method.
        mesh: the devices of training and prediction; None for one.
        result: what training returned; None before.
    """

    config: Config
    examples: Images | Points | Arrays
    likelihood: Likelihood
    model: BayesianModel
    method: Method
    mesh: Mesh | None = None
    result: Fit | None = None

    @property
    def fit(self) -> Fit:
        """The result of training."""
        if self.result is None:
            raise RunError("The run is not trained: call `experiment.train` or `experiment.load`.")
        return self.result

    @property
    def weights(self) -> PyTree:
        """The trained params tree: with Gaussian leaves if mean-field, else the posterior mean."""
        return weights_of(self.fit.posterior)

    @property
    def images(self) -> Images:
        """The examples of a classifier."""
        if not isinstance(self.examples, Images):
            raise RunError(
                f"A run on {self.config.data.title} has points and no images: use `run.points`."
            )
        return self.examples

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; empty if the targets are numbers."""
        if isinstance(self.examples, Images):
            return self.examples.label_names
        if isinstance(self.examples, Arrays):
            return self.examples.splits.train.class_names or ()
        return ()

    @property
    def points(self) -> Points:
        """The examples of a regression, and their curve."""
        if not isinstance(self.examples, Points):
            raise RunError(
                f"A run on {self.config.data.title} has images and no points: use `run.images`."
            )
        return self.examples

    @property
    def training_data(self) -> dict[str, Any]:
        """The arguments of `fit` for the training data and their batches."""
        size, stream = self.config.training.batch_size, self.examples.stream
        if stream is None:
            return {"data": self.examples.train, "batch_size": size}
        return {"data": stream.batches(size, self.config.seed)}

    @property
    def steps_per_call(self) -> int | None:
        """The steps that one compiled call runs; None for the default."""
        if self.examples.stream is not None:
            return None
        # The steps of a small network without convolutions are faster in one call, on CPU too.
        small = isinstance(self.examples, Points) or (
            isinstance(self.examples, Arrays) and self.examples.kind == "features"
        )
        return STEPS_PER_CALL_ON_ACCELERATORS if small and not self.method.whole_data else None

    @cached_property
    def outputs(self) -> Callable[[PyTree, Array], Array]:
        """The deterministic network as a function (weights, inputs) -> outputs in float32.

        The inputs are as in `examples`. It is one function object for a run, so that `predict`
        compiles it once.
        """

        def call(weights: PyTree, batch: Array) -> Array:
            outputs = self.model.network.call(weights, self.model.variables, batch)
            return outputs.astype(jnp.float32)

        return jax.jit(call)

    @property
    def logits(self) -> Callable[[PyTree, Array], Array]:
        """`outputs` of a classifier."""
        return self.outputs

    def predict(
        self,
        posterior: Posterior | PyTree,
        inputs: ArrayLike,
        targets: ArrayLike | None = None,
        *,
        num_samples: int | None = None,
        antithetic: bool | None = None,
        likelihood: Likelihood | None = None,
        keep_samples: bool = False,
        levels: Sequence[float] = (),
    ) -> Prediction:
        """Returns `bnn_jax.predictive.predict` with the settings of this run's evaluation section.

        Args:
            posterior: a posterior; or a params tree, with Gaussian leaves, from which weights are
                sampled, or without, for one deterministic network.
            inputs: images in uint8, or x (examples, 1), as in `examples`.
            targets: labels, or y (examples, 1).
            num_samples, antithetic, likelihood: in place of the settings. The temperature of the
                settings applies to random weights only.
            keep_samples, levels: as in `bnn_jax.predictive.predict`.
        """
        settings = self.config.evaluation
        tree: PyTree = posterior
        if isinstance(posterior, MeanField) and not jax.tree.leaves(posterior.variables):
            tree = posterior.tree
        if isinstance(tree, Posterior) or gaussian.random_leaves(tree):
            num_samples = self.num_samples_of(tree) if num_samples is None else num_samples
            antithetic = settings.antithetic if antithetic is None else antithetic
            if likelihood is None and isinstance(self.likelihood, Categorical):
                likelihood = Categorical(temperature=settings.temperature)
        likelihood = self.likelihood if likelihood is None else likelihood
        scaling = Standardizer() if self.result is None else self.result.scaling
        with noise.generator(self.config.training.generator):
            if isinstance(tree, Posterior):
                now = dataclasses.replace(
                    self.fit, posterior=tree, likelihood=likelihood, mesh=self.mesh
                )
                return now.predict(
                    inputs,
                    num_samples,
                    targets=targets,
                    batch_size=settings.batch_size,
                    keep_samples=keep_samples,
                    levels=levels,
                )
            predicted: Prediction = predict(
                named_key(self.config.seed, "evaluation"),
                self.outputs,
                scaling.of_inputs(inputs),
                num_samples,
                likelihood=likelihood,
                posterior=tree,
                targets=None if targets is None else scaling.of_targets(targets),
                batch_size=settings.batch_size,
                antithetic=bool(antithetic),
                keep_samples=keep_samples,
                levels=levels,
                mesh=self.mesh,
            )
            return scaling.undo(predicted)

    def num_samples_of(self, posterior: Posterior | PyTree) -> int:
        """Returns evaluation.num_samples, or the number of networks of an ensemble with fewer."""
        wanted = self.config.evaluation.num_samples
        own = size(posterior) if isinstance(posterior, Posterior) else None
        return wanted if own is None else min(own, wanted)

    def predict_held_out(
        self, posterior: Posterior | PyTree, *, intervals: bool = True
    ) -> Prediction:
        """Returns the predictive of the held-out examples.

        Args:
            posterior: as in `predict`.
            intervals: for regression, also compute the quantiles at `fitting.evaluation.LEVELS`.
        """
        levels = LEVELS if intervals and isinstance(self.likelihood, likelihoods.Regression) else ()
        return self.predict(posterior, *self.examples.held_out, levels=levels)

    @cached_property
    def held_out_predictive(self) -> Prediction:
        """The predictive of the held-out examples under the trained posterior, computed once."""
        return self.predict_held_out(self.fit.posterior)


def weights_of(posterior: Posterior) -> PyTree:
    """Returns the tree of a mean-field posterior, and the mean of others."""
    return posterior.tree if isinstance(posterior, MeanField) else posterior.mean()


def set_up(config: Config) -> Run:
    """Returns the run of these settings before its first step. Nothing is written.

    Raises:
        RunError, DataError: the settings do not fit the data.
    """
    examples = run_data.load(
        config.data,
        config.model,
        likelihood=config.likelihood.name,
        batch_size=config.training.batch_size,
        seed=config.seed,
    )
    network_checks.check_kind(config.model, examples)
    steps_per_epoch = examples.num_train // config.training.batch_size
    memory_check.check_steps(config.training.epochs, steps_per_epoch)
    memory_check.check_padding(config, examples)
    method = methods.build_method(config, num_train=examples.num_train)
    network = build.build_network(
        config.model,
        num_outputs=build.num_outputs(config.likelihood, examples),
        dtype=config.training.dtype,
        seed=config.seed,
    )
    shapes = partial(build.variables_shapes, network, examples)
    variables = network_checks.called(config.model, shapes)
    memory_check.check_state(config, method, network, variables)
    build_model = partial(
        build.build_model,
        network,
        examples.as_inputs(jnp.asarray(examples.train[0][:1])),
        posterior=config.posterior,
        prior=build.build_prior(config.prior),
        estimator=config.estimator,
        seed=config.seed,
    )
    model = network_checks.called(config.model, build_model).preprocessed(examples.as_inputs)
    likelihood = build.build_likelihood(config.likelihood)
    network_checks.check_outputs(config.model, model, likelihood, examples)
    network_checks.check_rules(config.estimator, model, examples)
    memory_check.check_batch(config, method, model, examples)
    method_check.check(config, method, model, likelihood, examples)
    return Run(
        config=config,
        examples=examples,
        likelihood=likelihood,
        model=model,
        method=method,
        mesh=build.build_mesh(config.training, method),
    )
