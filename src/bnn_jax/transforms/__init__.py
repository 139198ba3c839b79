"""From an ordinary network to a Bayesian one, and back."""

from bnn_jax.transforms.bayesian_model import BayesianModel as BayesianModel
from bnn_jax.transforms.to_bnn import to_bnn as to_bnn
