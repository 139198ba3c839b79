"""The only code that reads jaxprs: it runs networks on random weights and on antithetic pairs."""

from bnn_jax.interpreter.linear_maps import linear_map as linear_map
