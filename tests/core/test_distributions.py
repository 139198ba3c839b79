"""Every row of the table of distributions and bijectors in docs/mindspore.md, evaluated.

Two oracles: the values that MindSpore gave (tests/golden/distributions.json), and SciPy in float64.
"""

import contextlib
import functools
import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist
from numpyro.distributions import transforms
from scipy import integrate, special, stats

from bnn_jax import distributions

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "distributions.json").read_text())
MODULES = {"dist": dist, "transforms": transforms, "distributions": distributions, "jnp": jnp}

POINTWISE = ["prob", "log_prob", "cdf", "log_cdf", "survival_function", "log_survival"]
STATISTICS = ["mean", "sd", "var", "mode", "entropy"]
PAIRS = ["kl_loss", "cross_entropy"]
BIJECTOR = ["forward", "inverse", "forward_log_jacobian", "inverse_log_jacobian"]


def table() -> dict[str, tuple[list[str], str]]:
    """What MindSpore calls it: its arguments, and the expression that stands for it."""
    section = (
        (ROOT / "docs" / "mindspore.md").read_text().split("## Distributions and bijectors")[1]
    )
    rows = re.findall(r"^\| `([\w.]+)\((.*?)\)` \| `(.*?)` \|", section, re.MULTILINE)
    return {name: (re.findall(r"\w+", args), expression) for name, args, expression in rows}


ROWS = table()


def evaluate(name: str, **values: Any) -> Any:
    return eval(ROWS[name][1], {}, MODULES | values)


def built(spec: dict[str, Any]) -> Any:
    """The distribution or bijector that stands for one of MindSpore, by its row of the table."""
    args = {
        name: built(value) if isinstance(value, dict) else jnp.asarray(value, jnp.float32)
        for name, value in spec["args"].items()
    }
    assert list(args) == ROWS[spec["class"]][0]
    return evaluate(spec["class"], **args)


@functools.cache
def answers(number: int) -> dict[str, np.ndarray]:
    """What the table says of a distribution of the golden file, in one compiled program."""
    case = GOLDEN["distributions"][number]
    d = built(case)
    other = built({"class": case["class"], "args": case["other"]}) if "other" in case else None

    @jax.jit
    def ask(d: Any, other: Any, points: Any) -> dict[str, Any]:
        found = {}
        for name in POINTWISE:
            found[name] = jax.vmap(lambda x, name=name: evaluate(f"d.{name}", d=d, x=x))(points)
        for name in STATISTICS + PAIRS * (other is not None):
            with contextlib.suppress(NotImplementedError):
                found[name] = evaluate(f"d.{name}", d=d, other=other)
        return found

    return {
        name: np.asarray(value) for name, value in ask(d, other, jnp.asarray(case["x"])).items()
    }


# SciPy's side: one frozen variable for each element of the batch.

SCIPY: dict[str, Callable[..., Any]] = {
    "Bernoulli": stats.bernoulli,
    "Beta": stats.beta,
    "Categorical": lambda probs: stats.rv_discrete(values=(range(len(probs)), probs)),
    "Cauchy": stats.cauchy,
    "Exponential": lambda rate: stats.expon(scale=1.0 / rate),
    "Gamma": lambda concentration, rate: stats.gamma(concentration, scale=1.0 / rate),
    "Geometric": lambda probs: stats.geom(probs, loc=-1),
    "Gumbel": stats.gumbel_r,
    "HalfNormal": stats.halfnorm,
    "Laplace": stats.laplace,
    "Logistic": stats.logistic,
    "LogNormal": lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc)),
    "Normal": stats.norm,
    "Poisson": stats.poisson,
    "StudentT": stats.t,
    "Uniform": lambda low, high: stats.uniform(low, high - low),
}
FORWARD: dict[str, Callable[..., Any]] = {
    "Exp": np.exp,
    "GumbelCDF": lambda x, loc, scale: stats.gumbel_r.cdf(x, loc, scale),
    "PowerTransform": special.inv_boxcox,
    "ScalarAffine": lambda x, scale, shift: scale * x + shift,
    "Softplus": lambda x, sharpness: np.logaddexp(0.0, sharpness * x) / sharpness,
}
INVERSE: dict[str, Callable[..., Any]] = {
    "Exp": np.log,
    "GumbelCDF": lambda y, loc, scale: stats.gumbel_r.ppf(y, loc, scale),
    "PowerTransform": special.boxcox,
    "ScalarAffine": lambda y, scale, shift: (y - shift) / scale,
    "Softplus": lambda y, sharpness: np.log(np.expm1(sharpness * y)) / sharpness,
}


def mapping(spec: dict[str, Any], i: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Element i of a bijector and its inverse, as functions of float64."""
    if spec["class"] == "Invert":
        forward, inverse = mapping(spec["args"]["bijector"], i)
        return inverse, forward
    args = [value[i] for value in spec["args"].values()]
    return (
        lambda x: FORWARD[spec["class"]](x, *args),
        lambda y: INVERSE[spec["class"]](y, *args),
    )


def log_slope(f: Callable[[Any], Any], x: float) -> float:
    step = 1e-3
    slope = (8.0 * (f(x + step) - f(x - step)) - f(x + 2 * step) + f(x - 2 * step)) / (12.0 * step)
    return np.log(np.abs(slope))


class Transformed:
    """An increasing bijector of a frozen variable."""

    def __init__(self, spec: dict[str, Any], i: int) -> None:
        self.base = frozen(spec["args"]["distribution"], i)
        self.inverse = mapping(spec["args"]["bijector"], i)[1]

    def logpdf(self, y: float) -> float:
        return self.base.logpdf(self.inverse(y)) + log_slope(self.inverse, y)

    def pdf(self, y: float) -> float:
        return np.exp(self.logpdf(y))

    def __getattr__(self, name: str) -> Callable[[float], float]:  # cdf, logcdf, sf, logsf
        return lambda y: getattr(self.base, name)(self.inverse(y))


def frozen(spec: dict[str, Any], i: int, args: str = "args") -> Any:
    if spec["class"] == "TransformedDistribution":
        return Transformed(spec, i)
    return SCIPY[spec["class"]](*(value[i] for value in spec[args].values()))


def oracle(method: str, variable: Any) -> Any:
    """SciPy's method for one of MindSpore."""
    density = "pdf" if hasattr(variable, "pdf") else "pmf"
    return {
        "prob": getattr(variable, density),
        "log_prob": getattr(variable, f"log{density}"),
        "cdf": variable.cdf,
        "log_cdf": variable.logcdf,
        "survival_function": variable.sf,
        "log_survival": variable.logsf,
        "mean": variable.mean,
        "sd": variable.std,
        "var": variable.var,
        "entropy": variable.entropy,
    }[method]


def divergence(p: Any, q: Any) -> float:
    """KL(p || q): a sum, or the integral over the quantiles of p."""
    if hasattr(p, "pmf"):
        k = np.arange(1000)
        k = k[p.pmf(k) > 0.0]
        return float(np.sum(p.pmf(k) * (p.logpmf(k) - q.logpmf(k))))
    ratio = lambda u: p.logpdf(p.ppf(u)) - q.logpdf(p.ppf(u))  # noqa: E731
    if np.isinf(ratio(np.linspace(0.01, 0.99, 99))).any():
        return np.inf
    return integrate.quad(ratio, 0.0, 1.0, epsabs=1e-9, limit=500)[0]


def range_of(case: dict[str, Any]) -> range:
    return range(len(case["x"][0]))


def expected(values: Any) -> np.ndarray:
    return np.array(values, np.float64)  # "nan" and "inf" are strings in the file


def assert_close(actual: Any, wanted: Any, what: str) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=2e-5, atol=2e-6, err_msg=what)


def case_id(case: dict[str, Any]) -> str:
    inner = [v["class"] for v in case["args"].values() if isinstance(v, dict)]
    return "-".join([case["class"], *inner])


DISTRIBUTIONS = pytest.mark.parametrize(
    ("number", "case"),
    [pytest.param(n, case, id=case_id(case)) for n, case in enumerate(GOLDEN["distributions"])],
)
BIJECTORS = pytest.mark.parametrize("case", GOLDEN["bijectors"], ids=case_id)


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
def test_samples_have_mindspores_law(number: int, case: dict[str, Any]) -> None:
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
    slope = jax.grad(lambda x: distributions.log_prob(d, x))(jnp.asarray(-2.5))
    assert slope == 0.0
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
