"""Layers with a float64 reference, and comparisons in units of standard errors."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnn_jax import gaussian
from bnn_jax.transforms import BayesianModel


@dataclasses.dataclass(frozen=True)
class Layer:
    """A converted layer, its input and its reference in NumPy.

    Attributes:
        convert: a function from the options of to_bnn to the model.
        x: (examples, ..., features).
        reference: ({"kernel": float64, "bias": float64}, x) -> output; linear in the weights.
        kwargs: the keyword arguments of the model.
        positions: whether an example uses a weight at more than one position.
        prefix: the prefix of the paths of the weights that the reference reads.
    """

    convert: Callable[..., BayesianModel]
    x: jax.Array
    reference: Callable[[dict[str, Any], Any], Any]
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    positions: bool = True
    prefix: str = ""


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """Compiles without optimizations, for programs that run once for about a second."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def data(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def with_moments(posterior: Any, seed: int = 0) -> Any:
    """Returns the posterior with random means of about 1 and random stds of about 0.3."""
    rng = np.random.default_rng(seed)

    def replace(leaf: Any) -> Any:
        if not gaussian.is_gaussian(leaf):
            return leaf
        stds = 0.3 * np.exp(0.5 * rng.normal(size=leaf.shape))
        return gaussian.centred(
            jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), jnp.asarray(stds, jnp.float32)
        )

    return jax.tree.map(replace, posterior, is_leaf=gaussian.is_gaussian)


def softplus_std(rho: Any) -> np.ndarray:
    return np.log1p(np.exp(np.asarray(rho, np.float64))) + 1e-6


@dataclasses.dataclass(frozen=True)
class Exact:
    """A layer's outputs as a linear map of its weights, in float64.

    Attributes:
        mean: (outputs,), all examples, positions and channels in one axis.
        maps: {path: (outputs, weights)}, the derivative of the outputs.
        means, stds, rhos: {path: (weights,)}.
        example: (outputs,), the example that an output belongs to.
        shape: the shape of the output.
    """

    mean: np.ndarray
    maps: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    stds: dict[str, np.ndarray]
    rhos: dict[str, np.ndarray]
    example: np.ndarray
    shape: tuple[int, ...]

    def covariance(self, path: str) -> np.ndarray:
        """Returns the covariance of the outputs if one sample of this weight serves all of them."""
        return (self.maps[path] * self.stds[path] ** 2) @ self.maps[path].T

    @property
    def same_example(self) -> np.ndarray:
        return self.example[:, None] == self.example[None]


def exact(layer: Layer, posterior: Any, paths: list[str]) -> Exact:
    """Returns the map from weights to outputs, one column per weight, from the NumPy reference."""
    leaves = gaussian.random_leaves(posterior)
    x = np.asarray(layer.x, np.float64)
    means = {p: np.asarray(leaves[p].mean, np.float64) for p in paths}
    zeros = {p: np.zeros_like(m) for p, m in means.items()}

    def reference(weights: dict[str, Any]) -> Any:
        return layer.reference({p.removeprefix(layer.prefix): w for p, w in weights.items()}, x)

    out = reference(means)

    def columns(path: str) -> np.ndarray:
        found = []
        for index in np.ndindex(means[path].shape):
            one = np.zeros_like(means[path])
            one[index] = 1.0
            found.append(reference({**zeros, path: one}).ravel())
        return np.stack(found, axis=1)

    return Exact(
        mean=out.ravel(),
        maps={p: columns(p) for p in paths},
        means={p: m.ravel() for p, m in means.items()},
        stds={p: softplus_std(leaves[p].rho).ravel() for p in paths},
        rhos={p: np.asarray(leaves[p].rho, np.float64).ravel() for p in paths},
        example=np.repeat(np.arange(len(out)), out[0].size),
        shape=out.shape,
    )


def over_keys(fn: Callable[[Any], Any], count: int, at_once: int, seed: int = 0) -> Any:
    """Returns fn(key) for many keys, by a compiled loop over groups of `at_once`."""
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.jit(lambda k: jax.lax.map(fn, k, batch_size=at_once))(keys)


def deviations(samples: Any, expected: Any) -> np.ndarray:
    """Returns the deviations of the mean over axis 0 from the expected one, in standard errors."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return _in_errors(samples.mean(axis=0) - np.asarray(expected), error)


def covariance_deviations(samples: Any, expected: Any) -> np.ndarray:
    """Returns the deviations of the covariance of the last axis, in standard errors."""
    centred = np.asarray(samples, np.float64)
    centred = centred - centred.mean(axis=0)
    n = len(centred)
    covariance = centred.T @ centred / n
    error = np.sqrt(((centred**2).T @ centred**2 / n - covariance**2) / n)
    return _in_errors(covariance - np.asarray(expected), error)


def _in_errors(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    # 1e-6 is the precision of the float32 samples.
    return np.maximum(np.abs(difference) - 1e-6, 0.0) / np.maximum(error, 1e-12)
