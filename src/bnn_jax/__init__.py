"""Bayesian neural networks on JAX: any Flax network with random variables as its weights.

Public names are imported on first use (PEP 562), so `import bnn_jax` does not import JAX.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from bnn_jax._extras import optional_import

if TYPE_CHECKING:
    from bnn_jax import bnn_layers as bnn_layers
    from bnn_jax import compression as compression
    from bnn_jax import config as config
    from bnn_jax import data as data
    from bnn_jax import distributions as distributions
    from bnn_jax import dpn as dpn
    from bnn_jax import experiment as experiment
    from bnn_jax import export as export
    from bnn_jax import functional as functional
    from bnn_jax import gaussian as gaussian
    from bnn_jax import infer as infer
    from bnn_jax import likelihoods as likelihoods
    from bnn_jax import mindspore as mindspore
    from bnn_jax import models as models
    from bnn_jax import moments as moments
    from bnn_jax import noise as noise
    from bnn_jax import objective as objective
    from bnn_jax import optimizers as optimizers
    from bnn_jax import posteriors as posteriors
    from bnn_jax import predictive as predictive
    from bnn_jax import priors as priors
    from bnn_jax import report as report
    from bnn_jax import toolbox as toolbox
    from bnn_jax import train as train
    from bnn_jax import transforms as transforms
    from bnn_jax.fitting import Fit as Fit
    from bnn_jax.fitting import fit as fit
    from bnn_jax.gaussian import Gaussian as Gaussian
    from bnn_jax.interpreter import estimators as estimators
    from bnn_jax.interpreter import random_array as random_array
    from bnn_jax.predictive import predict as predict
    from bnn_jax.priors import LaplacePrior as LaplacePrior
    from bnn_jax.priors import NormalPrior as NormalPrior
    from bnn_jax.priors import ScaleMixturePrior as ScaleMixturePrior
    from bnn_jax.priors import StudentTPrior as StudentTPrior
    from bnn_jax.priors import kl_by_layer as kl_by_layer
    from bnn_jax.priors import kl_divergence as kl_divergence
    from bnn_jax.transforms import BayesianModel as BayesianModel
    from bnn_jax.transforms import to_bnn as to_bnn

# Where each public name is defined: a module of its own name, or a name in a module.
_HOMES = {
    "BayesianModel": "transforms",
    "Fit": "fitting",
    "Gaussian": "gaussian",
    "LaplacePrior": "priors",
    "NormalPrior": "priors",
    "ScaleMixturePrior": "priors",
    "StudentTPrior": "priors",
    "bnn_layers": "bnn_layers",
    "compression": "compression",
    "config": "config",
    "data": "data",
    "distributions": "distributions",
    "dpn": "dpn",
    "estimators": "interpreter.estimators",
    "experiment": "experiment",
    "export": "export",
    "fit": "fitting",
    "functional": "functional",
    "gaussian": "gaussian",
    "infer": "infer",
    "kl_by_layer": "priors",
    "kl_divergence": "priors",
    "likelihoods": "likelihoods",
    "mindspore": "mindspore",
    "models": "models",
    "moments": "moments",
    "noise": "noise",
    "objective": "objective",
    "optimizers": "optimizers",
    "posteriors": "posteriors",
    "predict": "predictive",
    "predictive": "predictive",
    "priors": "priors",
    "random_array": "interpreter.random_array",
    "report": "report",
    "to_bnn": "transforms",
    "toolbox": "toolbox",
    "train": "train",
    "transforms": "transforms",
}

try:
    __version__ = version("bnn-jax")
except PackageNotFoundError:  # on the path without being installed
    __version__ = "unknown"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'bnn_jax' has no attribute {name!r}")
    home = _HOMES[name]
    with optional_import(f"bnn_jax.{name}"):
        module = import_module(f"bnn_jax.{home}")
    value = module if home.rpartition(".")[2] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
