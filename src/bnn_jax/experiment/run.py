"""A run in memory: the objects built from its settings, and its predictions."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypedDict

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from bnn_jax import gaussian, noise
from bnn_jax import train as training
from bnn_jax.config.schema import Config
from bnn_jax.experiment import build as assembly
from bnn_jax.experiment import examples as run_data
from bnn_jax.experiment import scores
from bnn_jax.experiment.build import named_key
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.fitting.divergence import Totals
from bnn_jax.fitting.loop import STEPS_PER_CALL_ON_ACCELERATORS, Loop, Step
from bnn_jax.likelihoods import Categorical, Likelihood
from bnn_jax.predictive.posterior_predictive import Classification, Regression, predict
from bnn_jax.transforms import BayesianModel

Prediction = Classification | Regression


class Checkpoint(TypedDict):
    """The saved values: everything that training continues from, and the prior."""

    state: training.State
    prior: PyTree
    totals: Totals


@dataclasses.dataclass(frozen=True)
class Run:
    """The objects of a run, built from its settings."""

    config: Config
    examples: Images | Points
    likelihood: Likelihood
    model: BayesianModel
    loop: Loop
    state: training.State

    @property
    def images(self) -> Images:
        """The examples of a classifier."""
        if not isinstance(self.examples, Images):
            raise RunError(
                f"A run on {self.config.data.name} has points and no images: use `run.points`."
            )
        return self.examples

    @property
    def points(self) -> Points:
        """The examples of a regression, and their curve."""
        if not isinstance(self.examples, Points):
            raise RunError(
                f"A run on {self.config.data.name} has images and no points: use `run.images`."
            )
        return self.examples

    @cached_property
    def outputs(self) -> Callable[[PyTree, Array], Array]:
        """The deterministic network as a function (weights, inputs) -> outputs in float32.

        The inputs are as in `examples`. It is one function object for a run, so that `predict`
        compiles it once.
        """

        def call(weights: PyTree, batch: Array) -> Array:
            inputs = self.examples.as_inputs(batch)
            return self.model.network.call(weights, self.model.variables, inputs).astype(
                jnp.float32
            )

        return jax.jit(call)

    @property
    def logits(self) -> Callable[[PyTree, Array], Array]:
        """`outputs` of a classifier."""
        return self.outputs

    def predict(
        self,
        posterior: PyTree,
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
            posterior: a params tree with Gaussian leaves, from which weights are sampled; or one
                without, for one deterministic network.
            inputs: images in uint8, or x (examples, 1), as in `examples`.
            targets: labels, or y (examples, 1).
            num_samples, antithetic, likelihood: in place of the settings. The temperature of the
                settings applies to a posterior with Gaussian leaves only.
            keep_samples, levels: as in `bnn_jax.predictive.predict`.
        """
        settings = self.config.evaluation
        if gaussian.random_leaves(posterior):
            num_samples = settings.num_samples if num_samples is None else num_samples
            antithetic = settings.antithetic if antithetic is None else antithetic
            if likelihood is None and isinstance(self.likelihood, Categorical):
                likelihood = Categorical(temperature=settings.temperature)
        with noise.generator(self.config.training.generator):
            return predict(
                named_key(self.config.seed, "evaluation"),
                self.outputs,
                inputs,
                num_samples,
                likelihood=self.likelihood if likelihood is None else likelihood,
                posterior=posterior,
                targets=targets,
                batch_size=settings.batch_size,
                antithetic=bool(antithetic),
                keep_samples=keep_samples,
                levels=levels,
            )

    def predict_held_out(self, posterior: PyTree, *, intervals: bool = True) -> Prediction:
        """Returns the predictive of the held-out examples.

        Args:
            posterior: as in `predict`.
            intervals: for regression, also compute the quantiles at `scores.LEVELS`.
        """
        levels = scores.LEVELS if intervals and isinstance(self.examples, Points) else ()
        return self.predict(posterior, *self.examples.held_out, levels=levels)

    @cached_property
    def held_out_predictive(self) -> Prediction:
        """The predictive of the held-out examples under the trained posterior, computed once."""
        return self.predict_held_out(evaluated(self.state))

    def checkpoint(self, state: training.State, totals: Totals) -> Checkpoint:
        """Returns the values to save."""
        return {"state": state, "prior": self.model.prior, "totals": totals}


def evaluated(state: training.State) -> PyTree:
    """Returns the posterior to evaluate: its moving average if there is one."""
    return state.posterior if state.average is None else state.average


def set_up(config: Config) -> Run:
    """Returns the run of these settings before its first step. Nothing is written.

    Raises:
        RunError, DataError: the settings do not fit the data.
    """
    epochs, batch_size = config.training.epochs, config.training.batch_size
    examples = run_data.load(config.data, config.model, batch_size=batch_size, seed=config.seed)
    likelihood = assembly.build_likelihood(config.likelihood)
    model = assembly.build_model(
        assembly.build_network(
            config.model,
            num_outputs=assembly.num_outputs(config.likelihood, examples),
            dtype=config.training.dtype,
        ),
        examples.as_inputs(examples.train[0][:1]),
        posterior=config.posterior,
        prior=assembly.build_prior(config.prior),
        estimator=config.estimator,
        seed=config.seed,
    )
    steps = examples.num_train // batch_size
    if config.objective.kl_every > steps:
        raise RunError(
            f"objective.kl_every ({config.objective.kl_every}) is more than the {steps} steps of "
            "an epoch, so some epochs would have no value of the KL: set it to at most that."
        )
    optimizer = assembly.build_optimizer(config.optimizer, steps_per_epoch=steps, epochs=epochs)
    step = assembly.bayesian_step(
        config.objective,
        model,
        likelihood,
        optimizer,
        num_train=examples.num_train,
        steps_per_epoch=steps,
        epochs=epochs,
        average=config.optimizer.average,
    )
    average = config.optimizer.average is not None
    return Run(
        config=config,
        examples=examples,
        likelihood=likelihood,
        model=model,
        loop=build_loop(
            step, examples, noise="noise", seed=config.seed, batch_size=batch_size, epochs=epochs
        ),
        state=training.init(model.posterior, optimizer, variables=model.variables, average=average),
    )


def build_loop(
    step: Step, examples: Images | Points, *, noise: str, seed: int, batch_size: int, epochs: int
) -> Loop:
    """Returns the loop of a step over the training examples.

    Args:
        step: the training step.
        examples: of the run.
        noise: the name of the key for the noise of the steps, see `named_key`.
        seed: of the run.
        batch_size: examples in a step.
        epochs: passes over the examples.
    """
    loop = Loop(
        step=step,
        examples=examples.train,
        prepare=examples.as_inputs,
        run_key=named_key(seed, noise),
        order_key=named_key(seed, "batches"),
        batch_size=batch_size,
        epochs=epochs,
    )
    if isinstance(examples, Points):
        # The steps of a small network without convolutions are faster in one call, on CPU too.
        return dataclasses.replace(loop, steps_per_call=STEPS_PER_CALL_ON_ACCELERATORS)
    return loop
