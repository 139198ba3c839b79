"""`ConvReparam`: a 2-d convolution with a Gaussian kernel."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, DTypeLike, Num

from bnn_jax.bnn_layers import _arguments, _forward
from bnn_jax.bnn_layers.layer import BayesianLayer, PosteriorSource, PriorSource, RngSource
from bnn_jax.bnn_layers.layer_distribution import NormalPrior, normal_post_fn


class ConvReparam(BayesianLayer):
    """conv(x, W) + b, with one sample of W and b per call for all examples. NHWC, HWIO.

    Source: Kingma, Welling 2014, arXiv:1312.6114 (reparameterisation); Blundell et al. 2015,
    arXiv:1505.05424 (reparameterisation of weights).

    Args:
        in_channels: the number of channels of the input (its last axis).
        out_channels: the number of channels of the output.
        kernel_size: an int, or (height, width).
        stride: an int, or (height, width).
        pad_mode: "same" (output is input / stride, rounded up; an odd pixel goes to the bottom and
            the right), "valid" (no padding) or "pad" (explicit `padding`).
        padding: with pad_mode="pad", an int, or (top, bottom, left, right).
        dilation: an int, or (height, width).
        group: the number of groups into which the channels are split.
        has_bias: add a random bias.
        weight_prior_fn: a prior, or a class or function that returns one; see `bnn_jax.priors`.
        weight_posterior_fn: a function of name= and shape= that returns a `NormalPosterior`; shape
            is (height, width, in_channels // group, out_channels).
        bias_prior_fn: as weight_prior_fn, for the bias.
        bias_posterior_fn: as weight_posterior_fn, with shape (out_channels,).
        deterministic: use the mean of W and b. `model.eval()` sets it to True.
        dtype: the dtype of the computation; by default, the dtype to which x and W are promoted.
            The dtypes of the noise and of the parameters do not change.
        param_dtype: the dtype of the parameters; by default that of the posterior (float32).
        precision: the precision of the convolution, as in `jax.lax`.
        rng_collection: the name of the stream of rngs from which the noise is drawn.
        rngs: draws the initial parameters (stream `params`) and seeds the layer's own noise stream.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
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
        weight_prior_fn: PriorSource = NormalPrior,
        weight_posterior_fn: PosteriorSource = normal_post_fn,
        bias_prior_fn: PriorSource = NormalPrior,
        bias_posterior_fn: PosteriorSource = normal_post_fn,
        *,
        deterministic: bool | None = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        precision: lax.PrecisionLike = None,
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
        """Returns the output of the layer.

        Args:
            x: images, channels last; any number of leading axes.
            deterministic: overrides the layer's own setting.
            rngs: an nnx.Rngs, a stream or a key, used instead of the layer's own stream.
        """
        x = jnp.asarray(x)
        if x.ndim < 3 or x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__}: x must be images of shape (batch, height, width, "
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
