"""Every method takes ordinary networks of all kinds: a step, a sample, and the network's output."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo_functions
import zoo_linen
import zoo_nnx

from bnn_jax import NormalPrior, infer, posteriors, to_bnn
from bnn_jax.infer import Problem
from bnn_jax.likelihoods import Likelihood

CASES = {c.name: c for c in (*zoo_linen.CASES, *zoo_nnx.CASES, *zoo_functions.CASES)}

METHODS = {
    "map": infer.map(),
    "bayes_by_backprop": infer.bayes_by_backprop(learn_prior=True),
    "sticking_the_landing": infer.bayes_by_backprop(sticking_the_landing=True),
    "ivon": infer.ivon(),
    "mc_dropout": infer.mc_dropout(where="layers"),
    "swag": infer.swag(start=0.0, every=1, rank=2),
    "ensemble": infer.ensemble(infer.map(), size=2, vectorized=True),
    "ensemble_of_mean_field": infer.ensemble(infer.bayes_by_backprop(), size=2),
    "multi_swag": infer.ensemble(infer.swag(start=0.0, every=1, rank=2), size=2),
}

# Quick: a linen network, dropout and batch statistics in an NNX module, and a function; the linen
# module's batch statistics where a method averages over weights. The others are slow tests.
QUICK = {
    "linen-mlp": set(METHODS),
    "nnx-resnet_dropout_train": set(METHODS),
    "function-deep_sets": set(METHODS),
    "linen-lenet": {"mc_dropout", "map"},
    "linen-resnet_train": {"swag", "ensemble"},
}
RUNS = [
    pytest.param(name, method, marks=[] if method in QUICK.get(name, ()) else pytest.mark.slow)
    for name in sorted(CASES, key=lambda name: name not in QUICK)
    for method in METHODS
    # A function has no layers to put dropout after; a linen network is traced in evaluation mode.
    if method != "mc_dropout"
    or name.startswith("nnx")
    or (name.startswith("linen") and "train" not in CASES[name].kwargs)
]


class SquaredOutputs(Likelihood):
    """A likelihood of any outputs: all of them are standard normal."""

    def nll(self, outputs: Any, targets: Any) -> Any:
        leaves = [jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(outputs)]
        return sum(leaves[1:], leaves[0]).astype(jnp.float32)


@pytest.fixture(autouse=True, scope="module")
def standard_promotion() -> Iterator[None]:
    """Flax's average pooling needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def problem_of(name: str) -> tuple[Problem, Any, Any]:
    case = CASES[name]
    network, variables = case.make()
    model = to_bnn(network, variables, where=case.where, prior=NormalPrior(0.0, 0.5))
    kwargs = case.call_kwargs()
    problem = Problem(model, model.forward(**kwargs), SquaredOutputs(), num_data=100, num_steps=2)
    inputs = case.inputs(0)
    return problem, inputs, kwargs


def outputs_of(posterior: Any, problem: Problem, inputs: Any, kwargs: Any) -> Any:
    key = jax.random.key(2)

    network_of_model = problem.model.network

    def network(params: Any, variables: Any, *inputs: Any) -> Any:
        if not variables:
            return network_of_model.call(params, variables, *inputs, **kwargs)
        options = {**kwargs, **network_of_model.mutable_options()}
        return network_of_model.call(params, variables, *inputs, **options)[0]

    if isinstance(posterior, posteriors.HasOutputs):
        return posterior.outputs(key, network, problem.model.variables, inputs)
    params, variables = posteriors.draw(posterior, key, 0)
    return network(params, variables, *inputs)


@pytest.mark.parametrize(("name", "method"), RUNS)
def test_a_step_and_a_sample(name: str, method: str) -> None:
    problem, inputs, kwargs = problem_of(name)
    run = METHODS[method].build(problem)

    @jax.jit
    def two_steps(key: Any) -> Any:
        def step(state: Any, _: None) -> Any:
            return run.step(state, jax.random.key(1), (inputs, jnp.zeros(())))

        state, info = jax.lax.scan(step, run.init(key), length=2)
        posterior = run.posterior(state)
        return info.loss, posterior.mean(), outputs_of(posterior, problem, inputs, kwargs)

    loss, mean, outputs = two_steps(jax.random.key(0))
    assert np.all(np.isfinite(loss))
    assert jax.tree.map(jnp.shape, mean) == jax.tree.map(jnp.shape, problem.params)
    moved = [
        np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (mean, problem.params)), strict=True)
    ]
    assert np.mean(moved) > 0.5
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(outputs))


# Networks whose outputs for an example depend on this example alone, which Laplace needs.
LAPLACE = (
    *QUICK,
    "linen-unet",
    "linen-vision_transformer",
    "linen-gpt_tied_embedding",
    "linen-bidirectional_lstm",
    "linen-lora",
    "linen-scan_and_remat",
    "nnx-mixer",
    "nnx-temporal_cnn",
)
LAPLACE_RUNS = [
    pytest.param(name, kind, marks=[] if name in QUICK else pytest.mark.slow)
    for name in LAPLACE
    for kind in ("last_layer", "diagonal", "kronecker")
]


@pytest.mark.parametrize(("name", "kind"), LAPLACE_RUNS)
def test_the_curvature_of_laplace(name: str, kind: Any) -> None:
    problem, inputs, kwargs = problem_of(name)
    run = infer.laplace(curvature=kind).build(problem)
    targets = jnp.zeros(len(jax.tree.leaves(inputs)[0]))
    assert run.finish is not None
    state = run.finish(run.init(jax.random.key(0)), lambda: [(inputs, targets)])
    posterior = run.posterior(state)
    evaluation = {**kwargs, "train": False} if "train" in kwargs else kwargs
    outputs = jax.jit(lambda p: outputs_of(p, problem, inputs, evaluation))(posterior)
    drawn, mean = posterior.sample(jax.random.key(3)), posterior.mean()
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((drawn, outputs)))
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), drawn, mean)
    if kind == "last_layer":
        assert any(jax.tree.leaves(changed))
    else:
        assert changed == problem.is_random
