"""Bayesian neural networks on JAX: any Flax network with random variables as its weights."""

from bnn_jax.gaussian import Gaussian as Gaussian
from bnn_jax.priors import LaplacePrior as LaplacePrior
from bnn_jax.priors import NormalPrior as NormalPrior
from bnn_jax.priors import ScaleMixturePrior as ScaleMixturePrior
from bnn_jax.priors import StudentTPrior as StudentTPrior
from bnn_jax.priors import kl_by_layer as kl_by_layer
from bnn_jax.priors import kl_divergence as kl_divergence
from bnn_jax.transforms import BayesianModel as BayesianModel
from bnn_jax.transforms import to_bnn as to_bnn
