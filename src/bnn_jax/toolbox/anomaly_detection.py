"""Anomaly detection by a variational autoencoder that was trained on what is normal.

    detector = VAEAnomalyDetection(encoder, decoder, rngs=nnx.Rngs(0))
    detector.train(key, images, epochs=5, batch_size=128)
    detector.fit_threshold(other_images, quantile=0.95)
    scores = detector.predict_outlier_score(new_images)  # one for each
    outlier = detector.predict_outlier(new_images, threshold=None)

The higher the score, the less an example is like those of the training. `outlier_scores` has the
scores. The network is in evaluation mode, so the score of an example does not depend on the others.
"""

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from bnn_jax import noise
from bnn_jax.bnn_layers import _arguments
from bnn_jax.dpn import VAE
from bnn_jax.infer import ELBO, SVI, WithLossCell
from bnn_jax.infer.batches import as_batch, is_arrays
from bnn_jax.infer.elbo import squared_error
from bnn_jax.noise import PRNGKey
from bnn_jax.toolbox.outlier_scores import SCORES


class VAEAnomalyDetection:
    """A VAE with its training, a score for each example, and a threshold.

    Args:
        encoder: an NNX module or a function, x of shape (n, ...) -> (n, hidden_size).
        decoder: as the encoder, (n, hidden_size) -> the reconstruction, of x's shape.
        hidden_size: the size of the encoder's output.
        latent_size: the size of the code, at most hidden_size.
        score: "distance", MindSpore's; "relative_distance"; "negative_elbo"; or "negative_bound",
            which needs a key.
        optimizer: an optax transformation; by default MindSpore's, Adam at the learning rate 1e-3.
        rngs: initialises the VAE's own layers.

    Attributes:
        vae: the `dpn.VAE`.
        threshold: that of `fit_threshold`, or None.

    Raises:
        ValueError: an unknown score; and what `VAE` raises.
    """

    def __init__(
        self,
        encoder: Callable[..., Any],
        decoder: Callable[..., Any],
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
            raise ValueError(f"The scores are {', '.join(SCORES)}; got {score!r}.{hint}")
        self.score = score
        self.vae = VAE(encoder, decoder, hidden_size, latent_size, rngs=rngs)
        self.threshold: float | None = None
        self._fitted_draws: int | None = None
        self._svi = SVI(WithLossCell(self.vae, ELBO()), optimizer or optax.adam(1e-3))

    def train(
        self, key: PRNGKey, train_dataset: Any, epochs: int = 5, *, batch_size: int | None = None
    ) -> VAE:
        """Train the VAE on normal examples; a further call goes on with it.

        Args:
            key: gives the noise and the order of the examples.
            train_dataset: arrays or batches, as `infer.SVI.run` takes them; labels are not used.
            epochs: passes over the data.
            batch_size: the size of a batch, for arrays and only for them.

        Returns:
            The VAE. A threshold that was fitted before is forgotten.
        """
        self.threshold = None
        self._svi.run(key, train_dataset, epochs, batch_size=batch_size)
        return self.vae

    def get_train_loss(self) -> float:
        """The loss per example in the last epoch of the training, in nats."""
        return self._svi.get_train_loss()

    def predict_outlier_score(
        self,
        sample_x: Any,
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        batch_size: int = 1000,
    ) -> Float[np.ndarray, " n"]:
        """The score of each example; higher is stranger.

        Args:
            sample_x: floating point, (n, ...), scaled as in the training.
            key: gives the noise of the codes; that of an example does not depend on how many
                follow. Without a key there is no noise: the code is its mean.
            num_samples: draws for each example, with a key; the cost grows in proportion.
            batch_size: examples computed at a time, which does not change the scores.

        Returns:
            (n,), float32.

        Raises:
            TypeError: sample_x is not floating point.
            ValueError: draws are wanted, by num_samples or by the score, and there is no key.
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
            rows = np.arange(start, start + size) % len(x)  # one shape, so that it compiles once
            scores.append(_scores(graph, self.score, state, x[rows], eps[:, rows]))
        return np.concatenate(scores)[: len(x)]

    def predict_outlier(
        self,
        sample_x: Any,
        threshold: float | None = 100.0,
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        batch_size: int = 1000,
    ) -> Bool[np.ndarray, " n"]:
        """Whether the score of each example is at least the threshold.

        Args:
            sample_x: as for `predict_outlier_score`, and so key, num_samples and batch_size.
            threshold: a number > 0, or None for that of `fit_threshold`. The default is
                MindSpore's, and knows nothing of your data.

        Raises:
            ValueError: threshold=None before `fit_threshold`, or with another number of draws.
        """
        if threshold is None:
            threshold = self._fitted_threshold(_draws(key, num_samples))
        elif not _arguments.number("predict_outlier", "threshold", threshold) > 0:
            raise ValueError(f"predict_outlier needs threshold > 0, got {threshold!r}.")
        options: Any = {"key": key, "num_samples": num_samples, "batch_size": batch_size}
        return self.predict_outlier_score(sample_x, **options) >= threshold

    def fit_threshold(
        self,
        dataset: Any,
        quantile: float = 0.95,
        *,
        key: PRNGKey | None = None,
        num_samples: int = 1,
        batch_size: int = 1000,
    ) -> float:
        """Make a quantile of the scores of normal examples the threshold, and return it.

        About 1 - quantile of all normal examples then count as outliers, if these were not used in
        the training: scores of training examples tend to be lower.

        Args:
            dataset: arrays, x or (x, label), or an iterable of batches as for the training.
            quantile: in (0, 1).
            key: as for `predict_outlier_score`, and so num_samples and batch_size.

        Raises:
            ValueError: a quantile out of range, or no examples.
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
        self.threshold = float(np.quantile(np.concatenate(scores), quantile))
        self._fitted_draws = _draws(key, num_samples)
        return self.threshold

    def _fitted_threshold(self, draws: int) -> float:
        if self.threshold is None:
            raise ValueError("There is no threshold yet: call fit_threshold(dataset) first.")
        if self._fitted_draws != draws:
            raise ValueError(
                f"The threshold was fitted to scores of {self._fitted_draws} draws (0: without a "
                f"key), so they have to be predicted like that; got {draws}."
            )
        return self.threshold

    def _noise(self, key: PRNGKey | None, num_samples: int, n: int) -> np.ndarray:
        """The noise of all codes, (draws, n, latent), each example from a key of its own."""
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
    graph: Any,
    score: str,
    state: Any,
    x: Float[Array, "n ..."],
    eps: Float[Array, "draws n latent"],
) -> Float[Array, " n"]:
    mean, std = nnx.merge(graph, state, copy=True).encode(x)

    def error(eps: Array) -> Array:
        z = mean + std * eps.astype(mean.dtype)
        return squared_error(x, nnx.merge(graph, state, copy=True).decode(z))

    errors = jax.lax.map(error, eps)
    return SCORES[score](x, errors, eps, mean, std)
