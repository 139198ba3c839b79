"""Wrong calls of infer, priors, likelihoods, export, compression, moments and the rest.

{class of error: {name: (call, words of the message)}}
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from wrong_calls_of_inference import (
    CLASSES,
    MODEL,
    NORMAL,
    PARAMS,
    RANDOM,
    TWO,
    X,
    network,
    new_key,
)

from bnn_jax import (
    Fit,
    Gaussian,
    LaplacePrior,
    NormalPrior,
    ScaleMixturePrior,
    StudentTPrior,
    compression,
    data,
    export,
    functional,
    gaussian,
    infer,
    likelihoods,
    moments,
    noise,
    objective,
    posteriors,
    predictive,
    priors,
)

Case = tuple[Callable[[], Any], str]
CASES: dict[str, dict[str, Case]] = {
    name: {}
    for name in (
        "not finite",
        "shape",
        "range",
        "type",
        "empty",
        "unknown name",
        "conflict",
        "file",
    )
}
NAN, INF = float("nan"), float("inf")
ONE, LABELS = jnp.zeros((4, 1)), jnp.asarray([0, 1, 0, 1])


def add(kind: str, name: str, call: Callable[[], Any], message: str) -> None:
    assert name not in CASES[kind]
    CASES[kind][name] = (call, message)


METHODS: list[tuple[Callable[..., Any], dict[str, list[Any]]]] = [
    (infer.map, {"learning_rate": ["1", None, True, 0, NAN], "constant": ["yes"]}),
    (
        infer.bayes_by_backprop,
        {
            "learning_rate": [-1, None],
            "kl_warmup": [-0.1, 1.5, NAN],
            "num_samples": [0, 2.5, True],
            "kl_every": [0, 1.5],
            "average": [1.0, -0.1],
            "optimizer": ["adam"],
        },
    ),
    (infer.ivon, {"beta1": [1.0, -0.1], "num_samples": [0, 1.5], "hess_init": [0.0, NAN]}),
    (infer.swag, {"rank": [1, 2.5, True], "start": [1.0, -0.1, NAN], "every": [0, 1.5]}),
    (
        infer.sgld,
        {
            "step_size": [0, NAN],
            "num_samples": [0, 2.5],
            "cycles": [0, 7],
            "exploration": [1.0, NAN],
        },
    ),
    (infer.sghmc, {"friction": [0.0, 1.5, NAN], "temperature": [-1.0, NAN]}),
    (infer.mc_dropout, {"rate": [1.0, -0.1, NAN, "0.1"]}),
    (infer.nuts, {"warmup": [5, 20.5], "chains": [0, 1.5], "max_doublings": [0, 2.5]}),
    (infer.hmc, {"leapfrogs": [0, 2.5], "target_acceptance": [0.0, 1.0, NAN], "jitter": [-1, NAN]}),
    (infer.laplace, {"curvature": ["full"], "predictive": ["exact"], "prior_precision": [1.0]}),
    (
        lambda **options: infer.ensemble(infer.map(), **options),
        {"size": [0, 2.5, True], "starts": ["random", 3]},
    ),
]
for method, options in METHODS:
    name = getattr(method, "__name__", "ensemble").strip("<>")
    for option, values in options.items():
        for value in values:
            kind = (
                "range"
                if isinstance(value, int | float) and not isinstance(value, bool)
                else "type"
            )
            add(
                kind,
                f"{name} {option}={value}",
                lambda m=method, o=option, v=value: m(**{o: v}),
                option,
            )
add("type", "ensemble of a name", lambda: infer.ensemble("map"), "method must be")
add("type", "ensemble of a class", lambda: infer.ensemble(infer.map), "method must be")
add(
    "conflict",
    "antithetic single sample",
    lambda: infer.bayes_by_backprop(num_samples=1, antithetic=True),
    "num_samples must be even",
)
add(
    "conflict",
    "num_data and factors",
    lambda: infer.bayes_by_backprop(num_data=3, dnn_factor=1.0, bnn_factor=1.0),
    "not both",
)

for df in (0.0, -1.0, NAN, INF):
    add("range", f"StudentTPrior df {df}", lambda d=df: StudentTPrior(df=d), "df must be")
for prior in (NormalPrior, LaplacePrior, StudentTPrior):
    scale = "std" if prior is NormalPrior else "scale"
    more = {"df": 3.0} if prior is StudentTPrior else {}
    for bad in ("1", None, [1.0]):
        add(
            "type",
            f"{prior.__name__} {bad}",
            lambda p=prior, s=scale, b=bad, m=more: p(**{s: b}, **m),
            f"{scale} must be",
        )
add("type", "mixture std text", lambda: ScaleMixturePrior(0.5, "1", 1.0), "std1 must be")
for bad in ("1", True, [1.0]):
    add("type", f"Normal std {bad}", lambda b=bad: likelihoods.Normal(std=b), "std must be")
    add("type", f"StudentT df {bad}", lambda b=bad: likelihoods.StudentT(df=b), "df must be")

ONE_EACH: list[tuple[str, str, Callable[[], Any], str]] = [
    ("range", "centred_on std", lambda: priors.centred_on(PARAMS, -1.0), "std must be"),
    ("conflict", "kl of several priors", lambda: priors.kl_divergence(RANDOM, {"v": 3}), "prior"),
    ("type", "kl without a prior", lambda: priors.kl_divergence(RANDOM, None), "prior"),
    ("shape", "Normal column", lambda: NORMAL.nll(ONE, jnp.zeros(4)), "y\\[:, None\\]"),
    (
        *("shape", "Normal own scale odd"),
        lambda: likelihoods.Normal().nll(jnp.zeros((4, 3)), ONE),
        "must be even",
    ),
    (
        "shape",
        "Normal of a triple",
        lambda: likelihoods.Normal().nll((ONE, ONE, ONE), ONE),
        "mean, rho",
    ),
    ("conflict", "two scales", lambda: NORMAL.nll((ONE, ONE), ONE), "leave the scale out"),
    (
        "shape",
        "Categorical column",
        lambda: CLASSES.nll(jnp.zeros((4, 2)), LABELS[:, None]),
        "shape",
    ),
    (
        "shape",
        "Categorical one-hot",
        lambda: CLASSES.nll(jnp.zeros((4, 2)), jnp.eye(2, dtype=int)[LABELS]),
        "shape",
    ),
    ("shape", "Bernoulli column", lambda: likelihoods.Bernoulli().nll(ONE, LABELS), "shape"),
    ("shape", "Poisson column", lambda: likelihoods.Poisson().nll(ONE, LABELS), "shape"),
    ("type", "log_prob of a list", lambda: NORMAL.nll(ONE, [[0.0]] * 4), "array"),
    ("type", "labels of a list", lambda: CLASSES.nll(jnp.zeros((4, 2)), [0, 1, 0, 1]), "array"),
    # Compression
    ("range", "prune 1.5", lambda: compression.prune(RANDOM, 1.5), "fraction must be"),
    ("range", "prune -0.1", lambda: compression.prune(RANDOM, -0.1), "fraction must be"),
    ("range", "prune NaN", lambda: compression.prune(RANDOM, NAN), "fraction must be"),
    ("type", "prune text", lambda: compression.prune(RANDOM, "half"), "fraction must be"),
    ("type", "prune True", lambda: compression.prune(RANDOM, True), "fraction must be"),
    ("type", "prune params", lambda: compression.prune(PARAMS, 0.5), "Gaussian"),
    ("unknown name", "prune by", lambda: compression.prune(RANDOM, 0.5, by="size"), "by must be"),
    ("unknown name", "scope", lambda: compression.prune(RANDOM, 0.5, scope="all"), "scope must be"),
    (
        *("not finite", "prune"),
        lambda: compression.prune({"w": Gaussian(jnp.full((2,), NAN), jnp.zeros(2))}, 0.5),
        "finite",
    ),
    ("unknown name", "compress", lambda: compression.compress(RANDOM, to="int3"), "to must be"),
    ("type", "compress params", lambda: compression.compress(PARAMS, to="int8"), "random"),
    (
        *("not finite", "compress"),
        lambda: compression.compress(
            {"w": Gaussian(jnp.full((2, 2), NAN), jnp.zeros((2, 2)))}, to="int8"
        ),
        "finite",
    ),
    ("type", "decompress", lambda: compression.decompress(RANDOM), "compress"),
    ("type", "save uncompressed", lambda: compression.save("/proc/none.npz", RANDOM), "compress"),
    ("file", "load compressed", lambda: compression.load("/no/such.npz", RANDOM), "No such|exist"),
    # Moments
    ("type", "moments of None", lambda: moments.outputs(None, RANDOM, X), "model must be"),
    ("type", "moments of samples", lambda: moments.outputs(network, [PARAMS], X), "mean-field"),
    ("shape", "moments width", lambda: moments.outputs(MODEL, RANDOM, X[:, :1]), "shape|width"),
    (
        "conflict",
        "moments variables",
        lambda: moments.outputs(network, RANDOM, X, variables={"a": 1}),
        "no variables",
    ),
    ("type", "moments without inputs", lambda: moments.outputs(MODEL, RANDOM), "input"),
    # Gaussians, functions, schedules
    ("type", "sample without a key", lambda: gaussian.sample(None, RANDOM), "key"),
    ("type", "sample by a seed", lambda: gaussian.sample(0, RANDOM), "key"),
    ("range", "centred", lambda: gaussian.centred(jnp.ones(3), -1.0), "std must be"),
    (
        "range",
        "rho of a negative std",
        lambda: gaussian.rho_from_std(jnp.asarray(-1.0)),
        "std must be",
    ),
    ("unknown name", "generator", lambda: noise.generator("mersenne").__enter__(), "generator"),
    ("type", "noise by a seed", lambda: noise.normal(0, (3,)), "key"),
    (
        *("unknown name", "dense"),
        lambda: functional.dense(
            new_key(), {"kernel": RANDOM["w"]}, jnp.ones((4, 2)), estimator="x"
        ),
        "flipout",
    ),
    ("range", "linear", lambda: objective.linear(warmup_steps=0), "warmup_steps must be"),
    ("type", "linear text", lambda: objective.linear(warmup_steps="3"), "warmup_steps must be"),
    ("range", "cyclical", lambda: objective.cyclical(total_steps=9, cycles=0), "cycles must be"),
    (
        "range",
        "ramp",
        lambda: objective.cyclical(total_steps=9, cycles=1, ramp=NAN),
        "ramp must be",
    ),
    ("range", "blundell", lambda: objective.blundell(num_batches=0), "num_batches must be"),
    ("range", "elbo", lambda: objective.elbo_factors(0), "num_data"),
    ("type", "elbo half", lambda: objective.elbo_factors(2.5), "num_data"),
    ("range", "factor", lambda: objective.factors(None, -1.0, 1.0), "dnn_factor must be"),
    ("conflict", "factors", lambda: objective.factors(3, 1.0, 1.0), "not both"),
    # Posteriors and predictors
    ("empty", "samples", lambda: posteriors.Samples.of([]), "at least one"),
    ("shape", "samples", lambda: posteriors.Samples.of([PARAMS, TWO.mean(TWO.posterior)]), "shape"),
    (
        "shape",
        "samples of other keys",
        lambda: posteriors.Samples.of([PARAMS, {"v": 1}]),
        "structure",
    ),
    ("empty", "mixture", lambda: posteriors.Mixture.of([]), "at least one"),
    (
        "type",
        "build without samples",
        lambda: predictive.build(MODEL, NORMAL)(new_key(), None, X),
        "num_samples",
    ),
    ("range", "build 0 samples", lambda: predictive.build(MODEL, NORMAL, 0), "num_samples"),
    ("type", "build of a name", lambda: predictive.build(MODEL, "normal", 2), "likelihood must be"),
    (
        "unknown name",
        "build method",
        lambda: predictive.build(MODEL, NORMAL, 2, method="x")(new_key(), None, X),
        "method",
    ),
    # Data
    ("unknown name", "data", lambda: data.load("mnst"), "mnist"),
    ("range", "image_size", lambda: data.load("digits", image_size=0), "image_size must be"),
    ("unknown name", "uci", lambda: data.uci("bostn", split=0, folder="/"), "boston"),
    ("file", "uci", lambda: data.uci("boston", split=0, folder="/no/such"), "/no/such"),
    ("file", "table", lambda: data.read_table("/no/such.csv", targets="y"), "does not exist"),
    ("file", "npz", lambda: data.read_npz("/no/such.npz"), "does not exist"),
    ("file", "images", lambda: data.read_image_folder("/no/such"), "no such|not exist|no folder"),
    ("file", "python", lambda: data.read_python("/no/such.py"), "does not exist"),
    (
        "range",
        "padding",
        lambda: data.pad_crop_flip(new_key(), jnp.ones((1, 8, 8, 1)), padding=-1),
        "padding",
    ),
    ("shape", "augmented vectors", lambda: data.pad_crop_flip(new_key(), jnp.asarray(X)), "images"),
    (
        "file",
        "Fit.load",
        lambda: Fit.load("/no/such", MODEL, method=infer.map(), likelihood=NORMAL),
        "/no/such",
    ),
    # Export
    *(
        (kind, f"export {name}", lambda c=changes: exported(**c), message)
        for kind, name, changes, message in [
            ("unknown name", "kind", {"kind": "median"}, "kind must be one of"),
            ("type", "likelihood", {"likelihood": "normal"}, "likelihood must be"),
            ("conflict", "without samples", {"num_samples": None}, "num_samples"),
            ("range", "0 samples", {"num_samples": 0}, "num_samples"),
            ("type", "inputs None", {"example_inputs": None}, "example|arrays"),
            (
                "shape",
                "inputs wide",
                {"example_inputs": np.ones((2, 5), np.float32)},
                "shape|width",
            ),
            ("conflict", "temperature of a regression", {"temperature": 2.0}, "temperature"),
            ("conflict", "samples of params", {"posterior": PARAMS}, "random"),
            ("shape", "labels", {"labels": ["a", "b"]}, "labels"),
            ("file", "a file as folder", {"folder": __file__}, "folder|exists|empty"),
        ]
    ),
]


def exported(**changes: Any) -> Any:
    given = {
        "folder": "/proc/never-written",
        "model": MODEL,
        "posterior": RANDOM,
        "likelihood": NORMAL,
        "example_inputs": X,
        "kind": "sampled",
        "key": new_key(),
        "num_samples": 2,
        **changes,
    }
    first = [given.pop(n) for n in ("folder", "model", "posterior", "likelihood", "example_inputs")]
    return export.stablehlo(*first, **given)


for kind, name, call, message in ONE_EACH:
    add(kind, name, call, message)
