"""Deep probabilistic networks on Flax NNX: variational autoencoders, plain and conditional."""

from bnn_jax.dpn.conditional_vae import ConditionalVAE as ConditionalVAE
from bnn_jax.dpn.vae import VAE as VAE
