"""Every inference method finds posteriors that are known exactly, and resumes bit for bit."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import method_cases as cases
import numpy as np
import pytest
from method_cases import METHODS

from bnn_jax import infer, posteriors
from trace_helpers import Counted

NAMES = list(METHODS)
POINTS = np.random.default_rng(3).normal(size=(8, 2))


@functools.cache
def linear_draws(name: str, noise_std: float, prior_std: float) -> np.ndarray:
    case = METHODS[name]
    problem = cases.linear_problem(case.steps, noise_std, prior_std)
    return cases.draws(cases.fitted(case.method, problem, cases.linear_data()))


def mean_error(name: str, noise_std: float, prior_std: float) -> float:
    """The largest error of a mean, in standard deviations of the exact posterior."""
    mean, std = cases.linear_exact()
    return float(np.abs(linear_draws(name, noise_std, prior_std).mean(axis=0) - mean).max() / std)


def std_ratios(name: str, noise_std: float, prior_std: float) -> np.ndarray:
    """Standard deviations of the weights and of the predictive, over the exact ones."""
    drawn = linear_draws(name, noise_std, prior_std)[..., 0]
    _, std = cases.linear_exact()
    x = np.random.default_rng(5).normal(size=(6, 4))
    predictive = (drawn @ x.T).std(axis=0) / (std * np.linalg.norm(x, axis=1))
    return np.concatenate([drawn.std(axis=0) / std, predictive])


def is_right(name: str, noise_std: float, prior_std: float) -> bool:
    case = METHODS[name]
    if mean_error(name, noise_std, prior_std) > case.mean:
        return False
    if case.std is None:
        return True
    ratios = std_ratios(name, noise_std, prior_std)
    return bool(np.all((ratios > case.std[0]) & (ratios < case.std[1])))


@pytest.mark.parametrize("name", NAMES)
def test_linear_regression(name: str) -> None:
    found = f"mean off by {mean_error(name, cases.NOISE_STD, cases.PRIOR_STD):.3f} std, stds " + (
        str(std_ratios(name, cases.NOISE_STD, cases.PRIOR_STD).round(2))
    )
    assert is_right(name, cases.NOISE_STD, cases.PRIOR_STD), found


# Each kind of posterior, and of bounds; the others are slow tests.
QUICK = {"map", "bayes_by_backprop", "swag", "sghmc", "hmc"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in NAMES]
)
@pytest.mark.parametrize(("noise_std", "prior_std"), [(0.5, 10.0), (1.0, 0.1)])
def test_the_bounds_reject_a_wrong_posterior(name: str, noise_std: float, prior_std: float) -> None:
    """Inference without the prior, or with a wrong noise scale, exceeds a bound."""
    assert not is_right(name, noise_std, prior_std)


@pytest.mark.parametrize("name", NAMES)
def test_logistic_regression(name: str) -> None:
    case = METHODS[name]
    posterior = cases.fitted(case.method, cases.logistic_problem(case.steps), cases.logistic_data())
    logits = cases.draws(posterior)[..., 0] @ POINTS.T
    found = (1 / (1 + np.exp(-logits))).mean(axis=0)
    assert np.abs(found - cases.logistic_exact(POINTS)).max() < case.tv


@functools.cache
def started(name: str) -> Any:
    run = METHODS[name].method.build(cases.linear_problem(METHODS[name].steps))
    step = Counted(run.step)
    x, y = cases.linear_data()
    batches = [(x[i : i + 16], y[i : i + 16]) for i in (0, 16, 32, 48)]
    if METHODS[name].method.whole_data:
        batches = [(x, y)] * 4
    return run, step, jax.jit(step), batches


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_is_the_uninterrupted_run(name: str) -> None:
    run, counted, step, batches = started(name)
    before = counted.traces
    key = jax.random.key(2)
    state = run.init(jax.random.key(1))
    assert int(state.step) == 0
    saved: Any = None
    for i, batch in enumerate(batches):
        if i == 2:
            # Through plain arrays, as a checkpoint stores them.
            leaves, structure = jax.tree.flatten(state)
            saved = jax.tree.unflatten(
                structure, [jnp.asarray(np.asarray(leaf)) for leaf in leaves]
            )
        state, _ = step(state, key, batch)
    for batch in batches[2:]:
        saved, _ = step(saved, key, batch)
    assert int(state.step) == 4
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(saved), strict=True):
        np.testing.assert_array_equal(one, other)
    assert counted.traces <= before + 1


@pytest.mark.parametrize("name", NAMES)
def test_the_posterior_has_the_structure_of_the_params(name: str) -> None:
    run, _, _, _ = started(name)
    state = run.init(jax.random.key(1))
    posterior = run.posterior(state)
    assert isinstance(posterior, posteriors.Posterior)
    assert jax.tree.map(np.shape, posterior.sample(jax.random.key(0))) == {"w": (4, 1)}
    assert jax.tree.map(np.shape, posterior.mean()) == {"w": (4, 1)}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_method(name: str) -> None:
    assert isinstance(METHODS[name].method, infer.Method)
