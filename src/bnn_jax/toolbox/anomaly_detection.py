"""Anomaly detection by a variational autoencoder trained on normal examples.

    detector = VAEAnomalyDetection(encoder, decoder, rngs=nnx.Rngs(0))
    detector.train(key, images, epochs=5, batch_size=128)
    detector.fit_threshold(other_images, quantile=0.95)
    scores = detector.predict_outlier_score(new_images)  # one per image
    outlier = detector.predict_outlier(new_images, threshold=None)

A higher score means that an example is less similar to the training examples. `outlier_scores`
defines the scores. The network is in evaluation mode, so the score of an example does not depend on
the others.
"""

import difflib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, PyTree

from bnn_jax import noise
from bnn_jax.bnn_layers import _arguments
from bnn_jax.dpn import VAE
from bnn_jax.dpn._latent import Network
from bnn_jax.infer import ELBO, SVI, WithLossCell
from bnn_jax.infer.batches import ArrayIn, Dataset, as_batch, is_arrays
from bnn_jax.infer.elbo import squared_error
from bnn_jax.noise import PRNGKey
from bnn_jax.toolbox.outlier_scores import SCORES


class VAEAnomalyDetection:
    """A VAE with training, a score per example and a threshold.

    Args:
        encoder: an NNX module or a function, x of shape (n, ...) -> (n, hidden_size).
        decoder: as the encoder, (n, hidden_size) -> the reconstruction, of x's shape.
        hidden_size: the size of the encoder's output.
        latent_size: the size of the code, at most hidden_size.
        score: "distance", MindSpore's; "relative_distance"; "negative_elbo"; or "negative_bound",
            which needs a key.
        optimizer: an optax transformation; by default MindSpore's, Adam with learning rate 1e-3.
        rngs: initialises the VAE's own layers.

    Attributes:
        vae: the `dpn.VAE`.
        threshold: the threshold set by `fit_threshold`, or None.

    Raises:
        ValueError: an unknown score, or arguments that `VAE` refuses.
    """

    def __init__(
        self,
        encoder: Network,
        decoder: Network,
        hidden_size: int = 400,
        latent_size: int = 20,
        *,
        score: str = "distance",
        optimizer: optax.GradientTransformation | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        if score not in SCORES:
            near = difflib.get_close_matches(str(score), SCORES, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"score must be one of {', '.join(SCORES)}; got {score!r}.{hint}")
        self.score = score
        self.vae = VAE(encoder, decoder, hidden_size, latent_size, rngs=rngs)
        self.threshold: float | None = None
        self._fitted_draws: int | None = None
        self._svi = SVI(WithLossCell(self.vae, ELBO()), optimizer or optax.adam(1e-3))

    def train(
        self,
        key: PRNGKey,
        train_dataset: Dataset,
        epochs: int = 5,
        *,
        batch_size: int | None = None,
    ) -> VAE:
        """Trains the VAE on normal examples; a second call continues the training.

        Args:
            key: determines the noise and the order of the examples.
            train_dataset: arrays or batches, as for `infer.SVI.run`; labels are ignored.
            epochs: number of passes over the data.
            batch_size: examples per batch; required for arrays, and allowed only for them.

        Returns:
            The VAE. A previously fitted threshold is discarded.
        """
        self.threshold = None
        self._svi.run(key, train_dataset, epochs, batch_size=batch_size)
        return self.vae

    def get_train_loss(self) -> float:
        """Returns the loss per example in the last epoch, in nats."""
        return self._svi.get_train_loss()

    def predict_outlier_score(
        self,
        sample_x: ArrayIn,
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        batch_size: int = 1000,
    ) -> Float[np.ndarray, " n"]:
        """Returns the score of each example; higher is more anomalous.

        Args:
            sample_x: floating point, (n, ...), scaled as in training.
            key: determines the noise of the codes; the noise of example i depends on i only.
                Without a key, the code of an example is its mean.
            num_samples: draws per example, with a key; the cost is proportional.
            batch_size: examples per compiled call; it does not affect the scores.

        Returns:
            (n,), float32.

        Raises:
            TypeError: sample_x is not floating point.
            ValueError: num_samples or the score requires draws, and key is None.
        """
        x, _ = as_batch(np.asarray(sample_x))
        _arguments.positive_int("The score", "num_samples", num_samples)
        _arguments.positive_int("The score", "batch_size", batch_size)
        if key is None and (num_samples > 1 or self.score == "negative_bound"):
            raise ValueError(
                f"The score {self.score!r} with num_samples={num_samples} draws codes: pass key=."
            )
        eps = self._noise(key, num_samples, len(x))
        vae = nnx.merge(*nnx.split(self.vae))
        vae.eval()
        graph, state = nnx.split(vae)
        size = min(batch_size, len(x))
        scores = []
        for start in range(0, len(x), size):
            rows = np.arange(start, start + size) % len(x)  # one shape, to compile once
            scores.append(_scores(graph, self.score, state, x[rows], eps[:, rows]))
        return np.concatenate(scores)[: len(x)]

    def predict_outlier(
        self,
        sample_x: ArrayIn,
        threshold: float | None = 100.0,
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        batch_size: int = 1000,
    ) -> Bool[np.ndarray, " n"]:
        """Returns whether the score of each example is at least the threshold.

        Args:
            sample_x, key, num_samples, batch_size: see `predict_outlier_score`.
            threshold: a number > 0, or None for the one set by `fit_threshold`. The default is
                MindSpore's and does not depend on the data.

        Raises:
            ValueError: threshold=None before `fit_threshold`, or with a different number of draws.
        """
        if threshold is None:
            threshold = self._fitted_threshold(_draws(key, num_samples))
        elif not _arguments.number("predict_outlier", "threshold", threshold) > 0:
            raise ValueError(f"predict_outlier needs threshold > 0, got {threshold!r}.")
        scores = self.predict_outlier_score(
            sample_x, key=key, num_samples=num_samples, batch_size=batch_size
        )
        return scores >= threshold

    def fit_threshold(
        self,
        dataset: Dataset,
        quantile: float = 0.95,
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        batch_size: int = 1000,
    ) -> float:
        """Sets the threshold to a quantile of the scores of normal examples, and returns it.

        About 1 - quantile of all normal examples are then outliers, provided that the examples were
        not used in training: scores of training examples tend to be lower.

        Args:
            dataset: arrays, x or (x, label), or an iterable of batches, as for `train`.
            quantile: in (0, 1).
            key, num_samples, batch_size: see `predict_outlier_score`.

        Raises:
            ValueError: a quantile out of range, no examples, or scores that are NaN.
        """
        if not 0.0 < quantile < 1.0:
            raise ValueError(f"fit_threshold needs 0 < quantile < 1, got {quantile!r}.")
        batches = [dataset] if is_arrays(dataset) else dataset
        scores = [
            self.predict_outlier_score(
                as_batch(batch)[0],
                key=None if key is None else jax.random.fold_in(key, i),
                num_samples=num_samples,
                batch_size=batch_size,
            )
            for i, batch in enumerate(batches)
        ]
        if not scores:
            raise ValueError("fit_threshold needs examples, and the dataset has no batches.")
        pooled = np.concatenate(scores)
        if np.isnan(pooled).any():
            raise ValueError(
                f"fit_threshold needs scores without NaN; {int(np.isnan(pooled).sum())} of "
                f"{len(pooled)} are NaN: check the examples and the training loss."
            )
        self.threshold = float(np.quantile(pooled, quantile))
        self._fitted_draws = _draws(key, num_samples)
        return self.threshold

    def _fitted_threshold(self, draws: int) -> float:
        if self.threshold is None:
            raise ValueError("There is no threshold yet: call fit_threshold(dataset) first.")
        if self._fitted_draws != draws:
            raise ValueError(
                f"The threshold was fitted to scores of {self._fitted_draws} draws (0: without a "
                f"key), so the scores must be predicted with as many; got {draws}."
            )
        return self.threshold

    def _noise(self, key: PRNGKey | None, num_samples: int, n: int) -> np.ndarray:
        """Returns the noise of all codes, (draws, n, latent), from a separate key per example."""
        size = self.vae.latent_size
        if key is None:
            return np.zeros((1, n, size), np.float32)

        def draw(i: Array) -> Array:
            return noise.normal(jax.random.fold_in(key, i), (num_samples, size))

        return np.asarray(jax.vmap(draw, out_axes=1)(jnp.arange(n)))


def _draws(key: PRNGKey | None, num_samples: int) -> int:
    return 0 if key is None else num_samples


@partial(jax.jit, static_argnums=(0, 1))
def _scores(
    graph: nnx.GraphDef[VAE],
    score: str,
    state: PyTree,
    x: Float[Array, "n ..."],
    eps: Float[Array, "draws n latent"],
) -> Float[Array, " n"]:
    mean, std = nnx.merge(graph, state, copy=True).encode(x)

    def error(eps: Array) -> Array:
        z = mean + std * eps.astype(mean.dtype)
        return squared_error(x, nnx.merge(graph, state, copy=True).decode(z))

    errors = jax.lax.map(error, eps)
    return SCORES[score](x, errors, eps, mean, std)
