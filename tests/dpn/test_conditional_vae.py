"""The conditional VAE against NumPy, and its errors."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import nnx

from bnn_jax import mindspore
from bnn_jax.dpn import ConditionalVAE
from golden_data import inject
from vae_helpers import Decoder, Encoder, layer

X = jnp.asarray(np.random.default_rng(1).random((6, 4, 4, 1)), jnp.float32)
Y = jnp.asarray([2, 0, 1, 3, 3, 0])
CLASSES, HIDDEN, LATENT = 4, 8, 3


MODEL = ConditionalVAE(
    Encoder(16, HIDDEN, CLASSES),
    Decoder(HIDDEN, (4, 4, 1)),
    HIDDEN,
    LATENT,
    CLASSES,
    rngs=nnx.Rngs(0),
)


def plain(model: ConditionalVAE, x: Any, y: Any, eps: np.ndarray) -> tuple[np.ndarray, ...]:
    """Reconstruction, mean and std in float64."""
    one_hot = np.eye(CLASSES)[np.asarray(y)]
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    features = np.maximum(layer(model.encoder.fc, np.concatenate([flat, one_hot], 1)), 0)
    mean, std = layer(model.dense1, features), np.exp(0.5 * layer(model.dense2, features))
    return decoded(model, mean + std * eps, y), mean, std


def decoded(model: ConditionalVAE, z: np.ndarray, y: Any) -> np.ndarray:
    code = np.concatenate([z, np.eye(CLASSES)[np.asarray(y)]], axis=1)
    logits = layer(model.decoder.fc, layer(model.dense3, code))
    return (1.0 / (1.0 + np.exp(-logits))).reshape(-1, 4, 4, 1)


def test_forward_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    eps = np.random.default_rng(2).normal(size=(6, LATENT)).astype(np.float32)
    left = inject(monkeypatch, [eps, eps])
    reconstruction, x, mean, std = MODEL(jax.random.key(0), X, Y)
    assert x is X
    for ours, exact in zip((reconstruction, mean, std), plain(MODEL, X, Y, eps), strict=True):
        np.testing.assert_allclose(ours, exact, atol=2e-6)
    np.testing.assert_array_equal(MODEL.reconstruct_sample(jax.random.key(0), X, Y), reconstruction)
    assert not left


def test_generated_samples_are_of_the_classes_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.random.default_rng(3).normal(size=(6, LATENT)).astype(np.float32)
    inject(monkeypatch, [z])
    samples = MODEL.generate_sample(jax.random.key(0), Y, 6, (-1, 2, 8))
    np.testing.assert_allclose(samples.reshape(6, 4, 4, 1), decoded(MODEL, z, Y), atol=2e-6)


def test_parameters_have_mindspores_names_and_shapes() -> None:
    shapes = {name: a.shape for name, a in mindspore.save_param_dict(MODEL).items()}
    assert shapes == {
        "encoder.fc.weight": (8, 20),
        "encoder.fc.bias": (8,),
        "decoder.fc.weight": (16, 8),
        "decoder.fc.bias": (16,),
        "dense1.weight": (3, 8),
        "dense1.bias": (3,),
        "dense2.weight": (3, 8),
        "dense2.bias": (3,),
        "dense3.weight": (8, 7),
        "dense3.bias": (8,),
    }


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (Y.astype(jnp.float32), TypeError, "integer labels, got float32"),
        (Y[:5], ValueError, r"labels of shape \(6,\), got \(5,\)"),
        (Y.at[1].set(4), ValueError, "labels from 0 to 3, got values from 0 to 4"),
        (Y.at[1].set(-1), ValueError, "got values from -1 to 3"),
    ],
)
def test_bad_labels(
    y: Any, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Users have no type checker at run time.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        MODEL(jax.random.key(0), X, y)


def test_unknown_labels_under_jit_are_nan() -> None:
    call = nnx.jit(lambda model, key, y: model(key, X, y)[0])
    out = call(MODEL, jax.random.key(0), Y.at[1].set(4))
    known = jnp.arange(6) != 1
    assert bool(jnp.all(jnp.isfinite(out[known])))
    assert bool(jnp.all(jnp.isnan(out[1])))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        ConditionalVAE(Encoder(16, 8), Decoder(8, (4, 4, 1)), 8, 3, 0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="ConditionalVAE needs latent_size <= hidden_size"):
        ConditionalVAE(Encoder(16, 8), Decoder(8, (4, 4, 1)), 8, 9, 4, rngs=nnx.Rngs(0))
