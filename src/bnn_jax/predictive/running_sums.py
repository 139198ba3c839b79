"""Running means over weight samples, updated with each sample.

For classes: the means of probabilities and of entropies. For numbers: the mean, the sum of squared
deviations (Welford 1962, "Note on a method for calculating corrected sums of squares and products")
and the mean of variances. The log probability of targets is a running log-sum-exp.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax import likelihoods

Sums = dict[str, Array]
Function = Callable[[PyTree], Array]  # of the outputs
Known = likelihoods.Classification | likelihoods.Regression


@dataclasses.dataclass(frozen=True)
class OfClasses:
    """Sums for a classification likelihood."""

    likelihood: likelihoods.Classification

    def terms(self, outputs: PyTree) -> Sums:
        probabilities = self.likelihood.probabilities(outputs)
        return {
            "probabilities": probabilities,
            "entropy": self.likelihood.entropy(probabilities),
        }

    def update(self, sums: Sums, s: Array, outputs: PyTree) -> Sums:
        return jax.tree.map(lambda mean, new: _mean(mean, new, s), sums, self.terms(outputs))

    def summary(self, sums: Sums, count: Array) -> Sums:
        probabilities, expected = sums["probabilities"], sums["entropy"]
        # Never negative in exact arithmetic.
        information = jnp.maximum(self.likelihood.entropy(probabilities) - expected, 0.0)
        return {
            "probabilities": probabilities,
            "expected_entropy": expected,
            "mutual_information": information,
        }

    def merged(self, parts: Sums, counts: Array) -> Sums:
        return jax.tree.map(lambda means: _merged_mean(means, counts), parts)


@dataclasses.dataclass(frozen=True)
class OfNumbers:
    """Sums for a regression likelihood, or for a function of the outputs."""

    likelihood: likelihoods.Regression | Function

    def terms(self, outputs: PyTree) -> Sums:
        if not isinstance(self.likelihood, likelihoods.Regression):
            value = likelihoods.at_least_float32(self.likelihood(outputs))
            return {"mean": value, "variance": jnp.zeros_like(value)}
        mean = self.likelihood.mean(outputs)
        return {"mean": mean, "variance": self.likelihood.variance(outputs)}

    def update(self, sums: Sums, s: Array, outputs: PyTree) -> Sums:
        new = self.terms(outputs)
        before = new["mean"] - sums["mean"]
        mean = _mean(sums["mean"], new["mean"], s)
        return {
            "mean": mean,
            "squares": sums["squares"] + before * (new["mean"] - mean),
            "variance": _mean(sums["variance"], new["variance"], s),
        }

    def summary(self, sums: Sums, count: Array) -> Sums:
        return {
            "mean": sums["mean"],
            "aleatoric_variance": sums["variance"],
            "epistemic_variance": sums["squares"] / count,
        }

    def merged(self, parts: Sums, counts: Array) -> Sums:
        mean = _merged_mean(parts["mean"], counts)
        weights = _like(counts, parts["mean"])
        between = weights * jnp.square(parts["mean"] - mean[None])
        return {
            "mean": mean,
            "squares": jnp.sum(parts["squares"] + between, axis=0),
            "variance": _merged_mean(parts["variance"], counts),
        }


@dataclasses.dataclass(frozen=True)
class RunningSums:
    """The sums of a likelihood, and of the log probability of targets if there are any."""

    of: OfClasses | OfNumbers
    likelihood: Known | Function

    def zero(self, shapes: PyTree, targets: Array | None) -> Sums:
        """Returns the sums before the first sample; `shapes` are those of the outputs."""
        terms = jax.eval_shape(self.of.terms, shapes)
        if isinstance(self.of, OfNumbers):
            terms["squares"] = terms["mean"]
        sums = {name: jnp.zeros(term.shape, term.dtype) for name, term in terms.items()}
        if targets is not None and isinstance(self.likelihood, Known):
            term = jax.eval_shape(self.likelihood.log_prob, shapes, targets)
            sums["log_prob"] = jnp.full(term.shape, -jnp.inf, term.dtype)
        return sums

    def add(self, sums: Sums, s: Array, outputs: PyTree, targets: Array | None) -> Sums:
        """Returns the sums with the outputs of weight sample s, counted from 0."""
        sums = dict(sums)
        if targets is None or not isinstance(self.likelihood, Known):
            return self.of.update(sums, s, outputs)
        log_prob = jnp.logaddexp(sums.pop("log_prob"), self.likelihood.log_prob(outputs, targets))
        return {**self.of.update(sums, s, outputs), "log_prob": log_prob}

    def summary(self, sums: Sums, num_samples: Array) -> Sums:
        """Returns the means over all samples, under the names of `predictions`."""
        sums = dict(sums)
        total = sums.pop("log_prob", None)
        dtype = jax.tree.leaves(sums)[0].dtype
        count = num_samples.astype(dtype)
        summary = self.of.summary(sums, count)
        if total is not None:
            summary["log_prob"] = total - jnp.log(count).astype(total.dtype)
        return summary

    def merged(self, parts: Sums, counts: Array) -> Sums:
        """Returns the sums over all samples from those over parts of them.

        Args:
            parts: sums with the parts on a new axis 0.
            counts: (parts,) the number of samples of each part, which may be 0.
        """
        parts = dict(parts)
        log_prob = parts.pop("log_prob", None)
        merged = self.of.merged(parts, counts)
        if log_prob is not None:
            merged["log_prob"] = jax.nn.logsumexp(log_prob, axis=0)
        return merged


def _mean(mean: Array, new: Array, s: Array) -> Array:
    """Returns the mean of s + 1 values from the mean of the first s; infinity stays."""
    step = jnp.where(jnp.isinf(new), new, new - mean)
    return mean + step / (s + 1).astype(mean.dtype)


def _merged_mean(means: Array, counts: Array) -> Array:
    """Returns the mean over all samples from the means of parts, on axis 0, and their sizes."""
    share = _like(counts, means) / jnp.sum(counts).astype(means.dtype)
    return jnp.sum(share * means, axis=0)


def _like(counts: Array, parts: Array) -> Array:
    """Returns the counts (parts,) with further axes of size 1, for the arrays of the parts."""
    return counts.reshape(-1, *(1,) * (parts.ndim - 1)).astype(parts.dtype)


def of(likelihood: Known | Function) -> RunningSums:
    if isinstance(likelihood, likelihoods.Classification):
        return RunningSums(OfClasses(likelihood), likelihood)
    return RunningSums(OfNumbers(likelihood), likelihood)
