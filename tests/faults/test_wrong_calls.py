"""Wrong calls of the library: each is one clear error, before any work.

Those of parameters, targets and calls of a model are here; others are in the files
`wrong_calls_of_*`, by class of error.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wrong_calls_of_inference
import wrong_calls_of_methods
import wrong_calls_of_metrics

from bnn_jax import (
    LaplacePrior,
    NormalPrior,
    ScaleMixturePrior,
    infer,
    likelihoods,
    predict,
    to_bnn,
)
from bnn_jax.fitting import patience
from bnn_jax.toolbox import metrics, temperature

NAN, INF = float("nan"), float("inf")
P = np.full((4, 3), 1 / 3, np.float32)
LABELS = np.array([0, 1, 2, 0])
NAN_P = np.where(np.arange(12).reshape(4, 3) == 5, NAN, P).astype(np.float32)
LOGITS, ONE = jnp.zeros((4, 3)), jnp.zeros((4, 1))
KEY = jax.random.key(0)


def network(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["w"]


def bnn(**options: Any) -> Any:
    return to_bnn(network, {"w": jnp.ones((2, 1))}, **options)


MODEL = bnn()
BAD_STDS = [NAN, INF, -INF, 0.0, -1.0]
BAD_ARRAYS = [jnp.asarray(-1.0), np.array([1.0, NAN]), jnp.asarray([1.0, INF]), np.zeros(2)]

Case = tuple[Callable[[], Any], str]
CASES: dict[str, Case] = {}
for std in [*BAD_STDS, *BAD_ARRAYS]:
    name = str(std)
    CASES |= {
        f"NormalPrior std {name}": (lambda s=std: NormalPrior(std=s), "NormalPrior: std must be"),
        f"LaplacePrior scale {name}": (lambda s=std: LaplacePrior(scale=s), "scale must be"),
        f"mixture std1 {name}": (lambda s=std: ScaleMixturePrior(0.5, s, 1.0), "std1 must be"),
        f"mixture std2 {name}": (lambda s=std: ScaleMixturePrior(0.5, 1.0, s), "std2 must be"),
    }
for mean in [NAN, INF, -INF, jnp.asarray(NAN), np.array([0.0, INF])]:
    CASES |= {
        f"NormalPrior mean {mean}": (lambda m=mean: NormalPrior(mean=m), "mean must be finite"),
        f"LaplacePrior loc {mean}": (lambda m=mean: LaplacePrior(loc=m), "loc must be finite"),
    }
for pi in [NAN, -0.1, 0.0, 1.0, 2.0]:
    CASES[f"mixture pi {pi}"] = (lambda p=pi: ScaleMixturePrior(p, 1.0, 0.1), "pi must be")
for std in BAD_STDS:
    CASES |= {
        f"initial_std {std}": (lambda s=std: bnn(initial_std=s), "initial_std must be positive"),
        f"Normal std {std}": (lambda s=std: likelihoods.Normal(std=s), "Normal: std must be"),
        f"StudentT df {std}": (lambda s=std: likelihoods.StudentT(df=s), "df must be"),
        f"temperature {std}": (
            lambda s=std: likelihoods.Categorical(temperature=s),
            "temperature must be",
        ),
        f"map rate {std}": (lambda s=std: infer.map(learning_rate=s), "must be a positive"),
        f"swag rate {std}": (lambda s=std: infer.swag(learning_rate=s), "must be a positive"),
        f"ivon rate {std}": (lambda s=std: infer.ivon(learning_rate=s), "must be a positive"),
        f"apply temperature {std}": (
            lambda s=std: temperature.apply_temperature(LOGITS, s),
            "temperature must be > 0",
        ),
    }

LABEL_CASES: dict[str, tuple[Any, str]] = {
    "-1": (jnp.asarray([0, 1, -1, 2]), "labels must be at least 0, got -1 in 1 of 4"),
    "3": (jnp.asarray([0, 1, 3, 2]), "must be below the 3 classes of the network, got 3"),
    "float": (jnp.asarray([0.0, 1.0, 2.0, 0.0]), "labels must be integers, got float32"),
    "bool": (jnp.asarray([True, False, True, False]), "labels must be integers, got bool"),
}
for name, (labels, message) in LABEL_CASES.items():
    for call in ("log_prob", "nll"):
        CASES[f"Categorical {call} {name}"] = (
            lambda y=labels, c=call: getattr(likelihoods.Categorical(), c)(LOGITS, y),
            message,
        )
TARGET_CASES: list[tuple[Any, float, str]] = [
    *((likelihoods.Bernoulli(), y, "targets must be 0 or 1") for y in (2.0, -1.0, 0.5, NAN)),
    *((likelihoods.Poisson(), y, "targets must be 0, 1, 2") for y in (-1.0, 1.5, NAN, INF)),
    *((likelihoods.Normal(std=1.0), y, "targets must be finite") for y in (NAN, INF)),
    *((likelihoods.StudentT(df=3.0, scale=1.0), y, "must be finite") for y in (NAN, INF)),
]
for own, y, message in TARGET_CASES:
    CASES[f"{own} {y}"] = (lambda o=own, v=y: o.nll(ONE, ONE.at[1].set(v)), message)

for function in (metrics.accuracy, metrics.nll, metrics.brier, metrics.ece):
    name = function.__name__
    CASES |= {
        f"{name} NaN": (lambda f=function: f(NAN_P, LABELS), "finite|NaN"),
        f"{name} label -1": (lambda f=function: f(P, LABELS - 1), "-1"),
        f"{name} label 3": (lambda f=function: f(P, LABELS + 1), "3"),
        f"{name} lengths": (lambda f=function: f(P, LABELS[:2]), "label"),
    }
CASES |= {
    "temperature of NaN": (
        lambda: temperature.fit_temperature(np.log(NAN_P), LABELS),
        "NaN|finite",
    ),
    "temperature label 3": (lambda: temperature.fit_temperature(P, LABELS + 1), "3"),
    "predict with label 0.5": (
        lambda: predict(
            KEY, MODEL, jnp.ones((4, 2)), 2, likelihood=likelihoods.Bernoulli(), targets=ONE - 0.5
        ),
        "targets must be 0 or 1",
    ),
    "predict with label -1": (
        lambda: predict(
            KEY,
            MODEL,
            jnp.ones((4, 2)),
            2,
            likelihood=likelihoods.Categorical(),
            targets=LABELS - 1,
        ),
        "labels must be at least 0",
    ),
    "patience 0": (lambda: patience(0), "epochs must be"),
    "patience True": (lambda: patience(True), "epochs must be"),
    "key None": (lambda: MODEL.apply(None, MODEL.posterior, ONE), "key must be a JAX key"),
    "key 3": (lambda: MODEL.apply(3, MODEL.posterior, ONE), "key must be a JAX key"),
    "no posterior": (lambda: MODEL.apply(KEY, jnp.ones((4, 2))), "posterior must be a tree"),
    "posterior None": (lambda: MODEL.apply(KEY, None, ONE), "posterior must be a tree"),
    "the model called": (lambda: MODEL(KEY, ONE), "A BayesianModel cannot be called"),
}


for module in (wrong_calls_of_metrics, wrong_calls_of_inference, wrong_calls_of_methods):
    for kind, cases in module.CASES.items():
        place = module.__name__.removeprefix("wrong_calls_of_")
        CASES |= {f"{place}, {kind}: {name}": case for name, case in cases.items()}


def test_there_are_six_hundred() -> None:
    assert len(CASES) >= 600


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_call_is_one_clear_error(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    call, message = CASES[case]
    expected = (TypeError, ValueError, *([OSError] if "file: " in case else []))
    with pytest.raises(expected, match=message) as error:
        call()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("inside", [False, True])
def test_right_targets_pass_inside_and_outside_jit(inside: bool) -> None:
    pairs: list[tuple[Any, jax.Array, jax.Array]] = [
        (likelihoods.Categorical(), LOGITS, jnp.asarray(LABELS)),
        (likelihoods.Bernoulli(), ONE, ONE.at[0].set(1.0)),
        (likelihoods.Poisson(), ONE, ONE.at[0].set(3.0)),
        (likelihoods.Normal(std=1.0), ONE, ONE - 2.0),
    ]
    for own, outputs, targets in pairs:
        nll = jax.jit(own.nll) if inside else own.nll
        assert np.isfinite(nll(outputs, targets))
