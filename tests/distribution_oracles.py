"""The table of docs/mindspore.md as expressions, and SciPy's value for each of them."""

import contextlib
import functools
import json
import re
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

ROOT = Path(__file__).parents[1]
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
