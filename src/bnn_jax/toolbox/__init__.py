"""Metrics of predictions and their uncertainty, as functions of arrays; MindSpore's classes."""

from bnn_jax.toolbox import calibration as calibration
from bnn_jax.toolbox import conformal as conformal
from bnn_jax.toolbox import fidelity as fidelity
from bnn_jax.toolbox import intervals as intervals
from bnn_jax.toolbox import metrics as metrics
from bnn_jax.toolbox import out_of_distribution as out_of_distribution
from bnn_jax.toolbox import regression as regression
from bnn_jax.toolbox import selective as selective
from bnn_jax.toolbox import temperature as temperature
from bnn_jax.toolbox.anomaly_detection import VAEAnomalyDetection as VAEAnomalyDetection
from bnn_jax.toolbox.uncertainty_evaluation import UncertaintyEvaluation as UncertaintyEvaluation
