"""Every inference method through `fit`: predictions, saving and loading, exact resume."""

import functools
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import Fit, NormalPrior, fit, infer, likelihoods, to_bnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 3)).astype(np.float32)
LABELS = (X.sum(axis=1) > 0).astype(np.int32)
METHODS = {
    "bayes_by_backprop": infer.bayes_by_backprop(learning_rate=0.02),
    "ensemble": infer.ensemble(infer.map(learning_rate=0.02), size=2),
    "hmc": infer.hmc(warmup=20, chains=1, leapfrogs=2),
    "ivon": infer.ivon(learning_rate=0.02),
    "laplace": infer.laplace(learning_rate=0.02),
    "laplace_kronecker": infer.laplace(
        learning_rate=0.02, curvature="kronecker", predictive="sampled"
    ),
    "mixture_of_laplace": infer.ensemble(
        infer.laplace(learning_rate=0.02, curvature="diagonal"), size=2
    ),
    "map": infer.map(learning_rate=0.02),
    "mc_dropout": infer.mc_dropout(rate=0.1, learning_rate=0.02),
    "mixture": infer.ensemble(infer.bayes_by_backprop(learning_rate=0.02), size=2),
    "multi_swag": infer.ensemble(infer.swag(learning_rate=0.02, every=2, rank=3), size=2),
    "nuts": infer.nuts(warmup=20, chains=1, max_doublings=2),
    "sghmc": infer.sghmc(num_samples=4, cycles=2),
    "sgld": infer.sgld(num_samples=4),
    "swag": infer.swag(learning_rate=0.02, every=2, rank=3),
}


# Methods of a kind that another one has, alone or as members of an ensemble, in fits.
OF_A_KIND = {"mixture", "multi_swag", "nuts"}


@functools.cache
def model() -> Any:
    network = nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(2)])
    variables = jax.jit(network.init)(jax.random.key(0), X)
    return to_bnn(network, variables, prior=NormalPrior(std=1.0))


def run(name: str, **options: Any) -> Fit:
    method = METHODS[name]
    return fit(
        jax.random.key(0),
        model(),
        (X, LABELS),
        method=method,
        likelihood=likelihoods.Categorical(),
        epochs=26 if method.whole_data else 8,
        batch_size=16,
        progress=False,
        **options,
    )


def test_every_method_is_here() -> None:
    assert set(infer.METHODS) <= set(METHODS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in OF_A_KIND else []) for n in METHODS],
)
def test_it_resumes_and_is_saved(name: str, tmp_path: Path) -> None:
    interrupted = False

    def stop(line: dict[str, Any], now: Fit) -> None:
        nonlocal interrupted
        if line["epoch"] == 5 and not interrupted:
            interrupted = True
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(name, checkpoint=tmp_path / "fit", callbacks=[stop])
    resumed = run(name, checkpoint=tmp_path / "fit", callbacks=[stop])
    whole = run(name)
    leaves = (jax.tree.leaves(result.posterior) for result in (resumed, whole))
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_array_equal(one, other)
    p = whole.predict(X, 4)
    np.testing.assert_allclose(p.probabilities.sum(axis=-1), 1.0, rtol=1e-5)
    assert whole.evaluate(X, LABELS, 4)["nll"] < 5.0
    whole.save(tmp_path / "saved")
    loaded = Fit.load(tmp_path / "saved", model())
    np.testing.assert_array_equal(loaded.predict(X, 4).probabilities, p.probabilities)
