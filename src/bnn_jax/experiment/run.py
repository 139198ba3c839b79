"""A run in memory: what is made from its settings, and what it predicts."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

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
from bnn_jax.fitting.loop import STEPS_PER_CALL_ON_ACCELERATORS, Loop
from bnn_jax.likelihoods import Categorical, Likelihood
from bnn_jax.predictive.posterior_predictive import predict
from bnn_jax.transforms import BayesianModel


@dataclasses.dataclass(frozen=True)
class Run:
    """The objects of a run, made from its settings."""

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
            raise RunError(f"A run on {self.config.data.name} has points, and no images.")
        return self.examples

    @property
    def points(self) -> Points:
        """The examples of a regression, and the curve that they are from."""
        if not isinstance(self.examples, Points):
            raise RunError(f"A run on {self.config.data.name} has images, and no points.")
        return self.examples

    @cached_property
    def outputs(self) -> Callable[[PyTree, Array], Array]:
        """(weights, inputs as the data has them) -> what the plain network returns, in float32.

        One function object for a run, so that `predict` compiles it once.
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
        self, posterior: PyTree, inputs: ArrayLike, targets: Any = None, **options: Any
    ) -> Any:
        """The predictive of `bnn_jax.predictive.predict` as this run's settings have it.

        Args:
            posterior: to draw evaluation.num_samples of weights from; or weights without Gaussians.
            inputs: images in uint8, or x (examples, 1), as the data has them.
            targets: labels, or y (examples, 1).
            options: those of `predict`, in place of the settings.
        """
        settings = self.config.evaluation
        sampled: dict[str, Any] = {
            "num_samples": settings.num_samples,
            "antithetic": settings.antithetic,
        }
        if isinstance(self.likelihood, Categorical):
            sampled["likelihood"] = Categorical(temperature=settings.temperature)
        with noise.generator(self.config.training.generator):
            return predict(
                named_key(self.config, "evaluation"),
                self.outputs,
                inputs,
                **{
                    "likelihood": self.likelihood,
                    "posterior": posterior,
                    "targets": targets,
                    "batch_size": settings.batch_size,
                    **(sampled if gaussian.random_leaves(posterior) else {}),
                    **options,
                },
            )

    def of_held_out(self, posterior: PyTree, *, intervals: bool = True) -> Any:
        """The predictive of the held-out examples; of numbers, with the ends of their interval."""
        levels = scores.LEVELS if intervals and isinstance(self.examples, Points) else ()
        return self.predict(posterior, *self.examples.held_out, levels=levels)

    @cached_property
    def held_out_predictive(self) -> Any:
        """The predictive of the held-out examples by the state's posterior, computed once."""
        return self.of_held_out(evaluated(self.state))

    def checkpoint(self, state: training.State, totals: Any) -> dict[str, Any]:
        """What is saved: all that training goes on from, and the prior."""
        return {"state": state, "prior": self.model.prior, "totals": totals}


def evaluated(state: training.State) -> PyTree:
    """What is evaluated: the posterior's moving average if there is one, or else the posterior."""
    return state.posterior if state.average is None else state.average


def set_up(config: Config) -> Run:
    """The run of these settings, before its first step; nothing is written.

    Raises:
        RunError, DataError: the settings do not fit the data.
    """
    examples = run_data.load(config)
    model = assembly.build_model(config, examples)
    steps = examples.num_train // config.training.batch_size
    if config.objective.kl_every > steps:
        raise RunError(
            f"objective.kl_every ({config.objective.kl_every}) is more than the {steps} steps of "
            "an epoch, so some epochs would have no value of the KL: set it to at most that."
        )
    epochs = config.training.epochs
    optimizer = assembly.build_optimizer(config, steps_per_epoch=steps, epochs=epochs)
    step = assembly.bayesian_step(config, model, optimizer, examples.num_train, steps)
    average = config.optimizer.average is not None
    state = training.init(model.posterior, optimizer, variables=model.variables, average=average)
    return Run(
        config=config,
        examples=examples,
        likelihood=assembly.build_likelihood(config),
        model=model,
        loop=loop_of(config, examples, step, "noise", epochs),
        state=state,
    )


def loop_of(
    config: Config,
    examples: Images | Points,
    step: Any,
    noise: str,
    epochs: int,
) -> Loop:
    """Epochs of this step over the training examples; `noise` names the key of its noise."""
    # The steps of a small network without convolutions are faster in one call, on CPU too.
    many = {"steps_per_call": STEPS_PER_CALL_ON_ACCELERATORS}
    return Loop(
        step=step,
        examples=examples.train,
        prepare=examples.as_inputs,
        run_key=named_key(config, noise),
        order_key=named_key(config, "batches"),
        batch_size=config.training.batch_size,
        epochs=epochs,
        **(many if isinstance(examples, Points) else {}),
    )
