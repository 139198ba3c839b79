"""Dense layers with a Gaussian weight: `DenseReparam` and `DenseLocalReparam`."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Num

from bnn_jax.bnn_layers import _arguments, _forward
from bnn_jax.bnn_layers._activations import get_activation
from bnn_jax.bnn_layers.layer import BayesianLayer, RngSource
from bnn_jax.bnn_layers.layer_distribution import NormalPrior, normal_post_fn
from bnn_jax.noise import PRNGKey


class DenseReparam(BayesianLayer):
    """activation(x W + b) with one draw of W and b per call, shared by all examples.

    Source: Kingma, Welling 2014, arXiv:1312.6114 (the reparameterisation); Blundell et al. 2015,
    arXiv:1505.05424 (of weights).

    Args:
        in_channels: the size of the input's last axis.
        out_channels: the size of the output's last axis.
        activation: a name that MindSpore knows ("relu", "gelu", ...), a function, a module or None.
        has_bias: add a random bias. (True, though MindSpore's documentation says False.)
        weight_prior_fn: a prior, or a class or function that returns one; any of `bnn_jax.priors`.
        weight_posterior_fn: a function of name= and shape= that returns a `NormalPosterior`; shape
            is (in_channels, out_channels).
        bias_prior_fn: as weight_prior_fn, for the bias.
        bias_posterior_fn: as weight_posterior_fn, with shape (out_channels,).
        deterministic: use the mean of W and b. `model.eval()` sets it.
        dtype: the dtype to compute in; by default that of x and W together. Noise and parameters
            keep theirs.
        param_dtype: the parameters' dtype, instead of the posterior's own (float32).
        precision: of the product, as in `jax.lax`.
        rng_collection: the stream of rngs that the noise is drawn from.
        rngs: initialises the parameters (stream `params`) and gives the layer its own noise.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range, or an unknown activation (then also a KeyError).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: Any = None,
        has_bias: bool = True,
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
        self.activation = get_activation(layer, activation)
        self._setup(
            (in_channels, out_channels),
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
        x: Num[Array, "*batch in"],
        *,
        deterministic: bool | None = None,
        rngs: RngSource | None = None,
    ) -> Num[Array, "*batch out"]:
        """Apply the layer.

        Args:
            x: the input, any number of leading axes.
            deterministic: instead of the layer's own setting.
            rngs: an nnx.Rngs, a stream or a key, instead of the layer's own.
        """
        x = self._checked(x)
        weight_key, bias_key = _forward.split(self._key(deterministic, rngs))
        y = self._linear(weight_key, x)
        if self.has_bias:
            y = _forward.add_bias(bias_key, self.bias_posterior.gaussian, y)
        return y if self.activation is None else self.activation(y)

    def _linear(self, key: PRNGKey | None, x: Array) -> Array:
        weight = self.weight_posterior.gaussian
        return _forward.dense(key, weight, x, self.dtype, self.precision)

    def _checked(self, x: Any) -> Array:
        x = jnp.asarray(x)
        if x.ndim == 0 or x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} needs an input of shape (..., {self.in_channels}), "
                f"got {x.shape}."
            )
        return x


class DenseLocalReparam(DenseReparam):
    """activation(y + b) with y drawn from the Gaussian law of x W, for each example apart.

    Same law as `DenseReparam` where each example meets W once, that is for inputs of shape
    (batch, in), with less variance in the gradients. The bias is one draw per call, as MindSpore's.

    Source: Kingma, Salimans, Welling 2015, arXiv:1506.02557.

    Args:
        *args: those of `DenseReparam`, in its order.
        approximate: allow inputs of rank 3 and more. There the positions of an example share W,
            but their outputs are drawn independently: the distribution of each output is correct,
            that of sums over positions is not.
        **options: the keyword-only arguments of `DenseReparam`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: Any = None,
        has_bias: bool = True,
        weight_prior_fn: Any = NormalPrior,
        weight_posterior_fn: Any = normal_post_fn,
        bias_prior_fn: Any = NormalPrior,
        bias_posterior_fn: Any = normal_post_fn,
        *,
        approximate: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            activation,
            has_bias,
            weight_prior_fn,
            weight_posterior_fn,
            bias_prior_fn,
            bias_posterior_fn,
            **options,
        )
        self.approximate = _arguments.boolean(type(self).__name__, "approximate", approximate)

    def _linear(self, key: PRNGKey | None, x: Array) -> Array:
        weight = self.weight_posterior.gaussian
        return _forward.dense_local(key, weight, x, self.dtype, self.precision)

    def _checked(self, x: Any) -> Array:
        x = super()._checked(x)
        _forward.require_one_use(type(self).__name__, x, self.approximate)
        return x
