"""Bayesian layers as Flax NNX modules, with the names and arguments of MindSpore.

They can be mixed with ordinary layers; `WithBNNLossCell` adds their KL divergence to the loss.

    model = nnx.Sequential(
        bnn_layers.ConvReparam(1, 6, 5, pad_mode="valid", rngs=rngs), nnx.relu,
        lambda x: x.reshape(len(x), -1),
        bnn_layers.DenseReparam(3456, 10, rngs=rngs),
    )

The array layouts are those of Flax: images are NHWC, convolution kernels HWIO, dense kernels
(in, out). `bnn_jax.bnn_layers.linen` has the same layers for linen. docs/mindspore.md lists the
differences from MindSpore.
"""

from bnn_jax.bnn_layers.conv import ConvReparam as ConvReparam
from bnn_jax.bnn_layers.dense import DenseLocalReparam as DenseLocalReparam
from bnn_jax.bnn_layers.dense import DenseReparam as DenseReparam
from bnn_jax.bnn_layers.layer import BayesianLayer as BayesianLayer
from bnn_jax.bnn_layers.layer import kl_by_layer as kl_by_layer
from bnn_jax.bnn_layers.layer_distribution import NormalPosterior as NormalPosterior
from bnn_jax.bnn_layers.layer_distribution import NormalPrior as NormalPrior
from bnn_jax.bnn_layers.layer_distribution import normal_post_fn as normal_post_fn
from bnn_jax.bnn_layers.loss import WithBNNLossCell as WithBNNLossCell
