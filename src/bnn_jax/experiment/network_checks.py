"""Checks that a network fits the data, before anything is compiled or written.

The network is traced on one example: it must accept the inputs, and the likelihood must be able to
score its outputs against the targets.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bnn_jax import gaussian, moments
from bnn_jax.config import own
from bnn_jax.config.schema import Model
from bnn_jax.config.types import Estimator
from bnn_jax.data.errors import one_line
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.likelihoods import Likelihood
from bnn_jax.models.names import KINDS
from bnn_jax.networks import user_code
from bnn_jax.transforms import BayesianModel

Result = TypeVar("Result")
Examples = Images | Points | Arrays


def check_kind(settings: Model, examples: Examples) -> None:
    """Checks that a network by name takes inputs of the data's kind.

    Raises:
        RunError: it does not.
    """
    if isinstance(settings, own.FileNetwork | own.ImportedNetwork) or isinstance(examples, Points):
        return
    kind = "images" if isinstance(examples, Images) else examples.kind
    if kind not in KINDS[settings.name]:
        fitting = [name for name, kinds in KINDS.items() if kind in kinds]
        raise RunError(
            f"model.name {settings.name} takes {' or '.join(KINDS[settings.name])}, and the inputs "
            f"are {kind}: choose one of {', '.join(fitting)}, or set data.kind."
        )


def check_outputs(
    settings: Model,
    model: BayesianModel,
    likelihood: Likelihood,
    examples: Examples,
) -> None:
    """Checks that the likelihood can score what the network returns for one example.

    Raises:
        RunError: it cannot.
        UserCodeError: the user's network raises an exception.
    """
    inputs, targets = (jnp.asarray(part[:1]) for part in examples.train)
    weights = gaussian.mean(model.posterior)

    def outputs() -> PyTree:
        return jax.eval_shape(lambda x: model.network.call(weights, model.variables, x), inputs)

    found = called(settings, outputs)
    try:
        jax.eval_shape(likelihood.log_prob, found, targets)
    except (TypeError, ValueError) as error:
        message = " ".join(str(error).split())
        raise RunError(f"the outputs of the network do not fit the targets: {message}") from error


def check_rules(estimator: Estimator | None, model: BayesianModel, examples: Examples) -> None:
    """Checks that means and variances can be propagated if the estimator is moments.

    Raises:
        RunError: the network has an operation without a rule.
    """
    if estimator != "moments":
        return
    inputs = jnp.asarray(examples.train[0][:1])
    try:
        jax.eval_shape(lambda x: moments.outputs(model, model.posterior, x), inputs)
    except moments.MomentsError as error:
        place = f" ({error.place})" if error.place else ""
        raise RunError(
            f"estimator moments cannot be used: the operation {error.operation!r}{place} of the "
            "network has no rule for means and variances. Set estimator to flipout."
        ) from error


def called(settings: Model, function: Callable[[], Result]) -> Result:
    """Returns function(), which calls the network of the model section.

    Raises:
        UserCodeError: the network is the user's own and raised an exception; the message names the
            line of the user's file.
        RunError: a network by name does not take the inputs.
    """
    if not isinstance(settings, own.FileNetwork | own.ImportedNetwork):
        try:
            return function()
        except (TypeError, ValueError) as error:
            if isinstance(error, RunError):
                raise
            raise RunError(f"model.name {settings.name}: {one_line(error)}") from error
    try:
        return function()
    except RunError:
        raise
    except Exception as error:
        raised = error

    def again() -> Result:
        raise raised

    if isinstance(settings, own.FileNetwork):
        return user_code.call(user_code.import_file(settings.file), settings.name, again)
    module, _, name = settings.imported.partition(":")
    return user_code.call(user_code.import_module(module), name, again)
