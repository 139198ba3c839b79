"""Deterministic Flax networks for examples, configs and benchmarks."""

from bnn_jax.models.banded_conv import banded_conv as banded_conv
from bnn_jax.models.networks import MLP as MLP
from bnn_jax.models.networks import LeNet5 as LeNet5
