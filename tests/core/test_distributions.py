"""Every row of the table of distributions and bijectors in docs/mindspore.md, evaluated.

Two oracles: the values that MindSpore gave (tests/golden/distributions.json), and SciPy in float64.
"""

import importlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist
from numpyro.distributions import transforms
from scipy import stats

from bnn_jax import distributions
from distribution_oracles import (
    BIJECTOR,
    BIJECTORS,
    DISTRIBUTIONS,
    GOLDEN,
    PAIRS,
    POINTWISE,
    ROWS,
    STATISTICS,
    answers,
    assert_close,
    built,
    divergence,
    evaluate,
    expected,
    frozen,
    log_slope,
    mapping,
    oracle,
    range_of,
)


def test_the_table_has_every_class_and_method() -> None:
    methods = [f"d.{name}" for name in [*POINTWISE, *STATISTICS, *PAIRS, "sample"]]
    methods += [f"b.{name}" for name in BIJECTOR]
    public = GOLDEN["public"]["distribution"] + GOLDEN["public"]["bijector"]
    assert sorted(ROWS) == sorted(public + methods)
    tested = {case["class"] for case in GOLDEN["distributions"] + GOLDEN["bijectors"]}
    assert set(public) - tested == {"Distribution", "Bijector"}
    assert isinstance(dist.Normal(), evaluate("Distribution"))
    assert isinstance(transforms.ExpTransform(), evaluate("Bijector"))


@DISTRIBUTIONS
def test_values_are_those_of_mindspore(number: int, case: dict[str, Any]) -> None:
    found = answers(number)
    for method, wanted in case["values"].items():
        assert_close(found[method], expected(wanted), method)


@pytest.mark.slow
@DISTRIBUTIONS
def test_values_are_those_of_scipy(number: int, case: dict[str, Any]) -> None:
    found = answers(number)
    variables = [frozen(case, i) for i in range_of(case)]
    x = np.array(case["x"])
    with np.errstate(divide="ignore"):
        for method in POINTWISE:
            exact = np.stack([oracle(method, v)(x[:, i]) for i, v in enumerate(variables)], axis=1)
            assert_close(found[method], exact, method)
    if case["class"] == "TransformedDistribution":
        return
    for method in ("mean", "sd", "var", "entropy"):
        if method in found:
            assert_close(found[method], [oracle(method, v)() for v in variables], method)
    if "other" in case:
        others = [frozen(case, i, "other") for i in range_of(case)]
        exact = [divergence(p, q) for p, q in zip(variables, others, strict=True)]
        assert_close(found["kl_loss"], exact, "kl_loss")
        exact = [p.entropy() + kl for p, kl in zip(variables, exact, strict=True)]
        assert_close(found["cross_entropy"], exact, "cross_entropy")


@pytest.mark.slow
@DISTRIBUTIONS
def test_modes_are_the_most_probable_values(number: int, case: dict[str, Any]) -> None:
    for i, mode in enumerate(answers(number).get("mode", ())):
        variable = frozen(case, i)
        density = oracle("prob", variable)
        if hasattr(variable, "pmf"):
            assert density(mode) == density(np.arange(100)).max()
        elif np.isfinite(mode):
            assert density(mode) >= density(variable.ppf(np.linspace(0.001, 0.999, 999))).max()
        else:
            edge = density(variable.ppf([1e-6, 1 - 1e-6]))
            assert density(variable.ppf(np.linspace(0.001, 0.999, 999))).max() < edge.max()


@pytest.mark.slow
@DISTRIBUTIONS
def test_samples_compared_with_mindspore(number: int, case: dict[str, Any]) -> None:
    x = np.array(case["x"])
    exact = np.stack([frozen(case, i).cdf(x[:, i]) for i in range_of(case)], axis=1)

    def assert_share(share: Any, n: int) -> None:
        assert (np.abs(share - exact) <= 5.0 * np.sqrt(exact * (1.0 - exact) / n) + 1e-6).all()

    # NumPyro's samplers do not keep to JAX's strictest settings.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        draws = evaluate("d.sample", d=built(case), key=jax.random.key(3), shape=(20, 100))
    assert draws.shape == (20, 100, x.shape[1])
    draws = np.asarray(draws).reshape(2000, 1, -1)
    assert_share(np.mean(draws <= x, axis=0), 2000)
    if "sample_cdf" in case:
        assert_share(np.array(case["sample_cdf"]), GOLDEN["samples"])


@BIJECTORS
def test_bijectors(case: dict[str, Any]) -> None:
    b = built(case)
    for method, wanted in case["values"].items():
        letter = "y" if "inverse" in method else "x"
        points = np.array(case[letter])
        rows = [evaluate(f"b.{method}", b=b, **{letter: jnp.asarray(row)}) for row in points]
        assert_close(np.stack(rows), expected(wanted), f"{method} of MindSpore")
        for i in range_of(case):
            f = mapping(case, i)["inverse" in method]
            exact = log_slope(f, points[:, i]) if "jacobian" in method else f(points[:, i])
            assert_close(np.stack(rows)[:, i], exact, f"{method} of NumPy")


def test_what_has_no_closed_form_says_so() -> None:
    unknown = {
        (case["class"], name)
        for number, case in enumerate(GOLDEN["distributions"])
        for name in {*STATISTICS} - {*answers(number)}
    }
    others = {("TransformedDistribution", name) for name in STATISTICS}
    assert unknown - others == {
        ("HalfNormal", "entropy"),
        ("HalfNormal", "mode"),
        ("Poisson", "entropy"),
        ("Uniform", "mode"),
    }
    with pytest.raises(
        NotImplementedError, match="mode of Uniform is known. Estimate it from samp"
    ):
        distributions.mode(dist.Uniform().expand((2,)))
    with pytest.raises(NotImplementedError, match="divergence of Normal from Cauchy is known. Est"):
        distributions.kl_divergence(dist.Normal(), dist.Cauchy())
    with pytest.raises(NotImplementedError, match="divergence of Gumbel from Normal is known"):
        distributions.kl_divergence(dist.Gumbel(), dist.Normal())


OUTSIDE = {
    "Bernoulli": dist.Bernoulli(0.3),
    "Beta": dist.Beta(2.0, 3.0),
    "Categorical": dist.Categorical(jnp.asarray([0.2, 0.8])),
    "Exponential": dist.Exponential(20.0),
    "Gamma": dist.Gamma(2.0, 20.0),
    "Geometric": dist.Geometric(0.99),
    "HalfNormal": dist.TruncatedNormal(1.0, 0.3, low=1.0),
    "LogNormal": dist.LogNormal(0.0, 0.1),
    "Poisson": dist.Poisson(0.01),
    "Uniform": dist.Uniform(0.0, 2.0),
    "affine of Exponential": dist.TransformedDistribution(
        dist.Exponential(20.0), transforms.AffineTransform(1.0, 2.0)
    ),
    "falling affine of Beta": dist.TransformedDistribution(
        dist.Beta(2.0, 3.0), transforms.AffineTransform(1.0, -2.0)
    ),
}


@pytest.mark.parametrize("d", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_outside_the_support(d: dist.Distribution) -> None:
    @jax.jit
    def ask(d: dist.Distribution, x: Any) -> Any:
        return distributions.log_prob(d, x), distributions.cdf(d, x)

    log_prob, below = ask(d, jnp.asarray(-2.5))
    assert (log_prob, below) == (-jnp.inf, 0.0)
    assert float(ask(d, jnp.asarray(7.5))[1]) == pytest.approx(1.0, abs=1e-6)
    assert distributions.log_prob(d, jnp.asarray(-2.5)) == -jnp.inf  # and no warning
    assert jax.jit(jax.grad(lambda x: distributions.log_prob(d, x)))(jnp.asarray(-2.5)) == 0.0
    if d.support.is_discrete:
        assert ask(d, jnp.asarray(0.5))[0] == -jnp.inf
        assert ask(d, jnp.asarray(0.5))[1] == ask(d, jnp.asarray(0))[1]


def test_an_exponential_at_zero() -> None:
    d, zero = dist.Exponential(2.0), jnp.zeros(())
    assert float(distributions.log_prob(d, zero)) == pytest.approx(np.log(2.0))
    assert float(jax.grad(distributions.log_prob, argnums=0)(d, zero).rate) == pytest.approx(0.5)


def test_where_mindspore_differs() -> None:
    """The third column of the table, where it says that a number is another one."""
    x = jnp.asarray([0.5, 1.5])
    half = evaluate("HalfNormal", mean=1.0, sd=2.0)
    assert_close(
        distributions.log_prob(half, x), [-np.inf, stats.halfnorm(1, 2).logpdf(1.5)], "HalfNormal"
    )
    falling = transforms.AffineTransform(1.0, -2.0)
    d = dist.TransformedDistribution(dist.Normal(0.0, 1.0), falling)
    assert_close(distributions.cdf(d, x), stats.norm(1, 2).cdf(x), "cdf of a decreasing bijector")
    assert float(distributions.cdf(dist.Poisson(1.5), x[0])) == pytest.approx(np.exp(-1.5))
    assert np.isnan(distributions.mean(dist.Cauchy(0.0, 1.0)))
    # log_survival far out, as the table advises.
    assert float(distributions.cdf(dist.Normal(0.0, 1.0), jnp.asarray(20.0))) == 1.0
    assert float(jax.scipy.stats.norm.logsf(20.0)) == pytest.approx(stats.norm.logsf(20), 1e-6)


def test_logits_and_expanded_distributions() -> None:
    logits = jnp.asarray([0.3, -1.0])
    for make in (dist.Bernoulli, dist.Geometric, dist.Categorical):
        by_logits = make(logits=logits)
        by_probs = make(by_logits.probs)
        for ask in (distributions.mean, distributions.variance, distributions.mode):
            assert_close(ask(by_logits), ask(by_probs), f"{ask.__name__} of {make.__name__}")
        x = jnp.zeros(by_logits.batch_shape)
        assert_close(distributions.cdf(by_logits, x), distributions.cdf(by_probs, x), "cdf")
        assert_close(distributions.kl_divergence(by_logits, by_probs), 0.0, "kl")
    for ask in (distributions.mean, distributions.mode, distributions.entropy):
        assert ask(dist.Gumbel(1.0, 2.0).expand((2, 3))).shape == (2, 3)
    assert distributions.kl_divergence(dist.Gumbel().expand((2,)), dist.Gumbel()).shape == (2,)


def test_without_numpyro(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpyro", None)
    monkeypatch.setitem(sys.modules, "numpyro.distributions", None)
    monkeypatch.delitem(sys.modules, "bnn_jax.distributions")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bnn-jax\[distributions\]'"):
        importlib.import_module("bnn_jax.distributions")
