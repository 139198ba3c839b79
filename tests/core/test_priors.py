"""Priors against scipy, and their divergences against quadrature and Monte Carlo."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from bnn_jax import gaussian, priors
from bnn_jax.gaussian import Gaussian
from bnn_jax.priors import LaplacePrior, NormalPrior, ScaleMixturePrior, StudentTPrior
from bnn_jax.priors.normal_kl import normal_kl
from core_helpers import assert_mean, data, key, random_posterior

PRIORS = {
    "normal": NormalPrior(0.2, 0.5),
    "laplace": LaplacePrior(-0.1, 0.4),
    "mixture": ScaleMixturePrior(0.25, 1.0, 0.1),
    "student": StudentTPrior(3.0, 0.3, 0.7),
}


WIDE, NARROW = scipy.stats.norm(0, 1.0), scipy.stats.norm(0, 0.1)


def mixture_log_prob(w: Any) -> Any:
    return np.logaddexp(np.log(0.25) + WIDE.logpdf(w), np.log(0.75) + NARROW.logpdf(w))


LOG_PROB = {
    "normal": scipy.stats.norm(0.2, 0.5).logpdf,
    "laplace": scipy.stats.laplace(-0.1, 0.4).logpdf,
    "mixture": mixture_log_prob,
    "student": scipy.stats.t(3.0, 0.3, 0.7).logpdf,
}
POSTERIORS = [(0.0, 0.1), (0.7, 0.02), (-1.5, 1.2), (0.2, 0.5), (-0.1, 3.0)]


def normal(mean: Any, std: Any, dtype: Any = jnp.float64) -> Gaussian:
    return gaussian.centred(jnp.asarray(mean, dtype), jnp.asarray(std, dtype))


def quadrature(log_a: Any, log_b: Any, low: float, high: float, kinks: tuple[float, ...]) -> float:
    """The integral of a (log a - log b)."""
    points = sorted(k for k in kinks if low < k < high)
    total = 0.0
    for start, end in zip([low, *points], [*points, high], strict=True):
        total += scipy.integrate.quad(
            lambda w: np.exp(log_a(w)) * (log_a(w) - log_b(w)), start, end, epsabs=1e-12, limit=500
        )[0]
    return total


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_log_prob_is_scipys(name: str, dtype: Any) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        w = jnp.linspace(-8.0, 8.0, 161, dtype=dtype)
        got = PRIORS[name].log_prob(w)
        assert got.dtype == dtype
        rtol = 2e-5 if dtype == jnp.float32 else 1e-12
        np.testing.assert_allclose(got, LOG_PROB[name](np.asarray(w)), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("df", [1.0, 30.0, 1e3, 1e6])
def test_student_log_prob_keeps_its_precision_at_any_degrees_of_freedom(df: float) -> None:
    w = jnp.linspace(-4.0, 4.0, 9)
    expected = scipy.stats.t(df, 0.0, 1.0).logpdf(np.asarray(w))
    np.testing.assert_allclose(StudentTPrior(df, 0.0, 1.0).log_prob(w), expected, rtol=3e-6)


@pytest.mark.parametrize("name", ["normal", "laplace"])
@pytest.mark.parametrize("reverse", [False, True])
def test_closed_form_kl_is_the_integral(name: str, reverse: bool) -> None:
    expected = []
    for mean, std in POSTERIORS:
        log_q = scipy.stats.norm(mean, std).logpdf
        if reverse:
            # The Laplace tail outlasts the normal: 80 scales.
            centre, width = (0.2, 20.0) if name == "normal" else (-0.1, 32.0)
            bounds = (centre - width, centre + width, (-0.5, -0.1, 0.2, mean, 1.0))
            expected.append(quadrature(LOG_PROB[name], log_q, *bounds))
        else:
            bounds = (mean - 40 * std, mean + 40 * std, (-0.1, mean))
            expected.append(quadrature(log_q, LOG_PROB[name], *bounds))
    means, stds = zip(*POSTERIORS, strict=True)
    with jax.enable_x64():
        exact = PRIORS[name].kl(normal(means, stds), reverse=reverse)
        np.testing.assert_allclose(exact, expected, rtol=1e-7, atol=1e-9)
    single = PRIORS[name].kl(normal(means, stds, jnp.float32), reverse=reverse)
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["normal", "laplace"])
@pytest.mark.parametrize("reverse", [False, True])
def test_closed_form_kl_is_the_mean_of_log_ratios(name: str, reverse: bool) -> None:
    q, prior = normal(0.5, 0.3, jnp.float32), PRIORS[name]
    if reverse:
        w = prior.sample(key(7), (40_000,))
        ratios = LOG_PROB[name](w) - scipy.stats.norm(0.5, 0.3).logpdf(w)
    else:
        w = gaussian.sample(key(7), Gaussian(*(jnp.full(40_000, v) for v in (q.mean, q.rho))))
        ratios = scipy.stats.norm(0.5, 0.3).logpdf(w) - LOG_PROB[name](w)
    assert_mean(ratios, prior.kl(q, reverse=reverse))


@pytest.mark.parametrize(
    ("prior", "log_p"),
    [
        (PRIORS["mixture"], mixture_log_prob),
        # With fewer degrees of freedom the reverse estimate has no variance.
        (StudentTPrior(9.0, 0.3, 0.7), scipy.stats.t(9.0, 0.3, 0.7).logpdf),
    ],
    ids=["mixture", "student"],
)
def test_monte_carlo_kl_is_unbiased(prior: Any, log_p: Any) -> None:
    log_q = scipy.stats.norm(0.4, 0.6).logpdf
    q = {"w": normal(0.4, 0.6, jnp.float32)}

    def estimates(k: Any) -> Any:
        forward, backward = jax.random.split(k)
        return (
            priors.kl_divergence(q, prior, key=forward),
            priors.kl_divergence(q, prior, key=backward, reverse=True),
        )

    forward, backward = jax.jit(jax.vmap(estimates))(jax.random.split(key(8), 20_000))
    kinks = (-0.5, 0.0, 0.4, 1.0)
    assert_mean(forward, quadrature(log_q, log_p, -24.0, 24.0, kinks))
    assert_mean(backward, quadrature(log_p, log_q, -200.0, 200.0, (-5.0, *kinks, 5.0)))


def test_monte_carlo_kl_is_taken_at_the_sampled_weights() -> None:
    posterior = {"a": random_posterior(1, 4), "b": random_posterior(2, 3, 2)}
    prior = PRIORS["mixture"]
    by_key = priors.kl_by_weight(posterior, prior, key=key(3))
    weights = gaussian.sample(key(3), posterior)
    by_weights = priors.kl_by_weight(posterior, prior, weights=weights)
    for name, q in posterior.items():
        log_q = scipy.stats.norm(np.asarray(q.mean), np.asarray(q.std)).logpdf(weights[name])
        expected = np.sum(log_q - mixture_log_prob(np.asarray(weights[name])))
        assert float(by_key[name]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert float(by_weights[name]) == pytest.approx(float(by_key[name]), rel=1e-5)


@pytest.mark.parametrize("ratio", [1 + 1e-2, 1 + 1e-3, 1 - 1e-3, 1.0])
def test_kl_near_zero_is_accurate_in_float32(ratio: float) -> None:
    q = Gaussian(jnp.asarray(0.0), gaussian.rho_from_std(jnp.asarray(0.1 * ratio)))
    std = np.float64(q.std)
    prior_std = np.float64(np.float32(0.1))
    x = (std / prior_std) ** 2 - 1
    expected = 0.5 * (x - np.log1p(x))
    for reverse in (False, True):
        got = float(NormalPrior(0.0, 0.1).kl(q, reverse=reverse))
        # The naive log ratio errs by 1e-7 here; x itself carries a few rounding errors.
        assert got == pytest.approx(
            expected, rel=0.02 if abs(x) > 1e-4 else 0, abs=1e-12 + 1e-6 * abs(x)
        )
        assert got >= -1e-12


@pytest.mark.parametrize("name", ["normal", "laplace"])
@pytest.mark.parametrize("reverse", [False, True])
def test_kl_and_its_gradient_are_finite_at_extremes(name: str, reverse: bool) -> None:
    mean, rho = jnp.meshgrid(
        jnp.asarray([-100.0, -0.1, 0.0, 0.2, 100.0]), jnp.asarray([-100.0, -30.0, -5.0, 0.0, 100.0])
    )

    def total(m: Any, r: Any) -> Any:
        return jnp.sum(PRIORS[name].kl(Gaussian(m, r), reverse=reverse))

    elements = PRIORS[name].kl(Gaussian(mean, rho), reverse=reverse)
    assert np.all(np.isfinite(elements))
    assert np.all(np.asarray(elements) > -1e-6)
    for grad in jax.jit(jax.grad(total, argnums=(0, 1)))(mean, rho):
        assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_finite_differences(name: str, reverse: bool) -> None:
    with jax.enable_x64():
        q = Gaussian(jnp.asarray([0.5, -0.3, 0.05]), jnp.asarray([-1.0, 0.5, -3.0]))

        def kl(m: Any, r: Any) -> Any:
            return priors.kl_divergence(
                {"w": Gaussian(m, r)}, PRIORS[name], key=key(4), reverse=reverse
            )

        h = 1e-6

        @jax.jit
        def gradients_and_differences(m: Any, r: Any) -> Any:
            bumps = h * jnp.eye(3)
            by_mean = jax.vmap(lambda b: kl(m + b, r) - kl(m - b, r))(bumps)
            by_rho = jax.vmap(lambda b: kl(m, r + b) - kl(m, r - b))(bumps)
            return jax.grad(kl, argnums=(0, 1))(m, r), (by_mean, by_rho)

        grads, differences = gradients_and_differences(q.mean, q.rho)
        for grad, difference in zip(grads, differences, strict=True):
            exact = np.asarray(difference) / (2 * h)
            assert np.asarray(grad) == pytest.approx(exact, rel=1e-6, abs=1e-7)


@pytest.fixture
def network() -> dict[str, Any]:
    return {
        "block": {
            "conv": {"kernel": random_posterior(1, 3, 2), "bias": random_posterior(2, 2)},
            "norm": {"scale": data(3, 2)},
        },
        "out": {"kernel": random_posterior(4, 2, 5), "bias": data(5, 5)},
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_second_derivatives_of_the_normal_kl_in_both_modes(reverse: bool) -> None:
    """Against the closed form: of KL(q || p) they are 1 / p^2 and 1 / s^2 + 1 / p^2."""
    m, s, p = 0.3, 0.7, 1.5

    def kl(x: jax.Array) -> jax.Array:
        a, b = (x[0], x[1]), (0.0, p)
        return normal_kl(b, a) if reverse else normal_kl(a, b)

    if reverse:
        square = p**2 + m**2
        cross = 2 * m * -1 / s**3  # of the mean and the std
        exact = [[1 / s**2, cross], [cross, -1 / s**2 + 3 * square / s**4]]
    else:
        exact = [[1 / p**2, 0.0], [0.0, 1 / s**2 + 1 / p**2]]
    x = jnp.asarray([m, s])
    for derivative in (jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))):
        np.testing.assert_allclose(jax.jit(derivative(kl))(x), exact, rtol=1e-5, atol=1e-6)


def test_by_weight_by_layer_and_total_agree(network: dict[str, Any]) -> None:
    prior = PRIORS["normal"]
    weights = priors.kl_by_weight(network, prior)
    layers = priors.kl_by_layer(network, prior)
    assert sorted(weights) == ["block/conv/bias", "block/conv/kernel", "out/kernel"]
    assert sorted(layers) == ["block/conv", "out"]
    conv = network["block"]["conv"]
    for name, q in (("bias", conv["bias"]), ("kernel", conv["kernel"])):
        assert float(weights[f"block/conv/{name}"]) == float(prior.kl(q).sum())
    two = float(weights["block/conv/bias"]) + float(weights["block/conv/kernel"])
    assert float(layers["block/conv"]) == pytest.approx(two, rel=1e-6)
    total = priors.kl_divergence(network, prior)
    assert float(total) == pytest.approx(sum(map(float, weights.values())), rel=1e-6)


def test_a_weight_at_the_root_is_its_own_layer() -> None:
    assert list(priors.kl_by_layer({"w": random_posterior(0, 2)}, NormalPrior())) == ["w"]


def test_no_random_weights_is_no_divergence() -> None:
    assert float(priors.kl_divergence({"w": data(0, 2)}, NormalPrior())) == 0.0


def test_reverse_is_the_other_direction(network: dict[str, Any]) -> None:
    prior = NormalPrior(0.1, 0.2)
    forward = priors.kl_divergence(network, prior)
    backward = priors.kl_divergence(network, prior, reverse=True)
    assert float(forward) != pytest.approx(float(backward), rel=0.01)
    q = random_posterior(3, 4)
    swapped = NormalPrior(q.mean, q.std).kl(
        Gaussian(jnp.full(4, 0.1), gaussian.rho_from_std(jnp.full(4, 0.2)))
    )
    np.testing.assert_allclose(prior.kl(q, reverse=True), swapped, rtol=1e-5)


def test_a_tree_gives_each_weight_its_own_prior(network: dict[str, Any]) -> None:
    tree = {
        "block": {"conv": {"kernel": LaplacePrior(), "bias": NormalPrior(0.0, 1.0)}},
        "out": {"kernel": NormalPrior(0.3, 2.0)},
    }
    got = priors.kl_by_weight(network, tree)
    conv = network["block"]["conv"]
    for name, prior in (("kernel", LaplacePrior()), ("bias", NormalPrior(0.0, 1.0))):
        expected = float(prior.kl(conv[name]).sum())
        assert float(got[f"block/conv/{name}"]) == pytest.approx(expected, rel=1e-6)


def test_a_tree_that_misses_a_weight_is_an_error(network: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no prior for the random weights .*out/kernel"):
        priors.kl_divergence(
            network, {"block": {"conv": {"kernel": NormalPrior(), "bias": NormalPrior()}}}
        )


def test_a_prior_of_another_shape_is_an_error() -> None:
    # It would broadcast, and count the divergence three times.
    with pytest.raises(ValueError, match="does not broadcast to the weight's shape"):
        priors.kl_divergence({"w": random_posterior(0, 1, 4)}, NormalPrior(data(0, 3, 4), 1.0))


def test_arrays_as_numbers_of_a_prior() -> None:
    q, mean, std = random_posterior(0, 2, 3), data(0, 2, 3), jnp.exp(data(1, 2, 3))
    got = NormalPrior(mean, std).kl(q)
    one = NormalPrior(float(mean[1, 2]), float(std[1, 2])).kl(Gaussian(q.mean[1, 2], q.rho[1, 2]))
    assert float(got[1, 2]) == pytest.approx(float(one), rel=1e-5)


def test_centred_on_weights_leaves_only_the_spread(network: dict[str, Any]) -> None:
    prior = priors.centred_on(network, 0.5)
    got = priors.kl_by_weight(network, prior)
    for name, q in gaussian.random_leaves(network).items():
        spread = NormalPrior(0.0, 0.5).kl(Gaussian(jnp.zeros_like(q.mean), q.rho))
        assert float(got[name]) == pytest.approx(float(spread.sum()), rel=1e-5)
    start = jax.tree.map(
        lambda w: gaussian.centred(w, 0.5), gaussian.mean(network), is_leaf=gaussian.is_gaussian
    )
    assert abs(float(priors.kl_divergence(start, prior))) < 1e-9
    # It is data: a tree of arrays that tree functions see.
    assert len(jax.tree.leaves(prior)) == 2 * len(jax.tree.leaves(gaussian.mean(network)))


def test_a_prior_passes_through_jit(network: dict[str, Any]) -> None:
    prior = priors.centred_on(network, 0.5)
    jitted = jax.jit(priors.kl_divergence)(network, prior)
    assert float(jitted) == pytest.approx(float(priors.kl_divergence(network, prior)), rel=1e-5)


def test_monte_carlo_without_a_key_is_an_error(network: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no closed-form KL.*'block/conv/bias'.*pass key="):
        priors.kl_divergence(network, StudentTPrior(3))
    weights = gaussian.mean(network)
    with pytest.raises(ValueError, match="pass key="):
        priors.kl_divergence(network, StudentTPrior(3), weights=weights, reverse=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormalPrior(0.0, 0.0), "NormalPrior: std must be positive and finite, got 0.0"),
        (lambda: ScaleMixturePrior(1.0, 1.0, 0.1), "pi must be above 0 and below 1"),
        (lambda: priors.centred_on({}, 0.0), "std must be positive"),
    ],
)
def test_numbers_out_of_range_are_errors(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_weights_in_low_precision_have_a_kl_in_float32(dtype: jnp.dtype) -> None:
    """It would overflow in float16: 256 x 256 weights have some 1e5 nats."""
    q = gaussian.centred(jnp.zeros((256, 256), dtype), 0.01)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), q)
    for prior in (priors.NormalPrior(), priors.centred_on({"w": q.mean}, std=0.1)["w"]):
        got = priors.kl_divergence({"w": q}, {"w": prior})
        assert got.dtype == jnp.float32
        expected = priors.kl_divergence({"w": wide}, priors.NormalPrior())
        np.testing.assert_allclose(got, expected, rtol=1e-5)
