"""Bayesian neural networks on JAX: any Flax network with random variables as its weights.

Names are imported when they are first used, so `import bnn_jax` imports no part of the package.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnn_jax import bnn_layers as bnn_layers
    from bnn_jax import config as config
    from bnn_jax import data as data
    from bnn_jax import distributions as distributions
    from bnn_jax import dpn as dpn
    from bnn_jax import experiment as experiment
    from bnn_jax import functional as functional
    from bnn_jax import gaussian as gaussian
    from bnn_jax import infer as infer
    from bnn_jax import likelihoods as likelihoods
    from bnn_jax import mindspore as mindspore
    from bnn_jax import models as models
    from bnn_jax import noise as noise
    from bnn_jax import objective as objective
    from bnn_jax import optimizers as optimizers
    from bnn_jax import posteriors as posteriors
    from bnn_jax import priors as priors
    from bnn_jax import report as report
    from bnn_jax import toolbox as toolbox
    from bnn_jax import train as train
    from bnn_jax import transforms as transforms
    from bnn_jax.gaussian import Gaussian as Gaussian
    from bnn_jax.interpreter import estimators as estimators
    from bnn_jax.predictive import predict as predict
    from bnn_jax.priors import LaplacePrior as LaplacePrior
    from bnn_jax.priors import NormalPrior as NormalPrior
    from bnn_jax.priors import ScaleMixturePrior as ScaleMixturePrior
    from bnn_jax.priors import StudentTPrior as StudentTPrior
    from bnn_jax.priors import kl_by_layer as kl_by_layer
    from bnn_jax.priors import kl_divergence as kl_divergence
    from bnn_jax.transforms import BayesianModel as BayesianModel
    from bnn_jax.transforms import to_bnn as to_bnn

_MODULES = (
    "bnn_layers",
    "config",
    "data",
    "distributions",
    "dpn",
    "experiment",
    "functional",
    "gaussian",
    "infer",
    "likelihoods",
    "mindspore",
    "models",
    "noise",
    "objective",
    "optimizers",
    "posteriors",
    "priors",
    "report",
    "toolbox",
    "train",
    "transforms",
)

# Where the other public names come from.
_NAMES = {
    "BayesianModel": "transforms",
    "Gaussian": "gaussian",
    "LaplacePrior": "priors",
    "NormalPrior": "priors",
    "ScaleMixturePrior": "priors",
    "StudentTPrior": "priors",
    "estimators": "interpreter",
    "kl_by_layer": "priors",
    "kl_divergence": "priors",
    "predict": "predictive",
    "to_bnn": "transforms",
}

try:
    __version__ = version("bnn-jax")
except PackageNotFoundError:  # a source tree that is on the path, and not installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"bnn_jax.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'bnn_jax' has no attribute {name!r}")
    home = importlib.import_module(f"bnn_jax.{_NAMES[name]}")
    value = globals()[name] = (
        getattr(home, name)
        if hasattr(home, name)
        else importlib.import_module(f"{home.__name__}.{name}")
    )
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_NAMES})
