"""Conversions of ordinary networks to Bayesian ones, and back."""

from bnn_jax.transforms.bayesian_model import BayesianModel as BayesianModel
from bnn_jax.transforms.conversion import to_bnn as to_bnn
from bnn_jax.transforms.conversion_report import ConversionReport as ConversionReport
from bnn_jax.transforms.train_cells import TrainOneStepCell as TrainOneStepCell
from bnn_jax.transforms.train_cells import WithLossCell as WithLossCell
from bnn_jax.transforms.transform_to_bnn import TransformToBNN as TransformToBNN
