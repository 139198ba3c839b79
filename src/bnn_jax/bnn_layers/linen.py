"""The Bayesian layers for linen.

The parameters `kernel` and `bias` are `Gaussian` leaves of the params tree, so the functions of the
core sample and train them. The priors are arguments of `priors.kl_divergence(params, prior)`, not
of the layers. The noise comes from the rng stream `noise`:

    variables = model.init(key, x)  # uses the means and requires no noise
    y = model.apply(variables, x, rngs={"noise": key})

`model.apply` also accepts a tree of arrays (`gaussian.sample`, `gaussian.mean`): a weight that is
an array is used unchanged.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, DTypeLike, Num

from bnn_jax.bnn_layers import _arguments, _forward
from bnn_jax.bnn_layers._activations import Activation, get_activation
from bnn_jax.bnn_layers._functions import check_posterior
from bnn_jax.bnn_layers.layer import PosteriorSource
from bnn_jax.bnn_layers.layer_distribution import normal_post_fn
from bnn_jax.gaussian import Gaussian
from bnn_jax.noise import PRNGKey


class _LinenLayer(nn.Module):
    def _key(self, deterministic: bool | None) -> PRNGKey | None:
        chosen = self.deterministic if deterministic is None else deterministic
        return None if chosen or self.is_initializing() else self.make_rng("noise")

    def _weight(
        self, which: str, posterior_fn: PosteriorSource, shape: tuple[int, ...]
    ) -> Gaussian | Array:
        layer = type(self).__name__
        argument = f"{'weight' if which == 'kernel' else 'bias'}_posterior_fn"

        def init(key: PRNGKey) -> Gaussian:
            posterior = check_posterior(posterior_fn, layer, argument, which, shape)
            if posterior.is_materialised:
                return posterior.gaussian
            return posterior.init(key, self.param_dtype)

        return self.param(which, init)


class DenseReparam(_LinenLayer):
    """`bnn_layers.DenseReparam` for linen.

    The arguments are those of the NNX layer, without the priors. If in_channels is None, it is the
    size of the input's last axis.
    """

    in_channels: int | None
    out_channels: int
    activation: str | Activation | None = None
    has_bias: bool = True
    weight_posterior_fn: PosteriorSource = normal_post_fn
    bias_posterior_fn: PosteriorSource = normal_post_fn
    deterministic: bool = False
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike | None = None
    precision: lax.PrecisionLike = None

    @nn.compact
    def __call__(
        self, x: Num[Array, "*batch in"], deterministic: bool | None = None
    ) -> Num[Array, "*batch out"]:
        layer = type(self).__name__
        channels = _channels(layer, self.in_channels, x)
        out = _arguments.positive_int(layer, "out_channels", self.out_channels)
        activation = get_activation(layer, self.activation)
        weight = self._weight("kernel", self.weight_posterior_fn, (channels, out))
        weight_key, bias_key = _forward.split(self._key(deterministic))
        y = self._linear(weight_key, weight, x)
        if _arguments.boolean(layer, "has_bias", self.has_bias):
            y = _forward.add_bias(bias_key, self._weight("bias", self.bias_posterior_fn, (out,)), y)
        return y if activation is None else activation(y)

    def _linear(self, key: PRNGKey | None, weight: Gaussian | Array, x: Array) -> Array:
        return _forward.dense(key, weight, x, self.dtype, self.precision)


class DenseLocalReparam(DenseReparam):
    """`bnn_layers.DenseLocalReparam` for linen, with the arguments of `DenseReparam`."""

    approximate: bool = False

    def _linear(self, key: PRNGKey | None, weight: Gaussian | Array, x: Array) -> Array:
        _forward.require_one_use(type(self).__name__, x, self.approximate)
        return _forward.dense_local(key, weight, x, self.dtype, self.precision)


class ConvReparam(_LinenLayer):
    """`bnn_layers.ConvReparam` for linen.

    The arguments are those of the NNX layer, without the priors. If in_channels is None, it is the
    size of the input's last axis.
    """

    in_channels: int | None
    out_channels: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    pad_mode: str = "same"
    padding: int | tuple[int, int, int, int] = 0
    dilation: int | tuple[int, int] = 1
    group: int = 1
    has_bias: bool = False
    weight_posterior_fn: PosteriorSource = normal_post_fn
    bias_posterior_fn: PosteriorSource = normal_post_fn
    deterministic: bool = False
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike | None = None
    precision: lax.PrecisionLike = None

    @nn.compact
    def __call__(
        self, x: Num[Array, "*batch height width in"], deterministic: bool | None = None
    ) -> Num[Array, "*batch new_height new_width out"]:
        layer = type(self).__name__
        channels = _channels(layer, self.in_channels, x)
        out = _arguments.positive_int(layer, "out_channels", self.out_channels)
        group = _arguments.groups(layer, channels, out, self.group)
        size = _arguments.pair(layer, "kernel_size", self.kernel_size)
        shape = (*size, channels // group, out)
        weight = self._weight("kernel", self.weight_posterior_fn, shape)
        weight_key, bias_key = _forward.split(self._key(deterministic))
        y = _forward.conv(
            weight_key,
            weight,
            x,
            stride=_arguments.pair(layer, "stride", self.stride),
            padding=_arguments.padding(layer, self.pad_mode, self.padding),
            dilation=_arguments.pair(layer, "dilation", self.dilation),
            group=group,
            dtype=self.dtype,
            precision=self.precision,
        )
        if not _arguments.boolean(layer, "has_bias", self.has_bias):
            return y
        return _forward.add_bias(bias_key, self._weight("bias", self.bias_posterior_fn, (out,)), y)


def _channels(layer: str, in_channels: int | None, x: Array) -> int:
    if in_channels is None:
        return int(jnp.shape(x)[-1])
    if _arguments.positive_int(layer, "in_channels", in_channels) != jnp.shape(x)[-1]:
        raise ValueError(
            f"{layer} has in_channels={in_channels}, but the input's last axis is "
            f"{jnp.shape(x)[-1]}: its shape is {jnp.shape(x)}."
        )
    return in_channels
