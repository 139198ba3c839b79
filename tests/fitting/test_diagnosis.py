"""The diagnosis names what is wrong with a fit, and is silent on a healthy one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import NormalPrior, fit, gaussian, infer, likelihoods, to_bnn
from bnn_jax.fitting import Finding, diagnose
from bnn_jax.gaussian import Gaussian
from bnn_jax.posteriors import MeanField, Mixture, Point, Samples

X = np.ones((4, 8), np.float32)
HEALTHY = [{"epoch": 1, "nll": 0.3, "kl": 80.0, "loss": 0.5}]


def model() -> Any:
    network = nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(4)])
    variables = network.init(jax.random.key(0), X)
    return to_bnn(network, variables, prior=NormalPrior(std=1.0), initial_std=0.01)


def changed(mean: Any, std: Any) -> MeanField:
    """The initial posterior, with functions of each weight's mean and std."""

    def change(q: Gaussian) -> Gaussian:
        return gaussian.centred(mean(q.mean), std(q.std))

    tree = jax.tree.map(change, model().posterior, is_leaf=gaussian.is_gaussian)
    return MeanField(tree)


LEARNED = changed(lambda m: m + 0.5, lambda s: 8.0 * s)
UNMOVED = changed(lambda m: m + 0.5, lambda s: 1.02 * s)
AT_PRIOR = changed(jnp.zeros_like, jnp.ones_like)
NAN = MeanField(
    jax.tree.map(
        lambda q: Gaussian(q.mean * jnp.nan, q.rho), LEARNED.tree, is_leaf=gaussian.is_gaussian
    )
)


def problems(posterior: Any, history: Any = HEALTHY) -> list[str]:
    return [finding.problem for finding in diagnose(posterior, model(), history, 100)]


@pytest.mark.parametrize(
    "posterior",
    [
        LEARNED,
        Mixture.of([LEARNED, LEARNED]),
        Point(LEARNED.mean()),
        Samples.of([LEARNED.mean(), LEARNED.mean()]),
    ],
    ids=["MeanField", "Mixture", "Point", "Samples"],
)
def test_a_healthy_posterior_has_no_findings(posterior: Any) -> None:
    assert problems(posterior) == []


def test_widths_that_have_not_moved() -> None:
    (finding,) = diagnose(UNMOVED, model(), HEALTHY, 100)
    assert finding.problem == "widths_unmoved"
    assert finding.where in ("layers_0", "layers_2")
    assert "2 of 2 layers" in str(finding)
    assert "0.01 at first" in str(finding)
    assert problems(Mixture.of([UNMOVED, LEARNED])) == ["widths_unmoved"]


def test_layers_at_the_prior() -> None:
    found = diagnose(AT_PRIOR, model(), HEALTHY, 100)
    assert {f.problem for f in found} == {"collapsed_to_prior"}
    assert {f.where for f in found} == {"layers_0", "layers_2"}
    assert all("100% of the weights" in f.message for f in found)


def test_a_kl_that_dwarfs_the_data_loss() -> None:
    sick = [{"epoch": 1, "nll": 0.012, "kl": 11_300.0, "loss": 113.0}]
    (finding,) = diagnose(LEARNED, model(), sick, 100)
    assert finding.problem == "kl_dominates"
    assert "113 nats" in finding.message
    # A large KL beside a large data loss is the beginning of a training, and no KL is nothing.
    assert problems(LEARNED, [{"epoch": 1, "nll": 50.0, "kl": 11_300.0}]) == []
    assert problems(LEARNED, [{"epoch": 1, "nll": 0.012}]) == []


@pytest.mark.parametrize(("last", "expected"), [(300.0, ["loss_rose"]), (0.8, [])])
def test_a_data_loss_that_rose(last: float, expected: list[str]) -> None:
    assert problems(LEARNED, [{"epoch": 1, "nll": 0.5}, {"epoch": 2, "nll": last}]) == expected


def test_values_that_are_not_finite() -> None:
    (finding,) = diagnose(NAN, model(), HEALTHY, 100)
    assert finding.problem == "not_finite"
    assert "kernel" in finding.where or "bias" in finding.where
    assert problems(LEARNED, [{"epoch": 3, "nll": float("nan")}]) == ["loss_not_finite"]


@pytest.mark.parametrize("r_hat", [1.2, float("nan")])
def test_chains_that_have_not_mixed(r_hat: float) -> None:
    samples = Samples.of([LEARNED.mean()])
    assert problems(samples, [{"nll": 0.3, "r_hat": r_hat, "divergences": 0}]) == ["not_mixed"]
    assert problems(samples, [{"nll": 0.3, "r_hat": 1.01, "divergences": 0}]) == []


def test_divergences() -> None:
    samples = Samples.of([LEARNED.mean()])
    assert problems(samples, [{"nll": 0.3, "r_hat": 1.0, "divergences": 3}]) == ["divergences"]


def test_fit_reports_a_run_that_is_too_short_and_not_one_that_is_long_enough() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype(np.float32)
    y = (x[:, :1] + 0.3 * rng.normal(size=(64, 1))).astype(np.float32)
    network = nn.Dense(1)
    linear = to_bnn(
        network, network.init(jax.random.key(0), x), prior=NormalPrior(std=1.0), initial_std=0.005
    )

    def findings(epochs: int) -> list[Finding]:
        result = fit(
            jax.random.key(0),
            linear,
            (x, y),
            method=infer.bayes_by_backprop(learning_rate=0.02),
            likelihood=likelihoods.Normal(std=0.3),
            epochs=epochs,
            batch_size=32,
            progress=False,
        )
        return list(result.diagnosis)

    assert "widths_unmoved" in [finding.problem for finding in findings(1)]
    assert findings(200) == []
