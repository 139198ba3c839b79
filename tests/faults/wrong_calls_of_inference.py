"""Wrong calls of fit, predict, to_bnn, infer and the rest, by class of error.

{class: {name: (call, words of the message)}}
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from bnn_jax import (
    NormalPrior,
    fit,
    infer,
    likelihoods,
    predict,
    to_bnn,
)
from bnn_jax.fitting import patience

Case = tuple[Callable[[], Any], str]
CASES: dict[str, dict[str, Case]] = {
    name: {}
    for name in ("not finite", "shape", "range", "type", "empty", "unknown name", "conflict")
}
NAN, INF = float("nan"), float("inf")


def new_key() -> jax.Array:
    return jax.random.key(0)


X, Y = np.ones((8, 2), np.float32), np.zeros((8, 1), np.float32)
LABELS = np.arange(8) % 2
NORMAL, CLASSES = likelihoods.Normal(std=0.1), likelihoods.Categorical()


def add(kind: str, name: str, call: Callable[[], Any], message: str) -> None:
    assert name not in CASES[kind]
    CASES[kind][name] = (call, message)


def network(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["w"]


PARAMS = {"w": jnp.ones((2, 1))}
MODEL = to_bnn(network, PARAMS, prior=NormalPrior(std=1.0))
TWO = to_bnn(network, {"w": jnp.ones((2, 2))}, prior=NormalPrior(std=1.0))
LINEN = nn.Dense(1)
RANDOM = MODEL.posterior


def fitted(**changes: Any) -> Any:
    given = {
        "key": new_key(),
        "model": MODEL,
        "data": (X, Y),
        "method": infer.map(),
        "likelihood": NORMAL,
        "epochs": 1,
        "batch_size": 4,
        "progress": False,
        **changes,
    }
    return fit(given.pop("key"), given.pop("model"), given.pop("data"), **given)


def predicted(*args: Any, **changes: Any) -> Any:
    given = {
        "key": new_key(),
        "model": MODEL,
        "x": X,
        "num_samples": 2,
        "likelihood": NORMAL,
        **changes,
    }
    return predict(given.pop("key"), given.pop("model"), given.pop("x"), **given)


FITS: list[tuple[str, str, dict[str, Any], str]] = [
    ("type", "key None", {"key": None}, "key must be a JAX key"),
    ("type", "key 3", {"key": 3}, "key must be a JAX key"),
    ("type", "several keys", {"key": jax.random.split(new_key())}, "key must be a JAX key"),
    ("type", "model of a function", {"model": network}, "model must be what to_bnn returns"),
    ("type", "model of linen", {"model": LINEN}, "model must be what to_bnn returns"),
    ("type", "posterior as model", {"model": RANDOM}, "model must be what to_bnn returns"),
    ("type", "method by name", {"method": "map"}, "method must be an inference method"),
    ("type", "method uncalled", {"method": infer.map}, "method must be an inference method"),
    ("type", "likelihood by name", {"likelihood": "normal"}, "likelihood must be one of"),
    (
        "type",
        "likelihood uncalled",
        {"likelihood": likelihoods.Normal},
        "likelihood must be one of",
    ),
    ("type", "likelihood a function", {"likelihood": lambda o: o}, "likelihood must be one of"),
    ("type", "batch size 2.5", {"batch_size": 2.5}, "batch_size must be"),
    ("type", "epochs text", {"epochs": "3"}, "epochs must be"),
    ("type", "callbacks None", {"callbacks": None}, "callbacks must be"),
    ("type", "one callback", {"callbacks": print}, "callbacks must be"),
    ("type", "callbacks of text", {"callbacks": ["print"]}, "callbacks must be"),
    ("type", "early stopping 3", {"early_stopping": 3}, "early_stopping must be"),
    ("type", "augment True", {"augment": True}, "augment must be"),
    ("type", "metric_fn text", {"metric_fn": "accuracy"}, "metric_fn must be"),
    ("type", "checkpoint 3", {"checkpoint": 3}, "checkpoint must be a path"),
    ("type", "train_kwargs text", {"train_kwargs": "train"}, "train_kwargs must be"),
    ("range", "steps_per_call 0", {"steps_per_call": 0}, "steps_per_call must be"),
    ("range", "batch size -1", {"batch_size": -1}, "batch_size must be"),
    ("type", "targets None", {"data": (X, None)}, "data"),
    ("type", "inputs of text", {"data": (np.array(["a"] * 8), Y)}, "numbers"),
    ("type", "targets of text", {"data": (X, np.array(["a"] * 8))}, "numbers"),
    ("type", "targets of objects", {"data": (X, np.array([None] * 8))}, "numbers"),
    ("shape", "targets flat", {"data": (X, Y[:, 0])}, "y\\[:, None\\]"),
    ("shape", "targets wide", {"data": (X, np.zeros((8, 3), np.float32))}, "shape"),
    ("shape", "inputs wide", {"data": (np.ones((8, 3), np.float32), Y)}, "cannot take inputs"),
    ("shape", "ragged lists", {"data": ([[1.0], [1.0, 2.0]], Y[:2])}, "array|shape"),
    ("conflict", "standardize a tuple", {"data": ((X, X), Y), "standardize": True}, "one array"),
    ("conflict", "stopping unvalidated", {"early_stopping": patience(2)}, "validation"),
    ("shape", "metric_fn of arrays", {"metric_fn": lambda o, t: {"e": o}}, "metric_fn"),
    ("type", "metric_fn a number", {"metric_fn": lambda o, t: o.sum()}, "metric_fn"),
    ("shape", "augment changes shape", {"augment": lambda k, x: x[:, :1]}, "augment"),
    ("unknown name", "train_kwargs", {"train_kwargs": {"trian": True}}, "trian"),
    ("shape", "validation wide", {"validation": (X[:, :1], Y)}, "validation"),
    ("shape", "validation flat", {"validation": (X, Y[:, 0])}, "validation"),
    ("range", "one class", {"model": MODEL, "data": (X, LABELS), "likelihood": CLASSES}, "classes"),
]
for kind, name, changes, message in FITS:
    add(kind, f"fit: {name}", lambda c=changes: fitted(**c), message)

PREDICTIONS: list[tuple[str, str, dict[str, Any], str]] = [
    ("type", "key None", {"key": None}, "key must be a JAX key"),
    ("type", "key 3", {"key": 3}, "key must be a JAX key"),
    ("type", "no samples", {"num_samples": None}, "num_samples"),
    ("range", "0 samples", {"num_samples": 0}, "num_samples"),
    ("range", "-3 samples", {"num_samples": -3}, "num_samples"),
    ("type", "2.5 samples", {"num_samples": 2.5}, "num_samples"),
    ("type", "True samples", {"num_samples": True}, "num_samples"),
    ("type", "likelihood None", {"likelihood": None}, "likelihood must be"),
    ("type", "likelihood by name", {"likelihood": "normal"}, "likelihood must be"),
    ("unknown name", "method", {"method": "moment"}, "method must be one of"),
    ("conflict", "moments with samples", {"method": "moments"}, "num_samples"),
    ("range", "levels 0", {"levels": [0.0]}, "levels must be"),
    ("range", "levels 5", {"levels": [5]}, "levels must be"),
    ("range", "levels NaN", {"levels": [NAN]}, "levels must be"),
    ("type", "levels a number", {"levels": 0.5}, "levels must be"),
    ("range", "batch size 0", {"batch_size": 0}, "batch_size must be"),
    ("type", "batch size 1.5", {"batch_size": 1.5}, "batch_size must be"),
    ("type", "batch size None", {"batch_size": None}, "batch_size must be"),
    ("shape", "lengths", {"targets": Y[:3]}, "same number of examples"),
    ("shape", "targets flat", {"targets": Y[:, 0]}, "shape"),
    ("shape", "x wide", {"x": np.ones((8, 3), np.float32)}, "shape|width|inputs"),
    ("shape", "x one example", {"x": X[0]}, "shape|axis|width"),
    ("empty", "x", {"x": X[:0]}, "no examples"),
    ("type", "x None", {"x": None}, "array"),
    ("type", "x of text", {"x": np.array([["a", "b"]])}, "numbers"),
    ("not finite", "targets", {"targets": Y * NAN}, "finite"),
    ("type", "model None", {"model": None}, "to_bnn"),
    ("type", "function without posterior", {"model": network}, "posterior"),
    ("shape", "posterior", {"posterior": TWO.posterior}, "shape|posterior"),
    ("shape", "posterior keys", {"posterior": {"v": RANDOM["w"]}}, "posterior"),
    ("type", "posterior of numbers", {"posterior": 3}, "posterior"),
    ("empty", "ensemble", {"posterior": [], "num_samples": None}, "ensemble|posterior"),
    ("conflict", "quantiles of classes", {"likelihood": CLASSES, "levels": [0.5]}, "quantiles"),
    ("conflict", "targets of a function", {"likelihood": lambda o: o, "targets": Y}, "targets"),
    ("range", "odd pairs", {"num_samples": 3, "antithetic": "yes"}, "antithetic"),
    ("unknown name", "option", {"trian": True}, "trian"),
]
for kind, name, changes, message in PREDICTIONS:
    add(kind, f"predict: {name}", lambda c=changes: predicted(**c), message)

CONVERSIONS: list[tuple[str, str, Callable[[], Any], str]] = [
    ("unknown name", "where", lambda: to_bnn(network, PARAMS, where="b"), "where|matches no"),
    ("empty", "where", lambda: to_bnn(network, PARAMS, where=[]), "where|no weight"),
    ("empty", "params", lambda: to_bnn(network, {}), "no arrays"),
    ("type", "where 3", lambda: to_bnn(network, PARAMS, where=3), "where"),
    ("type", "no variables of linen", lambda: to_bnn(LINEN), "variables"),
    ("type", "params in place of variables", lambda: to_bnn(LINEN, PARAMS), "params"),
    ("type", "variables of a function None", lambda: to_bnn(network, None), "params"),
    ("type", "model None", lambda: to_bnn(None, PARAMS), "model|module"),
    ("type", "linen class", lambda: to_bnn(nn.Dense, PARAMS), "class|instance"),
    ("unknown name", "estimator", lambda: to_bnn(network, PARAMS, estimator="flip"), "flipout"),
    ("type", "estimator 3", lambda: to_bnn(network, PARAMS, estimator=3), "estimator"),
    ("unknown name", "pattern", lambda: to_bnn(network, PARAMS, estimator={"b": "flipout"}), "'b'"),
    ("type", "prior by name", lambda: to_bnn(network, PARAMS, prior="normal"), "prior"),
    ("type", "prior a number", lambda: to_bnn(network, PARAMS, prior=1.0), "prior"),
    ("type", "prior a class", lambda: to_bnn(network, PARAMS, prior=NormalPrior), "prior"),
    (
        *("shape", "prior"),
        lambda: to_bnn(network, PARAMS, prior={"w": NormalPrior(std=np.ones(5))}),
        "broadcast",
    ),
    ("type", "initial_std text", lambda: to_bnn(network, PARAMS, initial_std="1"), "initial_std"),
    ("type", "initial_std array", lambda: to_bnn(network, PARAMS, initial_std=X), "initial_std"),
    ("type", "fresh 3", lambda: to_bnn(network, PARAMS, fresh=3), "fresh|key"),
    ("type", "inputs an array", lambda: to_bnn(network, PARAMS, inputs=X), "tuple"),
    ("conflict", "last without inputs", lambda: to_bnn(network, PARAMS, where="last"), "inputs"),
    (
        "type",
        "integer params",
        lambda: to_bnn(network, {"w": jnp.ones((2, 1), int)}),
        "None is floating point",
    ),
    ("not finite", "params", lambda: to_bnn(network, {"w": jnp.full((2, 1), NAN)}), "finite|NaN"),
    ("shape", "apply", lambda: MODEL.apply(new_key(), RANDOM, X[:, :1]), "shape|width"),
    ("shape", "mean_apply", lambda: MODEL.mean_apply(RANDOM, X[:, :1]), "shape|width"),
    ("type", "mean_apply of x", lambda: MODEL.mean_apply(X), "posterior"),
    ("type", "sample key 3", lambda: MODEL.sample(3, RANDOM), "key must be a JAX key"),
    ("range", "ensemble 0", lambda: MODEL.ensemble(new_key(), RANDOM, size=0), "size must be"),
    ("type", "statistics of an array", lambda: MODEL.batch_statistics(RANDOM, X), "batches must"),
    ("conflict", "streams", lambda: MODEL.forward(streams=("dropout",)), "streams"),
    ("type", "view", lambda: MODEL.view(train=True), "NNX"),
    ("type", "kl of params", lambda: MODEL.kl(PARAMS), "Gaussian|random"),
    ("shape", "kl of another", lambda: MODEL.kl(TWO.posterior["w"]), "prior|posterior|Gaussian"),
]
for kind, name, call, message in CONVERSIONS:
    add(kind, f"model: {name}", call, message)
