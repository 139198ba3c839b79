"""Signs that a posterior was not learned, each with its cause and what to change.

A healthy fit has no findings. The checks look at the posterior, where it started, the prior and
the history; they know posteriors by their kind, and no method.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian, priors
from bnn_jax.gaussian import Gaussian
from bnn_jax.posteriors import MeanField, Mixture, Posterior
from bnn_jax.transforms import BayesianModel

# A width counts as unmoved within this factor of its start; posteriors of trained networks move
# their median width by 1.5 and more, or reach the prior's.
UNMOVED = 1.25
# Share of weights at the prior's mean and width from which a layer counts as unused.
AT_PRIOR = 0.98
# The KL counts as dominant from so many nats an example, and so many times the data loss.
DOMINANT_NATS, DOMINANT_RATIO = 5.0, 20.0
# The largest R-hat of chains that have mixed (Vehtari et al. 2021, arXiv:1903.08008, say 1.01).
LARGEST_R_HAT = 1.05


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        problem: a short name: loss_not_finite, widths_unmoved, kl_dominates, collapsed_to_prior,
            not_mixed, divergences, few_samples.
        where: the layer, or "" for the whole network.
        message: one sentence on what was seen and what to change.
    """

    problem: str
    where: str
    message: str

    def __str__(self) -> str:
        return self.message


def diagnose(
    posterior: Posterior, model: BayesianModel, history: Sequence[Mapping[str, Any]], num_data: int
) -> list[Finding]:
    """Returns what is wrong with a posterior; an empty list for a healthy one.

    Args:
        posterior: the result.
        model: the model as given to `fit`: its posterior is where the fit started.
        history: numbers of each epoch.
        num_data: number of training examples.
    """
    findings = _finite(posterior, history)
    if findings:
        return findings
    findings = _rising_loss(history)
    tree = _mean_field_tree(posterior)
    if tree is not None:
        findings += _widths(tree, model) + _collapsed(tree, model)
        findings += _kl_dominates(history, num_data)
    return findings + _chains(history)


def _mean_field_tree(posterior: Posterior) -> PyTree | None:
    if isinstance(posterior, Mixture):
        return _mean_field_tree(posterior.component(0))
    return posterior.tree if isinstance(posterior, MeanField) else None


def _finite(posterior: Posterior, history: Sequence[Mapping[str, Any]]) -> list[Finding]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and not bool(
            jnp.all(jnp.isfinite(leaf))
        ):
            name = gaussian.path_name(path)
            return [
                Finding(
                    "not_finite",
                    name,
                    f"{name} holds values that are not finite: lower the learning rate, and check "
                    "the data for NaN and the prior's scale.",
                )
            ]
    for line in history:
        if not math.isfinite(line.get("nll", 0.0)):
            return [
                Finding(
                    "loss_not_finite",
                    "",
                    f"The loss is not finite in epoch {line.get('epoch')}: lower the learning "
                    "rate, and check the data for NaN.",
                )
            ]
    return []


def _rising_loss(history: Sequence[Mapping[str, Any]]) -> list[Finding]:
    losses = [line["nll"] for line in history if "nll" in line]
    if not losses or losses[-1] <= losses[0] + max(1.0, abs(losses[0])):
        return []
    return [
        Finding(
            "loss_rose",
            "",
            f"The data loss rose from {losses[0]:.3g} nats an example in the first epoch to "
            f"{losses[-1]:.3g} in the last: lower the learning rate.",
        )
    ]


def _by_layer(tree: PyTree) -> dict[str, dict[str, Gaussian]]:
    layers: dict[str, dict[str, Gaussian]] = {}
    for path, leaf in gaussian.random_leaves(tree).items():
        layers.setdefault(path.rpartition("/")[0] or path, {})[path] = leaf
    return layers


def _median_std(leaves: Mapping[str, Gaussian]) -> float:
    return float(np.median(np.concatenate([np.ravel(leaf.std) for leaf in leaves.values()])))


def _widths(tree: PyTree, model: BayesianModel) -> list[Finding]:
    """Layers whose widths have neither moved from their start nor reached the prior's."""
    started = _by_layer(model.posterior)
    stuck: dict[str, tuple[float, float]] = {}
    layers = _by_layer(tree)
    for name, leaves in layers.items():
        before, after = _median_std(started[name]), _median_std(leaves)
        wide = _prior_std(model, next(iter(leaves)))
        moved = max(after / before, before / after)
        if moved < UNMOVED and (wide is None or after < 0.5 * wide):
            stuck[name] = (before, after)
    if not stuck or len(stuck) < 0.5 * len(layers):
        return []
    name, (before, after) = max(stuck.items(), key=lambda item: item[1][1])
    return [
        Finding(
            "widths_unmoved",
            name,
            f"The posterior widths of {len(stuck)} of {len(layers)} layers have hardly moved from "
            f"their start (median std of {name}: {before:.2g} at first, {after:.2g} now), so they "
            "say nothing about the data: train for more steps, raise the learning rate, or start "
            "wider (initial_std).",
        )
    ]


def _prior_std(model: BayesianModel, path: str) -> float | None:
    prior = model.prior
    own = prior if isinstance(prior, priors.Prior) else priors.prior_leaves(prior)[path]
    value = getattr(own, "std", None)
    return None if value is None else float(np.median(np.asarray(value)))


def _collapsed(tree: PyTree, model: BayesianModel) -> list[Finding]:
    """Layers whose weights have kept the prior: they carry no information."""
    findings = []
    for name, leaves in _by_layer(tree).items():
        at_prior, count = 0, 0
        for path, leaf in leaves.items():
            prior = model.prior
            own = prior if isinstance(prior, priors.Prior) else priors.prior_leaves(prior)[path]
            if not isinstance(own, priors.NormalPrior):
                continue
            std, mean = np.asarray(own.std), np.asarray(own.mean)
            near = (np.abs(leaf.mean - mean) < 0.1 * std) & (np.abs(leaf.std / std - 1) < 0.1)
            at_prior, count = at_prior + int(near.sum()), count + leaf.size
        if count and at_prior / count > AT_PRIOR:
            findings.append(
                Finding(
                    "collapsed_to_prior",
                    name,
                    f"{at_prior / count:.0%} of the weights of {name} have the prior's mean and "
                    "width, so the layer carries no information: use a narrower prior, a smaller "
                    "network, a longer KL warm-up, or more data.",
                )
            )
    return findings


def _kl_dominates(history: Sequence[Mapping[str, Any]], num_data: int) -> list[Finding]:
    if not history or "kl" not in history[-1]:
        return []
    kl, nll = history[-1]["kl"] / num_data, history[-1]["nll"]
    if not math.isfinite(kl) or kl < DOMINANT_NATS or kl < DOMINANT_RATIO * abs(nll):
        return []
    return [
        Finding(
            "kl_dominates",
            "",
            f"The KL divergence ({kl:.3g} nats an example) dwarfs the data loss ({nll:.3g}), so "
            "the ELBO has not been optimised: train for more steps, start with wider posteriors "
            "(initial_std), or use a wider prior.",
        )
    ]


def _chains(history: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Markov chains that have not mixed, from the numbers that their method reports."""
    last = history[-1] if history else {}
    findings = []
    if not last.get("r_hat", 1.0) <= LARGEST_R_HAT:
        findings.append(
            Finding(
                "not_mixed",
                "",
                f"The chains have not mixed: R-hat of the log density is {last['r_hat']:.2f}, and "
                f"must be below {LARGEST_R_HAT}: take more steps, or a longer warm-up.",
            )
        )
    if last.get("divergences", 0) > 0:
        findings.append(
            Finding(
                "divergences",
                "",
                f"{int(last['divergences'])} transitions diverged: raise target_acceptance, or use "
                "a prior that keeps scales away from zero.",
            )
        )
    return findings
