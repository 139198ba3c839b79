"""Networks as files that run without bnn_jax: a serialised program and its card in JSON."""

from bnn_jax.export.onnx_file import onnx as onnx
from bnn_jax.export.prepare import checked_folder as checked_folder
from bnn_jax.export.prepare import prepare as prepare
from bnn_jax.export.saved_model import savedmodel as savedmodel
from bnn_jax.export.stablehlo_file import stablehlo as stablehlo
