"""Networks of many kinds, written with no thought of Bayes, become Bayesian without a change.

For each network and each estimator one training step is compiled, with the scale of the noise as
an argument: at scale 0 it must be the network itself, and at scale 1 its gradients are looked at.
"""

import contextlib
import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import zoo_functions
import zoo_linen
import zoo_nnx
from zoo_case import Case, plain_call, plain_params

from bnn_jax import gaussian, noise, to_bnn, train
from bnn_jax.interpreter.random_array import EstimatorError
from bnn_jax.transforms import BayesianModel

CASES = {c.name: c for c in (*zoo_linen.CASES, *zoo_nnx.CASES, *zoo_functions.CASES)}
STD, PRIOR_STD, NUM_DATA = 0.05, 0.1, 1000


# By design a weight with two uses has no local_reparam or flipout: such a network names it.
def estimators(case: Case) -> tuple[str, ...]:
    return ("flipout", "reparam") if case.tied else ("flipout", "reparam", "local_reparam")


# The training steps that take longest to compile; each kind has a smaller network below.
LONG = {
    "linen-resnet_train",
    "linen-vision_transformer",
    "linen-bidirectional_lstm",
    "linen-lora",
    "nnx-encoder_decoder",
}
RECURRENT = "nnx-gru"
RUNS = [
    pytest.param(
        name,
        estimator,
        # Every other network in each run of the tests; all of them, under all rules, on request.
        marks=[]
        if estimator == "flipout"
        and ((not case.similar and i % 2 == 0 and name not in LONG) or name == RECURRENT)
        else pytest.mark.slow,
    )
    for i, (name, case) in enumerate(CASES.items())
    for estimator in estimators(case)
]


@pytest.fixture(autouse=True, scope="module")
def standard_promotion() -> Iterator[None]:
    """Flax's average pooling needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def network_of(name: str) -> tuple[Any, Any, Any]:
    """The ordinary network: (model, variables, params)."""
    model, variables = CASES[name].make()
    return model, variables, plain_params(model, variables)


@functools.cache
def programs_of(name: str) -> Any:
    """Compiled together, each a (outputs, other state): the ordinary network as a function of its
    params, and without noise the Bayesian one under each estimator but flipout.
    """
    case = CASES[name]
    model, variables, _ = network_of(name)
    models = [bayesian(name, e) for e in estimators(case) if e != "flipout"]

    @jax.jit
    def run(params: Any, posterior: Any, inputs: Any) -> Any:
        plain = plain_call(model, variables, params, inputs, case.call_kwargs())
        with scaled_noise(jnp.float32(0)):
            silent = [
                forward_of(case, m)(jax.random.key(3), posterior, m.variables, inputs)
                for m in models
            ]
        return plain, silent

    return lambda params: run(params, models[0].posterior, case.inputs(0))


@functools.cache
def results(name: str) -> Any:
    return programs_of(name)(network_of(name)[2])


def bayesian(name: str, estimator: str, **options: Any) -> BayesianModel:
    case = CASES[name]
    model, variables, _ = network_of(name)
    options = {"where": case.where, "initial_std": STD, **options}
    return to_bnn(model, variables, estimator=estimator, **options)


def forward_of(case: Case, model: BayesianModel) -> train.Forward:
    return model.forward(**case.call_kwargs())


@contextlib.contextmanager
def scaled_noise(scale: Any) -> Iterator[None]:
    """Fixed numbers for the noise, times a scale: random generators take long to compile."""
    rng = np.random.default_rng(0)

    def normal(key: Any, shape: Any, dtype: Any = jnp.float32) -> Any:
        return scale.astype(dtype) * jnp.asarray(rng.normal(size=shape), dtype)

    def signs(key: Any, shape: Any, dtype: Any = jnp.float32) -> Any:
        return jnp.asarray(rng.choice([-1.0, 1.0], size=shape), dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "normal", normal)
        patch.setattr(noise, "signs", signs)
        yield


def mean_square(outputs: Any, labels: Any) -> Any:
    return sum(jnp.mean(jnp.square(x)) for x in jax.tree.leaves(outputs))


def numbers(tree: Any) -> list[np.ndarray]:
    def array(x: Any) -> np.ndarray:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return [array(x) for x in jax.tree.leaves(tree)]


def assert_same_bits(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def assert_close(actual: Any, expected: Any) -> None:
    """Equal up to 1e-6 of the largest magnitude of each array."""
    for a, b in zip(numbers(actual), numbers(expected), strict=True):
        assert a.shape == b.shape
        if np.issubdtype(b.dtype, np.floating):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())
        else:
            np.testing.assert_array_equal(a, b)


def closed_form(leaf: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """KL(N(mean, std) || N(0, PRIOR_STD)) and its gradients by mean and rho, in float64."""
    mean, rho = np.asarray(leaf.mean, np.float64), np.asarray(leaf.rho, np.float64)
    std = np.log1p(np.exp(rho)) + 1e-6
    kl = np.log(PRIOR_STD / std) + (std**2 + mean**2) / (2 * PRIOR_STD**2) - 0.5
    by_std = -1 / std + std / PRIOR_STD**2
    return float(kl.sum()), mean / PRIOR_STD**2, by_std / (1 + np.exp(-rho))


@pytest.mark.parametrize(("name", "estimator"), RUNS)
def test_a_training_step(name: str, estimator: str) -> None:
    case = CASES[name]
    model = bayesian(name, estimator)
    optimizer = optax.sgd(1e-3, momentum=0.0)  # its trace is the gradient
    train_step = train.build_step(
        forward_of(case, model),
        mean_square,
        optimizer,
        model.prior,
        num_data=NUM_DATA,
        metric_fn=lambda outputs, labels: {"outputs": outputs},
    )

    traces = []

    @jax.jit
    def step(scale: Any, state: Any, key: Any, batch: Any) -> Any:
        traces.append(scale)
        with scaled_noise(scale):
            return train_step(state, key, batch)

    # Without noise it is the network, its other state included.
    start = train.init(model.posterior, optimizer, variables=model.variables)
    state, info = step(jnp.float32(0), start, jax.random.key(3), (case.inputs(0), None))
    outputs, others = results(name)[0]
    assert_close(info.metrics["outputs"], outputs)
    assert_close(state.variables, others)

    # The KL is the closed form over the chosen leaves.
    expected_kl = sum(closed_form(q)[0] for q in gaussian.random_leaves(model.posterior).values())
    np.testing.assert_allclose(float(info.kl), expected_kl, rtol=1e-5)

    # The second step, with other data, runs the same program and has every gradient.
    after, noisy = step(jnp.float32(1), state, jax.random.key(4), (case.inputs(1), None))
    assert len(traces) == 1
    assert np.isfinite(float(noisy.loss))
    gradients = gaussian.random_leaves(after.opt_state[0].trace)
    assert all(np.all(np.isfinite(x)) for x in numbers(after))
    random = gaussian.random_leaves(state.posterior)
    assert list(gradients) == list(random)
    for path, gradient in gradients.items():
        _, *of_kl = closed_form(random[path])
        for part, total, share in zip(
            ("mean", "rho"), (gradient.mean, gradient.rho), of_kl, strict=True
        ):
            of_data = np.abs(np.asarray(total, np.float64) - share / NUM_DATA).max()
            rounding = 1e-5 * np.abs(share / NUM_DATA).max() + 1e-8
            idle = any(fnmatchcase(path, glob) for glob in case.idle)
            assert (of_data > rounding) != idle, f"{path} {part}: {of_data}, idle {idle}"


@pytest.mark.parametrize("name", CASES, scope="module")  # one network after the other
def test_without_noise_it_is_the_network(name: str) -> None:
    """The other estimators; flipout is looked at in its training step."""
    (outputs, others), silent = results(name)
    assert len(silent) == len(estimators(CASES[name])) - 1
    assert all(np.ptp(x) > 0 for x in numbers(outputs))
    for actual, variables in silent:
        assert_close(actual, outputs)
        assert_close(variables, others)


@pytest.mark.parametrize("name", CASES, scope="module")  # one network after the other
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """Excluded leaves are the given ones, the mean is the network, and a checkpoint is exact."""
    net, variables, params = network_of(name)
    leaves = {
        gaussian.path_name(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)
    }
    for where in ("kernels", "layers", CASES[name].where):
        model = to_bnn(net, variables, where=where, initial_std=STD)
        random = gaussian.random_leaves(model.posterior)
        kept = jax.tree_util.tree_leaves_with_path(model.posterior, is_leaf=gaussian.is_gaussian)
        assert [gaussian.path_name(path) for path, _ in kept] == list(leaves)
        for path, leaf in leaves.items():
            if where == "kernels" and path in random:
                assert leaf.ndim >= 2
            if where in ("kernels", "layers"):
                assert path not in random or not path.endswith(("/scale", "/embedding"))
        for path, leaf in ((gaussian.path_name(path), leaf) for path, leaf in kept):
            if path not in random:
                assert_same_bits(leaf, leaves[path])
        assert_same_bits(model.mean(model.posterior), params)
    (back, state), _ = programs_of(name)(model.mean(model.posterior))
    outputs, others = results(name)[0]
    assert_same_bits((back, numbers(state)), (outputs, numbers(others)))

    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(tmp_path / "posterior", model.posterior)
    checkpointer.wait_until_finished()
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, model.posterior)
    assert_same_bits(checkpointer.restore(tmp_path / "posterior", abstract), model.posterior)
    checkpointer.close()


@pytest.mark.parametrize("estimator", ["flipout", "local_reparam"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.tied])
def test_a_weight_used_twice_is_drawn_once_or_an_error_that_names_it(
    name: str, estimator: str
) -> None:
    case = CASES[name]
    model, variables, _ = network_of(name)

    def trace(bnn: BayesianModel, report: dict[str, list[str]]) -> None:
        jax.eval_shape(
            lambda posterior: bnn.apply(
                jax.random.key(0),
                posterior,
                *case.inputs(0),
                rules_used=report,
                **case.call_kwargs(),
            ),
            bnn.posterior,
        )

    report: dict[str, list[str]] = {}
    trace(to_bnn(model, variables, where=case.where, estimator=estimator), report)
    twice = [path for path in report if any(fnmatchcase(path, glob) for glob in case.tied)]
    assert {rule for path in twice for rule in report[path]} == {"reparam"}
    patterns = dict.fromkeys(case.tied, estimator) | {"*": "reparam"}
    named = to_bnn(model, variables, where=case.where, estimator=patterns)
    with pytest.raises(EstimatorError, match="used more than once") as error:
        trace(named, {})
    assert str(error.value).split("'")[1] in twice
