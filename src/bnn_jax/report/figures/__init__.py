"""The figures of a report: arrays in, `matplotlib.figure.Figure` out. They need matplotlib."""

from bnn_jax.report.figures.gallery import PER_ROW as PER_ROW
from bnn_jax.report.figures.gallery import Row as Row
from bnn_jax.report.figures.gallery import gallery as gallery
from bnn_jax.report.figures.partial_dependence import class_dependence as class_dependence
from bnn_jax.report.figures.partial_dependence import partial_dependence as partial_dependence
from bnn_jax.report.figures.posterior_width import grouped as grouped
from bnn_jax.report.figures.posterior_width import posterior_width as posterior_width
from bnn_jax.report.figures.regression import function as function
from bnn_jax.report.figures.regression import observed as observed
from bnn_jax.report.figures.reliability import Calibration as Calibration
from bnn_jax.report.figures.reliability import reliability as reliability
from bnn_jax.report.figures.reliability import wilson as wilson
from bnn_jax.report.figures.residuals import predictive_intervals as predictive_intervals
from bnn_jax.report.figures.residuals import residuals as residuals
from bnn_jax.report.figures.risk_coverage import risk_coverage as risk_coverage
from bnn_jax.report.figures.rotation import rotation as rotation
from bnn_jax.report.figures.signal_to_noise import signal_to_noise as signal_to_noise
from bnn_jax.report.figures.training import training as training
from bnn_jax.report.figures.uncertainty import uncertainty as uncertainty
