"""Errors of wrong calls of a Bayesian model, and copies of it by pickle."""

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bnn_jax import to_bnn
from bnn_jax.transforms import BayesianModel
from bnn_jax.transforms.call_arguments import check_arguments

X = jnp.ones((4, 6))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(2, name="head")(nn.Dense(5, name="first")(x))


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(6, 5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.head = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.drop(self.first(x)))


def function(params: Any, x: Any) -> Any:
    return x @ params["w"]


MODELS = {
    "linen": lambda: to_bnn(LinenNet(), LinenNet().init(jax.random.key(0), X)),
    "nnx": lambda: to_bnn(NnxNet(nnx.Rngs(0))),
    "function": lambda: to_bnn(function, {"w": jnp.ones((6, 2))}),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> BayesianModel:
    return MODELS[request.param]()


@pytest.mark.parametrize("key", [None, 0])
def test_a_key_that_is_no_key_is_named(key: Any) -> None:
    with pytest.raises(TypeError, match=f"key must be a JAX key.*, got {key}"):
        check_arguments(key, {"w": X}, {"w": X})


def test_a_forgotten_posterior_is_named(model: BayesianModel) -> None:
    with pytest.raises(TypeError, match=r"got an array of shape \(4, 6\): call model.apply\(key"):
        model.apply(jax.random.key(0), X)


def test_a_model_is_not_called_itself(model: BayesianModel) -> None:
    with pytest.raises(TypeError, match=r"model.forward\(\)"):
        model(jax.random.key(0), X)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_wrong_input_width_names_the_layer(kind: str) -> None:
    model = MODELS[kind]()
    with pytest.raises(ValueError, match=r"'first' .* width 6 .*shape \(4, 7\), of width 7"):
        model.mean_apply(model.posterior, jnp.ones((4, 7)))
    with pytest.raises(ValueError, match=r"'first' .* width 6"):
        model.apply(jax.random.key(0), model.posterior, jnp.ones((4, 7)))


def test_a_model_can_be_pickled(model: BayesianModel) -> None:
    copy = pickle.loads(pickle.dumps(model))
    outputs = (m.mean_apply(m.posterior, X) for m in (model, copy))
    np.testing.assert_array_equal(*outputs)
