"""Evaluation of uncertainty."""

from bnn_jax.toolbox import metrics as metrics
