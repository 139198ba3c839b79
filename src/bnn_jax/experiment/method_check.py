"""Checks that an inference method can be built for a run, before anything is written."""

import jax.numpy as jnp

from bnn_jax.config.schema import Config
from bnn_jax.data.errors import one_line
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.fitting import shapes
from bnn_jax.fitting.modes import modes_of
from bnn_jax.infer.method import Method
from bnn_jax.infer.problem import Problem
from bnn_jax.likelihoods import Likelihood
from bnn_jax.transforms import BayesianModel


def check(
    config: Config,
    method: Method,
    model: BayesianModel,
    likelihood: Likelihood,
    examples: Images | Points | Arrays,
) -> None:
    """Checks that the method fits the network, the prior and the number of steps.

    Raises:
        RunError: it does not.
    """
    if method.whole_data and examples.stream is not None:
        raise RunError(
            f"inference.name {method.name} takes all examples in each step, and data.stream reads "
            "them in batches: choose another method, or set data.stream=false."
        )
    batch_size = examples.num_train if method.whole_data else config.training.batch_size
    num_steps = config.training.epochs * (examples.num_train // batch_size)
    modes = modes_of(model)
    try:
        method.build(
            Problem(
                model,
                modes.forward,
                likelihood,
                num_data=examples.num_train,
                num_steps=num_steps,
                evaluation=modes.noiseless_forward,
                inputs=shapes.of(jnp.asarray(examples.train[0][:1]), batch_size),
            )
        )
    except (TypeError, ValueError) as error:
        raise RunError(f"inference: {one_line(error)}") from error
