"""The Laplace approximation: the choice of the prior, the linearised predictive, wrong calls."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from laplace_cases import (
    PRIOR,
    X,
    all_paths,
    batches,
    covariance,
    finished,
    flat_ggn,
    paths_and_places,
    problem,
    summed,
    whole,
)

from bnn_jax import LaplacePrior, NormalPrior, gaussian, infer, likelihoods, predict, to_bnn
from bnn_jax.infer import Problem, curvature
from bnn_jax.infer.methods import laplace
from bnn_jax.posteriors import Linearised, Mixture, Samples
from bnn_jax.priors import centred_on


def key() -> jax.Array:
    return jax.random.key(5)


def log_evidence(matrix: np.ndarray, weights: np.ndarray, precision: float) -> float:
    """What depends on the prior precision of a layer, in nats."""
    _, log_det = np.linalg.slogdet(matrix + precision * np.eye(len(matrix)))
    return 0.5 * float(len(weights) * np.log(precision) - precision * weights @ weights - log_det)


def blocks_of(kind: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{layer: (G as this curvature has it, weights)}, without eigenvalues."""
    of = problem()
    flat = np.asarray(ravel_pytree(of.params)[0], np.float64)
    places = dict(paths_and_places(of.params))
    whole_matrix = flat_ggn("categorical")
    if kind == "last_layer":
        rows = np.concatenate([places[path] for path in ("last/bias", "last/kernel")])
        return {"last_layer": (whole_matrix[np.ix_(rows, rows)], flat[rows])}
    matrix = np.diag(np.diag(whole_matrix))
    if kind == "kronecker":
        sums, totals = summed(of, "kronecker", [whole("categorical")])
        for path, tap in sums.taps.items():
            product = np.kron(*(np.asarray(a, np.float64) for a in totals[path]))
            matrix[np.ix_(places[path], places[path])] = product / (12 * tap.positions)
    found = {}
    for layer in of.params:
        rows = np.concatenate([places[f"{layer}/{leaf}"] for leaf in ("bias", "kernel")])
        found[layer] = (matrix[np.ix_(rows, rows)], flat[rows])
    return found


@pytest.mark.parametrize("kind", ["last_layer", "diagonal", "kronecker"])
def test_the_prior_has_the_largest_marginal_likelihood_of_a_grid(kind: Any) -> None:
    state, posterior = finished(infer.laplace(curvature=kind), problem(), batches("categorical"))
    grid = np.geomspace(1e-3, 1e3, 6001)
    x, y = whole("categorical")
    of = problem()
    best = -12 * float(of.likelihood.nll(of.model.network.call(of.params, {}, x), y))
    for layer, (matrix, weights) in blocks_of(kind).items():
        values = [log_evidence(matrix, weights, p) for p in grid]
        np.testing.assert_allclose(state.precision[layer], grid[np.argmax(values)], rtol=5e-3)
        best += max(values)
    np.testing.assert_allclose(state.log_evidence, best, rtol=1e-4)
    # The posterior has this precision.
    layer = "last_layer" if kind == "last_layer" else "last"
    matrix, _ = blocks_of(kind)[layer]
    exact = np.linalg.inv(matrix + float(state.precision[layer]) * np.eye(len(matrix)))
    rows = np.concatenate([p for path, p in paths_and_places(of.params) if "last" in path])
    found = covariance(posterior)[np.ix_(rows, rows)]
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4)


def test_the_numbers_are_reported() -> None:
    run = infer.laplace(curvature="diagonal", prior_precision="prior").build(problem())
    assert run.diagnostics is not None
    assert run.finish is not None
    state = run.init(jax.random.key(0))
    assert run.diagnostics(state) == {}
    numbers = run.diagnostics(run.finish(state, lambda: batches("categorical")))
    assert numbers["prior_std/hidden"] == pytest.approx(PRIOR, rel=1e-5)
    assert np.isfinite(numbers["log_evidence"])


def network(params: Any, variables: Any, x: Any) -> Any:
    return problem().model.network.call(params, {}, x)


@pytest.mark.parametrize("kind", ["last_layer", "diagonal", "kronecker"])
def test_linearised_outputs_are_those_of_the_tangent(kind: Any) -> None:
    _, posterior = finished(infer.laplace(curvature=kind), problem(), batches("categorical"))
    assert isinstance(posterior, Linearised)
    x = jnp.asarray(X)
    mean, restore = ravel_pytree(posterior.mean())
    change = ravel_pytree(posterior.sample(key()))[0] - mean
    jacobian = jax.jacrev(lambda w: network(restore(w), None, x))(mean)
    expected = network(posterior.mean(), None, x) + jacobian @ change
    found = posterior.outputs(key(), network, None, (x,))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if kind == "last_layer":  # which is linear
        sampled = network(posterior.sample(key()), None, x)
        np.testing.assert_allclose(found, sampled, rtol=1e-4, atol=1e-5)


def test_predictions_of_a_mixture_take_turns_and_are_linearised() -> None:
    method = infer.laplace(curvature="diagonal")
    _, one = finished(method, problem(), batches("categorical"))
    moved = jax.tree.map(lambda a: 0.5 * a, problem().params)
    _, other = finished(method, problem(), batches("categorical"), moved)
    mixture = Mixture.of([one, other])
    x = jnp.asarray(X)
    found = predict(
        key(),
        problem().model,
        x,
        4,
        posterior=mixture,
        likelihood=likelihoods.Categorical(),
        keep_samples=True,
    )
    for i, member in enumerate([one, other, one, other]):
        draw_key = jax.random.fold_in(key(), i)
        expected = member.outputs(draw_key, network, None, (x,))
        np.testing.assert_allclose(found.samples[i], expected, rtol=1e-4, atol=1e-5)


def test_a_diagonal_draw_is_that_of_a_mean_field_posterior() -> None:
    method = infer.laplace(curvature="diagonal", predictive="sampled")
    _, posterior = finished(method, problem(), batches("categorical"))
    stds = iter([factor.std for factor in posterior.factors])
    tree = jax.tree.map(lambda mean: gaussian.centred(mean, next(stds)), posterior.mean())
    drawn = posterior.sample(key()), gaussian.sample(key(), tree)
    for one, other in zip(*map(jax.tree.leaves, drawn), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["last_layer", "kronecker"])
def test_draws_have_the_covariance_of_the_factors(kind: Any) -> None:
    method = infer.laplace(curvature=kind, predictive="sampled")
    _, posterior = finished(method, problem(), batches("categorical"))
    keys = jax.random.split(key(), 20_000)
    drawn = jax.jit(jax.vmap(lambda k: ravel_pytree(posterior.sample(k))[0]))(keys)
    exact = covariance(posterior)
    variances = np.diag(exact)
    # The standard error of an empirical covariance of normal variables.
    error = np.sqrt((exact**2 + np.outer(variances, variances)) / len(keys))
    assert np.all(np.abs(np.cov(np.asarray(drawn).T) - exact) <= 5.5 * error + 1e-7)


def test_batches_in_parts_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [whole("categorical")]
    _, at_once = summed(problem(), "kronecker", data)
    monkeypatch.setattr(curvature, "MAX_NUMBERS", 700)
    _, in_parts = summed(problem(), "kronecker", data)
    for one, other in zip(*map(jax.tree.leaves, (at_once, in_parts)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_probes_in_the_place_of_many_outputs_have_the_right_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def softmax_regression(params: Any, x: Any) -> Any:
        return x @ params["w"]

    rng = np.random.default_rng(2)
    model = to_bnn(softmax_regression, {"w": jnp.zeros((3, 6))}, where="*")
    of = Problem(model, model.forward(), likelihoods.Categorical(), 400, 10)
    x = jnp.asarray(rng.normal(size=(400, 3)), jnp.float32)
    data = [(x, jnp.zeros(400, jnp.int32))]
    _, exact = summed(of, "diagonal", data)
    monkeypatch.setattr(curvature, "EXACT_OUTPUTS", 4)
    _, found = summed(of, "diagonal", data)
    assert not np.array_equal(found["w"], exact["w"])
    # The variance of the mean of 8 squares of sums of signs is at most 2 / 8 of the square.
    error = np.sqrt(2 / 8 * np.sum((np.asarray(x) ** 2 * 5 / 36) ** 2, axis=0))[:, None]
    assert np.all(np.abs(found["w"] - exact["w"]) < 5 * error)


WRONG_HYPER_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "learning rate": ({"learning_rate": 0.0}, "learning_rate must be a positive number"),
    "curvature": ({"curvature": "full"}, "curvature must be one of 'last_layer', .*got 'full'"),
    "prior": ({"prior_precision": 1.0}, "prior_precision must be one of .*got 1.0"),
    "predictive": ({"predictive": "linear"}, "predictive must be one of .*got 'linear'"),
}


@pytest.mark.parametrize("case", WRONG_HYPER_PARAMETERS)
def test_wrong_hyper_parameters(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    options, message = WRONG_HYPER_PARAMETERS[case]
    with pytest.raises(ValueError, match=message):
        infer.laplace(**options)


def with_inputs(of: Problem) -> Problem:
    return dataclasses.replace(of, inputs=jax.ShapeDtypeStruct(X.shape, jnp.float32))


def test_an_unsuitable_problem_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = infer.laplace(prior_precision="prior")
    with pytest.raises(ValueError, match="needs a NormalPrior, and that of conv/bias is a Laplace"):
        prior.build(problem(prior=LaplacePrior()))
    own = problem()
    wide = jax.tree.map(lambda w: NormalPrior(w, jnp.full(w.shape, 0.5)), own.params)
    model = dataclasses.replace(own.model, prior=wide)
    kronecker = infer.laplace(curvature="kronecker", prior_precision="prior")
    with pytest.raises(ValueError, match="needs one prior std .*conv/bias has 2"):
        kronecker.build(dataclasses.replace(own, model=model))
    first = to_bnn(own.model.network.module, {"params": own.params}, where="conv/*")
    with pytest.raises(ValueError, match="no weight of the last layer .last/bias, last/kernel."):
        infer.laplace().build(with_inputs(dataclasses.replace(own, model=first)))
    monkeypatch.setattr(laplace, "MAX_LAST_LAYER", 11)
    with pytest.raises(ValueError, match="last layer has 12 random weights.* at most 11"):
        infer.laplace().build(with_inputs(own))
    monkeypatch.setattr(curvature, "MAX_OUTPUTS", 2)
    with pytest.raises(ValueError, match="3 outputs for each example.* at most 2"):
        infer.laplace(curvature="diagonal").build(with_inputs(own))


def test_no_data_are_refused() -> None:
    run = infer.laplace().build(problem())
    assert run.finish is not None
    with pytest.raises(ValueError, match="got no batches"):
        run.finish(run.init(jax.random.key(0)), list)


def test_a_prior_centred_on_weights_has_its_mean_in_the_evidence() -> None:
    own = problem()
    centred = dataclasses.replace(own.model, prior=centred_on(own.params, 0.5))
    state, _ = finished(
        infer.laplace(), dataclasses.replace(own, model=centred), batches("categorical")
    )
    # The weights are at the prior's mean, so the narrowest prior is the best.
    np.testing.assert_allclose(state.precision["last_layer"], 1e8, rtol=1e-3)
    assert len(all_paths(own)) == 8


def test_the_posterior_is_the_map_estimate_until_it_is_finished() -> None:
    run = infer.laplace().build(problem())
    posterior = run.posterior(run.init(jax.random.key(0)))
    assert not isinstance(posterior, Samples | Linearised)
    assert posterior.size == 1
