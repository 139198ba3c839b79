"""The arguments: MindSpore's names, order and defaults, and a clear error for each misuse."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import nnx

from bnn_jax import bnn_layers, priors
from bnn_jax.bnn_layers import ConvReparam, DenseReparam, NormalPosterior, NormalPrior
from bnn_jax.bnn_layers._activations import ACTIVATIONS
from bnn_jax.bnn_layers.layer_distribution import normal_post_fn

FUNCTIONS = {
    "weight_prior_fn": NormalPrior,
    "weight_posterior_fn": normal_post_fn,
    "bias_prior_fn": NormalPrior,
    "bias_posterior_fn": normal_post_fn,
}
REQUIRED = inspect.Parameter.empty
CHANNELS = {"in_channels": REQUIRED, "out_channels": REQUIRED}
DENSE = {**CHANNELS, "activation": None, "has_bias": True, **FUNCTIONS}
SIGNATURES = {
    "DenseReparam": DENSE,
    "DenseLocalReparam": DENSE,
    "ConvReparam": {
        **CHANNELS,
        "kernel_size": REQUIRED,
        "stride": 1,
        "pad_mode": "same",
        "padding": 0,
        "dilation": 1,
        "group": 1,
        "has_bias": False,
        **FUNCTIONS,
    },
    "NormalPrior": {"dtype": jnp.float32, "mean": 0, "std": 0.1},
    "NormalPosterior": {
        "name": REQUIRED,
        "shape": REQUIRED,
        "dtype": jnp.float32,
        "loc_mean": 0,
        "loc_std": 0.1,
        "untransformed_scale_mean": -5,
        "untransformed_scale_std": 0.1,
    },
    "WithBNNLossCell": {
        "backbone": REQUIRED,
        "loss_fn": REQUIRED,
        "dnn_factor": 1,
        "bnn_factor": 1,
        "reverse_kl": False,
    },
}


@pytest.fixture(autouse=True)
def own_checks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run-time check of annotations would speak first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("name", SIGNATURES)
def test_names_order_and_defaults_are_mindspores(name: str) -> None:
    parameters = inspect.signature(getattr(bnn_layers, name).__init__).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    del positional["self"]
    assert list(positional.items()) == list(SIGNATURES[name].items())


def dense(*args: Any, **options: Any) -> DenseReparam:
    return DenseReparam(*(args or (3, 4)), **options, rngs=nnx.Rngs(0))


def conv(*args: Any, **options: Any) -> ConvReparam:
    return ConvReparam(*(args or (4, 8, 3)), **options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: dense(3.0, 4), TypeError, "in_channels"),
        (lambda: dense(True, 4), TypeError, "in_channels"),
        (lambda: dense(3, 0), ValueError, "out_channels must be at least 1, got 0"),
        (lambda: dense(has_bias=1), TypeError, "has_bias"),
        (lambda: dense(activation="rely"), KeyError, "Did you mean 'relu'"),
        (lambda: dense(activation="rely"), ValueError, "Known: elu"),
        (lambda: dense(activation="rrelu"), ValueError, "random"),
        (lambda: dense(activation=3), ValueError, "activation"),
        (lambda: dense(activation=nnx.PReLU), ValueError, "pass an instance"),
        (lambda: dense(weight_prior_fn=3), TypeError, "weight_prior_fn"),
        (
            lambda: dense(weight_prior_fn=lambda: 3),
            TypeError,
            "weight_prior_fn must return a prior",
        ),
        (lambda: dense(bias_prior_fn=lambda: NormalPrior), TypeError, "bias_prior_fn"),
        (lambda: dense(bias_prior_fn=NormalPrior(mean="a")), TypeError, "must be a number"),
        (lambda: dense(weight_posterior_fn=3), TypeError, "weight_posterior_fn"),
        (lambda: dense(weight_posterior_fn=lambda: 3), TypeError, "name= and shape="),
        (lambda: dense(bias_posterior_fn=lambda name, shape: 3), TypeError, "returned 3"),
        (
            lambda: dense(bias_posterior_fn=lambda name, shape: NormalPosterior(name, (9,))),
            ValueError,
            r"\(9,\)",
        ),
        (lambda: DenseReparam(3, 4, rngs=3), TypeError, "rngs"),
        (lambda: DenseReparam(3, 4), TypeError, "rngs"),
        (lambda: conv(4, 8, 0), ValueError, "kernel_size"),
        (lambda: conv(4, 8, 2.5), TypeError, "kernel_size"),
        (lambda: conv(4, 8, (3, 3, 3)), ValueError, "kernel_size"),
        (lambda: conv(stride=(1, 0)), ValueError, "stride"),
        (lambda: conv(dilation="2"), TypeError, "dilation"),
        (lambda: conv(pad_mode="SAME"), ValueError, "'same', 'valid' or 'pad', got 'SAME'"),
        (lambda: conv(padding=1), ValueError, "pad_mode='pad'"),
        (lambda: conv(pad_mode="pad", padding=-1), ValueError, "padding must be at least 0"),
        (lambda: conv(pad_mode="pad", padding=(1, 2)), ValueError, "top, bottom, left, right"),
        (lambda: conv(pad_mode="pad", padding=(1, 2, 3, 0.5)), TypeError, "padding"),
        (lambda: conv(group=3), ValueError, "in_channels must be divisible by group=3, got 4"),
        (lambda: conv(4, 6, 3, group=4), ValueError, "out_channels must be divisible"),
        (lambda: conv(group=0), ValueError, "group must be at least 1"),
        (lambda: dense()(jnp.ones((2, 5))), ValueError, r"\(\.\.\., 3\), got \(2, 5\)"),
        (lambda: conv()(jnp.ones((2, 4, 9, 9))), ValueError, "channels last"),
        (lambda: dense()(jnp.ones((2, 3)), rngs=3), TypeError, "rngs"),
        (lambda: NormalPrior(std=0), ValueError, "std must be positive"),
        (lambda: NormalPrior(0, 0.1), TypeError, "dtype"),
        (lambda: NormalPosterior(3, (2,)), TypeError, "name"),
        (lambda: NormalPosterior("w", 3), TypeError, "shape"),
        (lambda: NormalPosterior("w", (2, 0)), ValueError, "shape"),
        (lambda: NormalPosterior("w", (2,), jnp.int32), TypeError, "dtype"),
        (lambda: NormalPosterior("w", (2,), loc_mean=True), TypeError, "loc_mean"),
        (lambda: NormalPosterior("w", (2,), loc_std=-1), TypeError, "loc_std"),
        (lambda: NormalPosterior("w", (2,), untransformed_scale_mean="a"), TypeError, "scale_mean"),
        (lambda: NormalPosterior("w", (2,), untransformed_scale_std=-1), TypeError, "scale_std"),
        (lambda: NormalPosterior("w", (2,)).gaussian, ValueError, "no values yet"),
    ],
)
def test_misuse(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_normal_prior_is_a_prior_and_a_pytree() -> None:
    prior = NormalPrior(mean=0.5, std=2)
    assert isinstance(prior, priors.Prior)
    assert jax.tree.leaves(prior) == [0.5, 2]
    assert jax.tree.map(lambda x: x, prior) == prior
    w = jnp.linspace(-1.0, 1.0, 5)
    np.testing.assert_array_equal(prior.log_prob(w), priors.NormalPrior(0.5, 2).log_prob(w))
    keys = jax.random.split(jax.random.key(0))
    assert NormalPrior(jnp.bfloat16).sample(keys[0], (3,)).dtype == jnp.bfloat16
    assert prior.sample(keys[1], (3,)).dtype == jnp.float32


# The formulas of MindSpore's documentation, for those activations that have no golden numbers.
FORMULAS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "logsigmoid": lambda x: -np.log1p(np.exp(-x)),
    "tanhshrink": lambda x: x - np.tanh(x),
    "softshrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "hshrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "softmin": lambda x: np.exp(-x) / np.sum(np.exp(-x), axis=-1, keepdims=True),
    "softmax2d": lambda x: np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True),
    "prelu": lambda x: np.where(x > 0, x, 0.25 * x),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_that_have_no_golden_numbers(name: str) -> None:
    x = np.array([[-4, -0.3, 0.2, 5], [1, 0.5, -0.7, 0]])
    y = dense(activation=name).activation(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, FORMULAS[name](x), rtol=2e-5, atol=1e-7)


def test_activation_may_be_a_function_or_a_module() -> None:
    x = jnp.ones((2, 3))
    plain = dense()(x)
    np.testing.assert_array_equal(dense(activation=jnp.tanh)(x), jnp.tanh(plain))
    np.testing.assert_array_equal(dense(activation="")(x), plain)
    trained = dense(activation=nnx.PReLU(0.3))
    assert len(jax.tree.leaves(nnx.state(trained, nnx.Param))) == 5
    assert all(callable(function) for function in ACTIVATIONS.values())
