"""`ConvReparam`: a 2-d convolution with a Gaussian kernel."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Num

from bnn_jax.bnn_layers import _arguments, _forward
from bnn_jax.bnn_layers.layer import BayesianLayer, RngSource
from bnn_jax.bnn_layers.layer_distribution import NormalPrior, normal_post_fn


class ConvReparam(BayesianLayer):
    """conv(x, W) + b with one draw of W and b per call, shared by all examples. NHWC, HWIO.

    Source: Kingma, Welling 2014, arXiv:1312.6114 (the reparameterisation); Blundell et al. 2015,
    arXiv:1505.05424 (of weights).

    Args:
        in_channels: channels of the input (its last axis).
        out_channels: channels of the output.
        kernel_size: an int, or (height, width).
        stride: an int, or (height, width).
        pad_mode: "same" (output is input / stride, rounded up; an odd pixel goes to the bottom and
            the right), "valid" (no padding) or "pad" (by `padding`).
        padding: with pad_mode="pad", an int, or (top, bottom, left, right).
        dilation: an int, or (height, width).
        group: into how many groups the channels are split.
        has_bias: add a random bias.
        weight_prior_fn: a prior, or a class or function that returns one; any of `bnn_jax.priors`.
        weight_posterior_fn: a function of name= and shape= that returns a `NormalPosterior`; shape
            is (height, width, in_channels // group, out_channels).
        bias_prior_fn: as weight_prior_fn, for the bias.
        bias_posterior_fn: as weight_posterior_fn, with shape (out_channels,).
        deterministic: use the mean of W and b. `model.eval()` sets it.
        dtype: the dtype to compute in; by default that of x and W together. Noise and parameters
            keep theirs.
        param_dtype: the parameters' dtype, instead of the posterior's own (float32).
        precision: of the convolution, as in `jax.lax`.
        rng_collection: the stream of rngs that the noise is drawn from.
        rngs: initialises the parameters (stream `params`) and gives the layer its own noise.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        pad_mode: str = "same",
        padding: int | tuple[int, int, int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        group: int = 1,
        has_bias: bool = False,
        weight_prior_fn: Any = NormalPrior,
        weight_posterior_fn: Any = normal_post_fn,
        bias_prior_fn: Any = NormalPrior,
        bias_posterior_fn: Any = normal_post_fn,
        *,
        deterministic: bool | None = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        precision: Any = None,
        rng_collection: str = "noise",
        rngs: nnx.Rngs | nnx.RngStream,
    ) -> None:
        layer = type(self).__name__
        self.in_channels = _arguments.positive_int(layer, "in_channels", in_channels)
        self.out_channels = _arguments.positive_int(layer, "out_channels", out_channels)
        self.kernel_size = _arguments.pair(layer, "kernel_size", kernel_size)
        self.stride = _arguments.pair(layer, "stride", stride)
        self.pad_mode = pad_mode
        self.padding = _arguments.padding(layer, pad_mode, padding)
        self.dilation = _arguments.pair(layer, "dilation", dilation)
        self.group = _arguments.groups(layer, in_channels, out_channels, group)
        self._setup(
            (*self.kernel_size, in_channels // group, out_channels),
            _arguments.boolean(layer, "has_bias", has_bias),
            (weight_prior_fn, weight_posterior_fn),
            (bias_prior_fn, bias_posterior_fn),
            deterministic=deterministic,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rng_collection=rng_collection,
            rngs=rngs,
        )

    def __call__(
        self,
        x: Num[Array, "*batch height width in"],
        *,
        deterministic: bool | None = None,
        rngs: RngSource | None = None,
    ) -> Num[Array, "*batch new_height new_width out"]:
        """Apply the layer.

        Args:
            x: images, channels last; any number of leading axes.
            deterministic: instead of the layer's own setting.
            rngs: an nnx.Rngs, a stream or a key, instead of the layer's own.
        """
        x = jnp.asarray(x)
        if x.ndim < 3 or x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} needs images of shape (batch, height, width, "
                f"{self.in_channels}), channels last, got {x.shape}."
            )
        weight_key, bias_key = _forward.split(self._key(deterministic, rngs))
        y = _forward.conv(
            weight_key,
            self.weight_posterior.gaussian,
            x,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            group=self.group,
            dtype=self.dtype,
            precision=self.precision,
        )
        return _forward.add_bias(bias_key, self.bias_posterior.gaussian, y) if self.has_bias else y
