"""Training that diverges: noticed in the step in which it happens, and named."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnn_jax import NormalPrior, fit, infer, likelihoods, to_bnn
from bnn_jax.fitting import Diverged
from bnn_jax.fitting.loop import CALLS_BETWEEN_CHECKS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 2)).astype(np.float32)
Y = X[:, :1].copy()


def network(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["first"] @ params["last"]


def model(prior: Any = None) -> Any:
    params = {"first": jnp.ones((2, 2)), "last": jnp.ones((2, 1))}
    return to_bnn(network, params, prior=prior or NormalPrior(std=1.0))


def run(method: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "likelihood": likelihoods.Normal(std=0.1),
        "epochs": 6,
        "batch_size": 4,
        "progress": False,
        **options,
    }
    return fit(jax.random.key(0), model(), settings.pop("data", (X, Y)), method=method, **settings)


def nan_at(step: int, leaf: str) -> optax.GradientTransformation:
    """SGD whose update number `step` of one leaf is NaN."""

    def update(grads: Any, count: Any, params: Any = None) -> Any:
        def changed(path: Any, g: jax.Array) -> jax.Array:
            bad = (count == step - 1) & (leaf in jax.tree_util.keystr(path))
            return jnp.where(bad, jnp.nan, -1e-4 * g)

        return jax.tree_util.tree_map_with_path(changed, grads), count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


@pytest.mark.parametrize("step", [1, 2, 8, 9, CALLS_BETWEEN_CHECKS + 1])
def test_the_step_and_the_layer_are_named(step: int, tmp_path: Path) -> None:
    optimizer = nan_at(step, "last")
    method = infer.map(optimizer=optimizer)
    with pytest.raises(Diverged, match=f"diverged in step {step}: the weights") as error:
        run(method, checkpoint=tmp_path, checkpoint_minutes=1e-9)
    assert (error.value.step, error.value.where) == (step, "last")
    steps = sorted(int(p.name.rpartition("-")[2]) for p in tmp_path.glob("*-step-*"))
    assert steps[-1] == step - 1


HUGE = 1e30 * np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    ("method", "data", "message"),
    [
        (infer.map(optimizer=optax.sgd(1e6)), (X, Y), "Likely cause: the learning rate"),
        (infer.map(), (X * HUGE, Y), r"the data, with values up to 2\.\de\+30"),
        (
            infer.bayes_by_backprop(optimizer=nan_at(3, "first")),
            (X, Y),
            "step 3: the weights .first first/",
        ),
        (
            infer.ensemble(infer.map(optimizer=nan_at(3, "first")), size=2),
            (X, Y),
            "step 3: the weights .first first",
        ),
        (infer.sgld(step_size=1e6, num_samples=2), (X, Y), "diverged in step"),
    ],
)
def test_methods_and_likely_causes(method: Any, data: Any, message: str) -> None:
    with pytest.raises(FloatingPointError, match=message):
        run(method, data=data)


def test_a_loss_that_is_not_finite_is_noticed_where_the_weights_stay_finite() -> None:
    def log_of_zero(params: Any, x: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(jnp.log(jnp.zeros(()))) + x @ params["w"]

    bad = to_bnn(log_of_zero, {"w": jnp.ones((2, 1))}, prior=NormalPrior(std=1.0))
    with pytest.raises(Diverged, match="step 1: the loss"):
        fit(
            jax.random.key(0),
            bad,
            (X, Y),
            method=infer.map(optimizer=optax.set_to_zero()),
            likelihood=likelihoods.Normal(std=0.1),
            epochs=1,
            batch_size=4,
            progress=False,
        )
