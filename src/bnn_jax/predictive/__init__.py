"""The posterior predictive: averages over weight samples, for any model and any likelihood."""

from bnn_jax.predictive.expectation import expected_log_prob as expected_log_prob
from bnn_jax.predictive.posterior_predictive import predict as predict
from bnn_jax.predictive.predictions import Classification as Classification
from bnn_jax.predictive.predictions import Regression as Regression
from bnn_jax.predictive.predictor import build as build
