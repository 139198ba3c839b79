"""Every prior must pass these tests; a new prior is added to PRIORS."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bnn_jax import gaussian
from bnn_jax.gaussian import Gaussian
from bnn_jax.priors import LaplacePrior, NormalPrior, Prior, ScaleMixturePrior, StudentTPrior
from core_helpers import assert_mean, key

PRIORS: dict[str, Prior] = {
    "normal": NormalPrior(0.2, 0.5),
    "narrow normal": NormalPrior(-3.0, 0.01),
    "laplace": LaplacePrior(-0.1, 0.4),
    "mixture": ScaleMixturePrior(0.25, 1.0, 0.1),
    "student": StudentTPrior(5.0, 0.3, 0.7),
}
# Normal posteriors for the divergences: means and standard deviations.
MEANS, STDS = np.asarray([0.0, 0.7, -1.5, -0.1]), np.asarray([0.1, 0.05, 1.2, 3.0])

LOCATIONS = ("mean", "loc")  # parameters that may be zero or negative
DRAWS = 20_000

each_prior = pytest.mark.parametrize("name", PRIORS)
each_direction = pytest.mark.parametrize("reverse", [False, True])


def fields(prior: Prior) -> dict[str, float]:
    return {name: float(value) for name, value in vars(prior).items()}


def parameter_names(*names: str) -> list[tuple[str, str]]:
    return [(n, f) for n in names or PRIORS for f in fields(PRIORS[n])]


def log_density(prior: Prior, w: np.ndarray) -> np.ndarray:
    """The log density in float64."""
    with jax.enable_x64():
        return np.asarray(jax.jit(prior.log_prob)(jnp.asarray(w, jnp.float64)))


def grid(centre: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Points around a centre and their trapezoidal weights; sinh reaches tails of 1e13 scales."""
    t = np.linspace(-32.0, 32.0, 20_001)
    return centre + scale * np.sinh(t), (t[1] - t[0]) * scale * np.cosh(t)


def grid_of(prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    numbers = fields(prior)
    centre = next((numbers[name] for name in LOCATIONS if name in numbers), 0.0)
    scales = [value for name, value in numbers.items() if "std" in name or name == "scale"]
    return grid(centre, min(scales))


@each_prior
def test_the_density_integrates_to_one(name: str) -> None:
    w, weights = grid_of(PRIORS[name])
    assert np.sum(np.exp(log_density(PRIORS[name], w)) * weights) == pytest.approx(1.0, abs=1e-6)


@each_prior
def test_samples_have_the_density(name: str) -> None:
    w, weights = grid_of(PRIORS[name])
    density = np.exp(log_density(PRIORS[name], w)) * weights
    cdf = np.cumsum(density) - 0.5 * density
    drawn = np.asarray(PRIORS[name].sample(key(1), (DRAWS,)), np.float64)
    distance = stats.kstest(drawn, lambda x: np.interp(x, w, cdf)).statistic
    # The distance exceeds c / sqrt(n) with probability 2 exp(-2 c^2): 5 standard errors.
    assert distance < np.sqrt(-0.5 * np.log(stats.norm.sf(5.0)) / DRAWS)
    for power in (1, 2):
        # The fourth moment is finite, or the standard error of the second is not.
        if np.sum(density * np.abs(w) ** (2 * power)) < 1e3:
            assert_mean(drawn**power, np.sum(density * w**power))
    assert not np.array_equal(drawn, PRIORS[name].sample(key(2), (DRAWS,)))


@each_prior
@each_direction
def test_a_closed_form_divergence_is_the_integral(name: str, reverse: bool) -> None:
    prior = PRIORS[name]

    def closed_form(dtype: type) -> jax.Array | None:
        q = gaussian.centred(jnp.asarray(MEANS, dtype), jnp.asarray(STDS, dtype))
        return prior.kl(q, reverse=reverse)

    if closed_form(jnp.float32) is None:
        return
    expected = []
    for mean, std in zip(MEANS, STDS, strict=True):
        w, weights = grid_of(prior) if reverse else grid(mean, std)
        log_p, log_q = log_density(prior, w), stats.norm(mean, std).logpdf(w)
        of, relative_to = (log_p, log_q) if reverse else (log_q, log_p)
        density = np.exp(of)
        ratio = np.where(density > 0, of - relative_to, 0.0)
        expected.append(np.sum(density * ratio * weights))
    with jax.enable_x64():
        np.testing.assert_allclose(closed_form(jnp.float64), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(closed_form(jnp.float32), expected, rtol=2e-5, atol=1e-6)


@each_prior
def test_derivatives_are_finite(name: str) -> None:
    w = jnp.asarray([-100.0, -1.0, -1e-3, 0.0, 1e-3, 0.2, 1.0, 100.0])

    def value(prior: Prior, w: jax.Array, q: Gaussian) -> jax.Array:
        divergences = [prior.kl(q), prior.kl(q, reverse=True)]
        known = [jnp.sum(kl) for kl in divergences if kl is not None]
        return jnp.sum(prior.log_prob(w)) + sum(known, start=jnp.zeros(()))

    q = Gaussian(w, jnp.linspace(-15.0, 15.0, len(w)))
    numbers = jax.tree.map(jnp.asarray, PRIORS[name])
    for leaf in jax.tree.leaves(jax.jit(jax.grad(value, argnums=(0, 1, 2)))(numbers, w, q)):
        assert np.all(np.isfinite(leaf))


@each_prior
def test_the_slope_of_the_density_is_its_difference(name: str) -> None:
    with jax.enable_x64():
        # No point is a kink of one of the densities.
        prior, w, h = PRIORS[name], jnp.linspace(-4.05, 3.95, 21), 1e-6
        slope = jax.grad(lambda w: jnp.sum(prior.log_prob(w)))(w)
        difference = (prior.log_prob(w + h) - prior.log_prob(w - h)) / (2 * h)
        np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)


@each_prior
def test_a_prior_is_a_pytree(name: str) -> None:
    prior = PRIORS[name]
    assert isinstance(prior, Prior)
    leaves, structure = jax.tree.flatten(prior)
    assert leaves == list(fields(prior).values())
    assert jax.tree.unflatten(structure, leaves) == prior
    paths = [gaussian.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(prior)]
    assert paths == list(fields(prior))


@each_prior
def test_jit_and_vmap_keep_the_values(name: str) -> None:
    prior = PRIORS[name]
    w = jnp.linspace(-2.0, 2.0, 6).reshape(2, 3)
    once = prior.log_prob(w)
    numbers = jax.tree.map(lambda x: jnp.full(2, x, jnp.float32), prior)
    by_row = jax.jit(jax.vmap(lambda p, x: p.log_prob(x)))(numbers, w)
    np.testing.assert_allclose(by_row, once, rtol=1e-5, atol=1e-5)
    drawn = jax.eval_shape(lambda p: p.sample(key(0), (3,)), jax.tree.map(jnp.asarray, prior))
    assert (drawn.shape, drawn.dtype) == ((3,), jnp.float32)


@each_prior
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_shape_and_dtype_are_kept(name: str, dtype: type) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        prior, w = PRIORS[name], jnp.ones((2, 3), dtype)
        q = gaussian.centred(w, 0.1)

        def results() -> list[jax.Array]:
            divergences = [prior.kl(q), prior.kl(q, reverse=True)]
            known = [kl for kl in divergences if kl is not None]
            return [prior.log_prob(w), prior.sample(key(1), (2, 3), dtype), *known]

        kinds = {(x.shape, x.dtype) for x in jax.eval_shape(results)}
        assert kinds == {((2, 3), jnp.dtype(dtype))}


@each_prior
def test_parameters_may_be_arrays_of_the_weights_shape(name: str) -> None:
    prior, factor = PRIORS[name], jnp.asarray([[0.5, 1.0, 0.9], [0.8, 0.7, 0.6]])
    w = jnp.linspace(-2.0, 2.0, 6).reshape(2, 3)
    q = gaussian.centred(w, 0.3)
    many = jax.tree.map(lambda x: x * factor, prior)
    assert jax.eval_shape(lambda: many.sample(key(0), (2, 3))).shape == (2, 3)

    def results(p: Prior, w: jax.Array, q: Gaussian) -> list[jax.Array]:
        values = [p.log_prob(w), p.kl(q), p.kl(q, reverse=True)]
        return [value for value in values if value is not None]

    whole = results(many, w, q)
    for i, j in itertools.product(range(2), range(3)):
        single = jax.tree.map(lambda x, i=i, j=j: x[i, j], (many, w, q))
        for one, value in zip(results(*single), whole, strict=True):
            np.testing.assert_allclose(value[i, j], one, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "field"), parameter_names())
def test_parameters_that_are_not_numbers_in_range_are_errors(name: str, field: str) -> None:
    numbers, cls = fields(PRIORS[name]), type(PRIORS[name])
    wrong = [float("nan"), float("inf"), -float("inf")]
    wrong += [] if field in LOCATIONS else [0.0, -1.0]
    for value in wrong:
        for given in (value, np.asarray([numbers[field], value]), jnp.asarray(value)):
            with pytest.raises(ValueError, match=rf"{cls.__name__}: {field} must be .*, got"):
                cls(**{**numbers, field: given})
