"""Evaluation of uncertainty: functions of arrays, one file for each question."""

from bnn_jax.toolbox import calibration as calibration
from bnn_jax.toolbox import conformal as conformal
from bnn_jax.toolbox import intervals as intervals
from bnn_jax.toolbox import metrics as metrics
from bnn_jax.toolbox import out_of_distribution as out_of_distribution
from bnn_jax.toolbox import regression as regression
from bnn_jax.toolbox import selective as selective
from bnn_jax.toolbox import temperature as temperature
