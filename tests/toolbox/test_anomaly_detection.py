"""Anomaly detection: scores with closed forms, one for each example, thresholds, errors."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import stats

from bnn_jax import noise
from bnn_jax.infer.elbo import kl_divergence
from bnn_jax.toolbox.anomaly_detection import VAEAnomalyDetection
from vae_helpers import Decoder, Encoder, dense, factor_model, identity

KEY = jax.random.key(0)
rng = np.random.default_rng(0)
X = rng.random((7, 4, 4, 1), np.float32)


def detector(score: str = "distance", **options: Any) -> VAEAnomalyDetection:
    encoder, decoder = Encoder(16, 8), Decoder(8, (4, 4, 1))
    return VAEAnomalyDetection(encoder, decoder, 8, 3, score=score, rngs=nnx.Rngs(0), **options)


def linear(score: str) -> tuple[VAEAnomalyDetection, np.ndarray, np.ndarray]:
    """A detector with a linear model and its exact posterior, examples, and their -log p(x)."""
    vae, mean, covariance = factor_model()
    x = rng.normal(size=(6, 5)) * 2.0
    found = VAEAnomalyDetection(identity, identity, 5, 2, score=score, rngs=nnx.Rngs(0))
    found.vae = vae
    nll = -stats.multivariate_normal(mean, covariance).logpdf(x) - 2.5 * np.log(np.pi)
    return found, x.astype(np.float32), nll


SMALL = detector()


def test_the_distance_is_that_of_each_example_to_its_reconstruction() -> None:
    mean, _ = SMALL.vae.encode(jnp.asarray(X))
    reconstruction = np.asarray(SMALL.vae.decode(mean), np.float64)
    exact = [np.linalg.norm(X[i] - reconstruction[i]) for i in range(7)]
    scores = SMALL.predict_outlier_score(X)
    assert scores.shape == (7,)
    np.testing.assert_allclose(scores, exact, rtol=2e-6)
    relative = detector("relative_distance")
    relative.vae = SMALL.vae
    norm = np.linalg.norm(X.reshape(7, -1).astype(np.float64), axis=1)
    np.testing.assert_allclose(relative.predict_outlier_score(X), exact / norm, rtol=2e-6)
    assert (relative.predict_outlier_score(np.zeros_like(X)) > 1e30).all()


def test_the_bound_of_the_exact_posterior_is_the_likelihood_for_any_draws() -> None:
    found, x, nll = linear("negative_bound")
    for seed, samples in ((0, 1), (1, 5)):
        scores = found.predict_outlier_score(x, key=jax.random.key(seed), num_samples=samples)
        np.testing.assert_allclose(scores, nll, rtol=1e-5)


def test_the_negative_elbo_of_the_exact_posterior_is_the_likelihood_on_average() -> None:
    found, x, nll = linear("negative_elbo")
    draws = np.stack(
        [
            found.predict_outlier_score(x, key=jax.random.fold_in(KEY, i), num_samples=50)
            for i in range(20)
        ]
    ).astype(np.float64)
    error = draws.std(axis=0) / np.sqrt(20)
    assert np.all(np.abs(draws.mean(axis=0) - nll) < 5 * error)


def test_the_bound_gets_tighter_with_draws() -> None:
    """For a posterior that is not exact, the mean bound falls (Burda et al. 2016, theorem 1)."""
    bounds = []
    for samples in (1, 10, 100):
        found = detector("negative_bound")
        keys = [jax.random.fold_in(KEY, i) for i in range(10)]
        draws = [found.predict_outlier_score(X, key=k, num_samples=samples) for k in keys]
        bounds.append(np.mean(draws))
    assert bounds[0] > bounds[1] > bounds[2]


def test_draws_are_averaged() -> None:
    """Four draws at once are the mean of the four, for scores that are means."""
    x = jnp.asarray(X)
    mean, std = SMALL.vae.encode(x)
    key = jax.random.key(3)
    eps = jnp.stack([noise.normal(jax.random.fold_in(key, i), (4, 3)) for i in range(7)], 1)
    errors = np.asarray(
        [jnp.sum(jnp.square(x - SMALL.vae.decode(mean + std * e)), axis=(1, 2, 3)) for e in eps],
        np.float64,
    )
    exact = {
        "distance": np.sqrt(errors).mean(axis=0),
        "negative_elbo": errors.mean(axis=0) + np.asarray(kl_divergence(mean, std)),
    }
    for score, expected in exact.items():
        found = detector(score)
        found.vae = SMALL.vae
        ours = found.predict_outlier_score(X, key=key, num_samples=4)
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"key": KEY, "num_samples": 2}])
def test_a_score_depends_on_its_example_alone(options: dict[str, Any]) -> None:
    whole = SMALL.predict_outlier_score(X, **options)
    chunks = SMALL.predict_outlier_score(X, batch_size=3, **options)
    first = SMALL.predict_outlier_score(X[:4], **options)
    np.testing.assert_allclose(chunks, whole, rtol=1e-6)
    np.testing.assert_allclose(first, whole[:4], rtol=1e-6)


def test_a_key_gives_one_score_and_none_gives_no_noise() -> None:
    first, again = (SMALL.predict_outlier_score(X, key=jax.random.key(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    plain = SMALL.predict_outlier_score(X)
    np.testing.assert_array_equal(plain, SMALL.predict_outlier_score(X))
    assert np.all(first != plain)


def test_batch_norm_and_dropout_are_in_evaluation_mode() -> None:
    class Stochastic(nnx.Module):
        def __init__(self) -> None:
            self.norm = nnx.BatchNorm(16, rngs=nnx.Rngs(0))
            self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
            self.fc = dense(16, 8)

        def __call__(self, x: Any) -> Any:
            return self.drop(nnx.relu(self.fc(self.norm(x.reshape(len(x), -1)))))

    found = VAEAnomalyDetection(
        Stochastic(), Decoder(8, (4, 4, 1)), 8, 3, optimizer=optax.sgd(1e-3), rngs=nnx.Rngs(0)
    )
    found.train(KEY, X, 2, batch_size=7)
    before = found.vae.encoder.norm.mean[...].copy()
    alone = np.concatenate([found.predict_outlier_score(X[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(alone, found.predict_outlier_score(X)[:3], rtol=1e-6)
    assert not found.vae.encoder.drop.deterministic  # the network itself is as it was
    np.testing.assert_array_equal(found.vae.encoder.norm.mean[...], before)


def test_what_is_not_like_the_training_examples_scores_higher() -> None:
    line = np.float32(np.linspace(0, 1, 16).reshape(4, 4, 1))
    normal = line + 0.05 * rng.normal(size=(64, 4, 4, 1)).astype(np.float32)
    found = detector(optimizer=optax.adam(1e-2))
    assert found.train(KEY, normal, 20, batch_size=32) is found.vae
    assert found.get_train_loss() < 1.0
    strange = 1.0 - normal
    assert found.predict_outlier_score(strange).min() > found.predict_outlier_score(normal).max()
    limit = found.fit_threshold(normal, 0.75)
    outlier = found.predict_outlier(np.concatenate([normal, strange]), threshold=None)
    assert limit == found.threshold
    assert outlier[:64].sum() == 16
    assert outlier[64:].all()


def test_the_threshold_is_a_quantile_of_the_scores() -> None:
    found = detector()
    scores = found.predict_outlier_score(X)
    assert found.fit_threshold(X, 0.8) == pytest.approx(np.quantile(scores, 0.8), rel=1e-6)
    batched = found.fit_threshold([X[:3], (X[3:], np.zeros(4))], 0.8)
    assert batched == pytest.approx(np.quantile(scores, 0.8), rel=1e-6)
    limit = float(scores[2])
    np.testing.assert_array_equal(found.predict_outlier(X, limit), scores >= limit)
    assert not found.predict_outlier(X).any()  # MindSpore's default, 100


def test_a_threshold_belongs_to_its_scores() -> None:
    found = detector(optimizer=optax.sgd(1e-3))
    with pytest.raises(ValueError, match="no threshold yet: call fit_threshold"):
        found.predict_outlier(X, None)
    found.fit_threshold(X, key=KEY, num_samples=4)
    with pytest.raises(ValueError, match=r"scores of 4 draws .* got 0"):
        found.predict_outlier(X, None)
    found.predict_outlier(X, None, key=jax.random.key(1), num_samples=4)
    found.train(jax.random.key(1), [X], 1)
    with pytest.raises(ValueError, match="no threshold yet"):
        found.predict_outlier(X, None, key=KEY, num_samples=4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: d.predict_outlier_score(np.uint8(X)), TypeError, "floating point, got uint8"),
        (lambda d: d.predict_outlier_score(X[:0]), ValueError, "examples on axis 0"),
        (lambda d: d.predict_outlier_score(X, num_samples=2), ValueError, "draws codes: pass key="),
        (
            lambda d: d.predict_outlier_score(X, batch_size=0),
            ValueError,
            "batch_size must be at least 1, got 0",
        ),
        (lambda d: d.predict_outlier(X, 0.0), ValueError, "threshold > 0, got 0.0"),
        (
            lambda d: d.predict_outlier(X, "high"),
            TypeError,
            "threshold must be an int or a float, got 'high'",
        ),
        (lambda d: d.fit_threshold(X, 1.0), ValueError, "0 < quantile < 1, got 1.0"),
        (lambda d: d.fit_threshold([]), ValueError, "has no batches"),
        (lambda d: detector("negative_bound").predict_outlier_score(X), ValueError, "pass key="),
        (lambda d: detector("elbo"), ValueError, "negative_elbo.*got 'elbo'. Did you mean"),
    ],
)
def test_bad_arguments(
    call: Any, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Users have no type checker at run time.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        call(SMALL)
