"""Smaller posteriors: pruned weights, and numbers of fewer bits."""

from bnn_jax.compression.prune import Pruned as Pruned
from bnn_jax.compression.prune import prune as prune
from bnn_jax.compression.quantize import compress as compress
from bnn_jax.compression.quantize import decompress as decompress
from bnn_jax.compression.storage import load as load
from bnn_jax.compression.storage import num_bytes as num_bytes
from bnn_jax.compression.storage import save as save
