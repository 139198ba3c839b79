"""Builds the objects of a run from its settings: network, likelihood, optimizer, step.

Settings that are valid but do not fit each other or the data are rejected here, before anything is
written.
"""

import dataclasses
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from bnn_jax import data, gaussian, infer, likelihoods, models, priors
from bnn_jax.config import data as data_sections
from bnn_jax.config import own, sections
from bnn_jax.config.schema import Config, Model
from bnn_jax.config.types import Estimator, estimator_of
from bnn_jax.devices import Placement
from bnn_jax.experiment import memory_check
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.fitting import Keys
from bnn_jax.infer.method import Method
from bnn_jax.likelihoods import Likelihood
from bnn_jax.models import MLP, LeNet5, banded_conv, stored_conv
from bnn_jax.networks.network import as_network
from bnn_jax.networks.user_file import load_network
from bnn_jax.noise import PRNGKey
from bnn_jax.transforms import BayesianModel, to_bnn


def build_network(
    settings: Model, *, num_outputs: int, dtype: str, seed: int
) -> nn.Module | nnx.Module:
    """Returns the Flax module of the model section.

    Raises:
        UserCodeError: the user's own network cannot be made.
        NetworkError: an argument does not fit the network.
    """
    if isinstance(settings, own.FileNetwork | own.ImportedNetwork):
        return _own_network(settings, num_outputs, seed)
    on_cpu = jax.default_backend() == "cpu"
    if isinstance(settings, own.NamedNetwork):
        faster = {"conv_general_dilated": stored_conv}
        extra = faster if on_cpu and settings.name == "resnet20" else {}
        return models.build(settings.name, num_outputs=num_outputs, **settings.args, **extra)
    if isinstance(settings, sections.MLP):
        return MLP(hidden=settings.hidden, num_outputs=num_outputs, dtype=jnp.dtype(dtype))
    # Convolutions as matrix products are faster on CPU.
    convolution = banded_conv if on_cpu else jax.lax.conv_general_dilated
    return LeNet5(num_classes=num_outputs, dtype=jnp.dtype(dtype), conv_general_dilated=convolution)


def _own_network(
    settings: own.FileNetwork | own.ImportedNetwork, num_outputs: int, seed: int
) -> nn.Module | nnx.Module:
    spec = settings.model_dump(mode="json", by_alias=True)
    names = ("num_outputs", "num_classes", "out_features")
    user = load_network(spec, seed=seed, offered=dict.fromkeys(names, num_outputs))
    return user.module


def num_outputs(likelihood: data_sections.Likelihood, examples: Images | Points | Arrays) -> int:
    """Returns the width of the network's last layer."""
    width = getattr(likelihood, "num_outputs", 1)
    if isinstance(examples, Images):
        return examples.num_classes
    if isinstance(examples, Arrays):
        return examples.num_outputs * width
    return width


def _variables(network: nn.Module, key: PRNGKey, example: Array) -> PyTree:
    """Returns the initial variables of a linen module, in evaluation mode."""
    _, options = as_network(network, {"params": {}}).in_mode(train=False)

    def init(init_key: PRNGKey, x: Array) -> PyTree:
        return nn.init(lambda module, inputs: module(inputs, **options), network)(init_key, x)

    return jax.jit(init)(key, example)


def variables_shapes(network: nn.Module | nnx.Module, examples: Images | Points | Arrays) -> PyTree:
    """Returns the shapes of a linen module's initial variables, which are not computed.

    Returns None for an NNX module, which has them.
    """
    if not isinstance(network, nn.Module):
        return None
    inputs = examples.train[0]
    example = jax.eval_shape(
        examples.as_inputs, jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    )
    return memory_check.shapes_of(partial(_variables, network), example)


def build_model(
    network: nn.Module | nnx.Module,
    example: Array,
    *,
    posterior: sections.Posterior,
    prior: priors.Prior,
    estimator: Estimator | None,
    seed: int,
) -> BayesianModel:
    """Returns the Bayesian network with its initial posterior.

    Args:
        network: the Flax module.
        example: an input of the network, which sets the shapes of the weights.
        posterior: the section of the settings.
        prior: of every random weight.
        estimator: one for all weights, or {pattern: estimator}; None for flipout. With moments the
            model has reparam, for the method draws no samples.
        seed: of the run.

    Raises:
        RunError: a pattern of posterior.where or of the estimator matches no weight.
    """
    init_key, posterior_key = jax.random.split(named_key(seed, "init"))
    variables = None
    if isinstance(network, nn.Module):
        variables = _variables(network, init_key, example)
    estimator = estimator or "flipout"
    where = posterior.where if isinstance(posterior.where, str) else list(posterior.where)
    try:
        model = to_bnn(network, variables, where=where, prior=prior)
    except ValueError as error:
        raise RunError(f"posterior.where: {error}") from error
    paths = gaussian.random_leaves(model.posterior)
    if isinstance(estimator, dict):
        for glob in estimator:
            if not any(fnmatchcase(path, glob) for path in paths):
                raise RunError(
                    f"estimator pattern {glob!r} matches no random weight: use one that matches "
                    f"some of {', '.join(paths)}."
                )
    return dataclasses.replace(
        model,
        posterior=initial_posterior(posterior, posterior_key, model.posterior),
        estimators={path: estimator_of(estimator, path) for path in paths},
        strict=isinstance(estimator, dict),
    )


def initial_posterior(settings: sections.Posterior, key: PRNGKey, posterior: PyTree) -> PyTree:
    """Returns the posterior with rho ~ N(rho_mean, rho_std).

    The means are those of the network's initializers, or ~ N(0, mean_std).
    """

    def start(leaf: PyTree, leaf_key: PRNGKey) -> PyTree:
        if not gaussian.is_gaussian(leaf):
            return leaf
        fresh = gaussian.init(
            leaf_key,
            leaf.shape,
            leaf.dtype,
            loc_std=settings.mean_std or 0.0,
            rho_mean=settings.rho_mean,
            rho_std=settings.rho_std,
        )
        mean = fresh.mean if settings.mean_init == "normal" else leaf.mean
        return gaussian.Gaussian(mean=mean, rho=fresh.rho)

    keys = gaussian.leaf_keys(key, posterior)
    return jax.tree.map(start, posterior, keys, is_leaf=gaussian.is_gaussian)


PRIORS: dict[str, Callable[..., priors.Prior]] = {
    "normal": priors.NormalPrior,
    "scale_mixture": priors.ScaleMixturePrior,
    "laplace": priors.LaplacePrior,
    "student_t": priors.StudentTPrior,
}


def build_prior(settings: sections.Prior) -> priors.Prior:
    """Returns the prior of the prior section."""
    return PRIORS[settings.name](**settings.model_dump(exclude={"name"}))


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "categorical": likelihoods.Categorical,
    "bernoulli": likelihoods.Bernoulli,
    "normal": likelihoods.Normal,
    "poisson": likelihoods.Poisson,
    "student_t": likelihoods.StudentT,
}


def build_likelihood(settings: data_sections.Likelihood) -> Likelihood:
    """Returns the likelihood of the likelihood section."""
    return LIKELIHOODS[settings.name](**settings.model_dump(exclude={"name"}))


def build_mesh(settings: sections.Training, method: Method) -> Mesh | None:
    """Returns the mesh of devices of the training section; None for one device.

    Raises:
        RunError: there are not so many devices, or they do not divide the members of an ensemble.
    """
    mesh = settings.devices if settings.mesh is None else settings.mesh.model_dump()
    try:
        placement = Placement.of(mesh)
        if isinstance(method, infer.ensemble):
            method.layout(placement)
    except ValueError as error:
        raise RunError(
            f"training.{'devices' if settings.mesh is None else 'mesh'}: {error}"
        ) from error
    return None if placement is None else placement.mesh


def on_these_devices(config: Config) -> Config:
    """Returns the settings for the evaluation of a trained run, on all devices if it used more."""
    mesh = config.training.mesh
    wanted = config.training.devices if mesh is None else mesh.data * mesh.samples
    if wanted == "all" or wanted <= len(jax.devices()):
        return config
    training = config.training.model_copy(update={"devices": "all", "mesh": None})
    return config.model_copy(update={"training": training})


PURPOSES = ("init", "noise", "batches", "evaluation", "baseline")


def augmentation(settings: data_sections.Data) -> Callable[[PRNGKey, Array], Array] | None:
    """Returns the random change of a batch of training images."""
    given = getattr(settings, "augment", None)
    if given is None:
        return None
    return partial(data.pad_crop_flip, padding=given.padding, flip=given.flip)


def keys_of(seed: int, *, baseline: bool = False) -> Keys:
    """Returns the keys of the fit of a run, or of its deterministic baseline."""
    return Keys(
        init=named_key(seed, "init"),
        noise=named_key(seed, "baseline" if baseline else "noise"),
        order=named_key(seed, "batches"),
        predict=named_key(seed, "evaluation"),
    )


def named_key(seed: int, purpose: str) -> PRNGKey:
    """Returns the run's key for one of `PURPOSES`."""
    return jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
