"""The VAE against MindSpore's numbers, against NumPy, and its errors."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import linen, nnx
from scipy import stats

from bnn_jax import mindspore
from bnn_jax.dpn import VAE
from bnn_jax.infer import ELBO
from golden_data import arrays, assert_close, inject
from vae_helpers import Decoder, Encoder, factor_model, identity, layer, small_vae

GOLDEN = arrays("vae")
SMALL = small_vae()
X = jnp.asarray(np.einsum("nchw->nhwc", GOLDEN["x"]))


def golden_vae() -> VAE:
    params = {name[2:]: array for name, array in GOLDEN.items() if name.startswith("p_")}
    vae = nnx.clone(SMALL)
    mindspore.load_param_dict(vae, params)
    return vae


def test_forward_is_mindspores(monkeypatch: pytest.MonkeyPatch) -> None:
    left = inject(monkeypatch, [GOLDEN["eps0"]])
    reconstruction, x, mean, std = golden_vae()(jax.random.key(0), X)
    assert not left
    assert x is X
    assert_close(np.einsum("nhwc->nchw", reconstruction), GOLDEN["recon_x"], 1e-6)
    assert_close(mean, GOLDEN["mu"], 1e-6)
    assert_close(std, GOLDEN["std"], 1e-6)


def test_loss_and_gradients_are_mindspores(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, [GOLDEN["eps0"]])
    vae, elbo, labels = golden_vae(), ELBO(), jnp.asarray(GOLDEN["y"])
    loss, grads = nnx.value_and_grad(lambda v, x: elbo(v(jax.random.key(0), x), labels))(vae, X)
    assert float(loss) == pytest.approx(float(GOLDEN["elbo"]), rel=1e-6)
    nnx.update(vae, grads)
    ours = mindspore.save_param_dict(vae)
    assert {f"grad_{name}" for name in ours} == {k for k in GOLDEN if k.startswith("grad_")}
    for name, gradient in ours.items():
        assert_close(gradient, GOLDEN[f"grad_{name}"])


def test_reconstruct_sample_is_the_forward_pass() -> None:
    vae = SMALL
    expected = vae(jax.random.key(3), X)[0]
    np.testing.assert_array_equal(vae.reconstruct_sample(jax.random.key(3), X), expected)


def test_a_key_gives_one_noise_and_another_key_another() -> None:
    vae = SMALL
    first, again, other = (vae(jax.random.key(k), X)[0] for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.min(jnp.max(jnp.abs(first - other), axis=(1, 2, 3)))) > 0.0


def test_generated_samples_are_the_decoded_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    left = inject(monkeypatch, [z, z])
    vae = SMALL
    logits = layer(vae.decoder.fc, layer(vae.dense3, z.astype(np.float64)))
    for shape in ((6, 4, 4, 1), (-1, 16)):
        samples = vae.generate_sample(jax.random.key(0), 6, shape)
        assert samples.shape == (6, *shape[1:])
        expected = 1.0 / (1.0 + np.exp(-logits))
        np.testing.assert_allclose(samples.reshape(6, 16), expected, atol=1e-6)
    assert not left


def test_generated_samples_have_the_distribution_of_the_model() -> None:
    """Mean and covariance of a linear decoder's outputs; 5 standard errors."""
    vae, mean, covariance = factor_model()
    expected = covariance - 0.5 * np.eye(5)
    n = 20_000
    x = np.asarray(vae.generate_sample(jax.random.key(0), n, (-1, 5)), np.float64)
    variance = np.diag(expected)
    assert np.all(np.abs(x.mean(axis=0) - mean) < 5 * np.sqrt(variance / n))
    error = np.sqrt((np.outer(variance, variance) + expected**2) / n)
    assert np.all(np.abs(np.cov(x.T) - expected) < 5 * error)


def test_codes_have_the_distribution_of_the_posterior() -> None:
    """The pushed-forward codes of one example: Kolmogorov-Smirnov at p > 1e-4."""
    vae, mean, _ = factor_model()
    x = jnp.broadcast_to(jnp.asarray([[1.0, -0.5, 0.3, 2.0, 0.0]]), (5000, 5))
    reconstruction, _, code_mean, code_std = vae(jax.random.key(0), x)
    pseudo_inverse = np.linalg.pinv(np.asarray(vae.dense3.kernel[...], np.float64))
    z = (np.asarray(reconstruction, np.float64) - mean) @ pseudo_inverse
    for j in range(2):
        distribution = stats.norm(float(code_mean[0, j]), float(code_std[0, j]))
        assert stats.kstest(z[:, j], distribution.cdf).pvalue > 1e-4


def test_functions_serve_as_encoder_and_decoder_and_jit_changes_nothing() -> None:
    vae = VAE(identity, identity, 4, 4, rngs=nnx.Rngs(0))
    x = jnp.ones((3, 4))
    eager = vae(jax.random.key(0), x)
    jitted = nnx.jit(lambda v, key, x: v(key, x))(vae, jax.random.key(0), x)
    for a, b in zip(eager, jitted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"encoder": linen.Dense(8)},
            TypeError,
            "linen module Dense: wrap it with nnx.bridge",
        ),
        ({"decoder": None}, TypeError, "NNX module or a function as decoder, got None"),
        ({"encoder": Encoder}, TypeError, "as encoder, got <class"),
        ({"hidden_size": 8.0}, TypeError, "hidden_size must be a positive int, got 8.0"),
        ({"latent_size": 0}, ValueError, "latent_size must be at least 1, got 0"),
        ({"latent_size": 9}, ValueError, "latent_size <= hidden_size, got latent_size=9"),
        ({"rngs": 0}, TypeError, "nnx.Rngs as rngs, got 0"),
    ],
)
def test_bad_arguments(
    change: dict[str, Any],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Users have no type checker at run time.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    arguments: dict[str, Any] = {
        "encoder": Encoder(16, 8),
        "decoder": Decoder(8, (4, 4, 1)),
        "hidden_size": 8,
        "latent_size": 3,
        "rngs": nnx.Rngs(0),
    }
    with pytest.raises(error, match=message):
        VAE(**(arguments | change))


def test_an_encoder_of_another_size() -> None:
    vae = VAE(Encoder(16, 7), Decoder(8, (4, 4, 1)), 8, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"here \(5, 8\), got \(5, 7\)"):
        vae(jax.random.key(0), X)
    images = VAE(identity, identity, 16, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"got \(5, 4, 4, 1\): flatten in the encoder"):
        images(jax.random.key(0), X)


@pytest.mark.parametrize(
    ("number", "shape", "error", "message"),
    [
        (0, (-1, 4, 4, 1), ValueError, "generate_nums must be at least 1, got 0"),
        (True, (-1, 4, 4, 1), TypeError, "generate_nums must be a positive int"),
        (2, (3, 4, 4, 1), ValueError, r"as \(2, ...\) or \(-1, ...\)"),
        (2, (-1, 4, 4, 2), ValueError, r"\(2, 4, 4, 1\), which cannot be reshaped to \(2, 4, 4, 2"),
    ],
)
def test_bad_shapes_to_generate(
    number: int, shape: tuple[int, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SMALL.generate_sample(jax.random.key(0), number, shape)
