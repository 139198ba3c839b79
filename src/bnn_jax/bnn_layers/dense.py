"""Dense layers with a Gaussian weight: `DenseReparam` and `DenseLocalReparam`."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, ArrayLike, DTypeLike, Num

from bnn_jax.bnn_layers import _arguments, _forward
from bnn_jax.bnn_layers._activations import Activation, get_activation
from bnn_jax.bnn_layers.layer import BayesianLayer, PosteriorSource, PriorSource, RngSource
from bnn_jax.bnn_layers.layer_distribution import NormalPrior, normal_post_fn
from bnn_jax.noise import PRNGKey


class DenseReparam(BayesianLayer):
    """activation(x W + b), with one sample of W and b per call for all examples.

    Source: Kingma, Welling 2014, arXiv:1312.6114 (reparameterisation); Blundell et al. 2015,
    arXiv:1505.05424 (reparameterisation of weights).

    Args:
        in_channels: the size of the input's last axis.
        out_channels: the size of the output's last axis.
        activation: one of MindSpore's names ("relu", "gelu", ...), a function, a module or None.
        has_bias: add a random bias. The default is True, as in MindSpore's code; MindSpore's
            documentation states False.
        weight_prior_fn: a prior, or a class or function that returns one; see `bnn_jax.priors`.
        weight_posterior_fn: a function of name= and shape= that returns a `NormalPosterior`; shape
            is (in_channels, out_channels).
        bias_prior_fn: as weight_prior_fn, for the bias.
        bias_posterior_fn: as weight_posterior_fn, with shape (out_channels,).
        deterministic: use the mean of W and b. `model.eval()` sets it to True.
        dtype: the dtype of the computation; by default, the dtype to which x and W are promoted.
            The dtypes of the noise and of the parameters do not change.
        param_dtype: the dtype of the parameters; by default that of the posterior (float32).
        precision: the precision of the product, as in `jax.lax`.
        rng_collection: the name of the stream of rngs from which the noise is drawn.
        rngs: draws the initial parameters (stream `params`) and seeds the layer's own noise stream.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or an activation is unknown (also a KeyError).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: str | Activation | None = None,
        has_bias: bool = True,
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
        """Returns the output of the layer.

        Args:
            x: the input, with any number of leading axes.
            deterministic: overrides the layer's own setting.
            rngs: an nnx.Rngs, a stream or a key, used instead of the layer's own stream.
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

    def _checked(self, x: ArrayLike) -> Array:
        x = jnp.asarray(x)
        if x.ndim == 0 or x.shape[-1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__}: x must have the shape (..., {self.in_channels}), "
                f"got {x.shape}."
            )
        return x


class DenseLocalReparam(DenseReparam):
    """activation(y + b), with y sampled from the Gaussian distribution of x W for each example.

    For inputs of shape (batch, in), the output of each example has the same distribution as in
    `DenseReparam`, and the gradients have less variance. The bias is sampled once per call, as in
    MindSpore.

    Source: Kingma, Salimans, Welling 2015, arXiv:1506.02557.

    Args:
        approximate: allow inputs of rank 3 and more. The positions of an example share W, but
            their outputs are sampled independently: the distribution of each output is correct,
            but that of sums over positions is not.
        Others: as in `DenseReparam`, in the same order.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: str | Activation | None = None,
        has_bias: bool = True,
        weight_prior_fn: PriorSource = NormalPrior,
        weight_posterior_fn: PosteriorSource = normal_post_fn,
        bias_prior_fn: PriorSource = NormalPrior,
        bias_posterior_fn: PosteriorSource = normal_post_fn,
        *,
        approximate: bool = False,
        deterministic: bool | None = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        precision: lax.PrecisionLike = None,
        rng_collection: str = "noise",
        rngs: nnx.Rngs | nnx.RngStream,
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
            deterministic=deterministic,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rng_collection=rng_collection,
            rngs=rngs,
        )
        self.approximate = _arguments.boolean(type(self).__name__, "approximate", approximate)

    def _linear(self, key: PRNGKey | None, x: Array) -> Array:
        weight = self.weight_posterior.gaussian
        return _forward.dense_local(key, weight, x, self.dtype, self.precision)

    def _checked(self, x: ArrayLike) -> Array:
        x = super()._checked(x)
        _forward.require_one_use(type(self).__name__, x, self.approximate)
        return x
