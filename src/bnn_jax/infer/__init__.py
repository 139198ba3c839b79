"""Variational inference of latent variables: the loss, and the loop that minimises it."""

from bnn_jax.infer.elbo import ELBO as ELBO
from bnn_jax.infer.loss_cell import WithLossCell as WithLossCell
from bnn_jax.infer.svi import SVI as SVI
