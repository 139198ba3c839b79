"""Evaluation of jaxprs with random weights and antithetic pairs. Only this folder reads jaxprs."""

from bnn_jax.interpreter.linear_maps import linear_map as linear_map
