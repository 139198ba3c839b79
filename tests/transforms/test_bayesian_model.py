"""The report, the views and the batch statistics of a Bayesian model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bnn_jax import NormalPrior, gaussian, priors, to_bnn
from bnn_jax.transforms import BayesianModel

X = jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, size=(12, 6)), jnp.float32)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Embed(4, 6, name="table")(jnp.zeros(len(x), jnp.int32)) + x
        x = nn.Dense(5, name="zero")(x)
        x = nn.BatchNorm(momentum=0.9, use_running_average=not train, name="norm")(x)
        x = nn.BatchNorm(use_running_average=True, name="frozen")(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(2, name="a_head")(x)


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.zero = nnx.Linear(6, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.9, use_running_average=True, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.a_head = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.a_head(self.drop(nnx.relu(self.norm(self.zero(x)))))


def linen_model(**options: Any) -> BayesianModel:
    module = LinenNet()
    return to_bnn(module, module.init(jax.random.key(0), X), **options)


def nnx_model(**options: Any) -> BayesianModel:
    return to_bnn(NnxNet(nnx.Rngs(0)), **options)


def hidden(params: Any, x: Any) -> np.ndarray:
    kernel, bias = (np.asarray(params["zero"][name]) for name in ("kernel", "bias"))
    return np.asarray(x) @ kernel + bias


def test_the_report_says_what_became_of_each_weight() -> None:
    prior = {"zero": {"kernel": NormalPrior(jnp.zeros((6, 5)), 0.5)}, "a_head": NormalPrior()}
    prior["zero"]["bias"] = NormalPrior()
    prior["a_head"] = {"kernel": NormalPrior(std=2.0), "bias": NormalPrior()}
    model = linen_model(estimator={"zero/*": "flipout", "*": "local_reparam"}, prior=prior)
    report = model.report(X)
    rows = {w.path: w for w in report.weights}
    assert list(rows) == [
        "a_head/bias",
        "a_head/kernel",
        "frozen/bias",
        "frozen/scale",
        "norm/bias",
        "norm/scale",
        "table/embedding",
        "zero/bias",
        "zero/kernel",
    ]
    zero = rows["zero/kernel"]
    assert (zero.layer_type, zero.shape, zero.size, zero.random) == (nn.Dense, (6, 5), 30, True)
    assert (zero.estimator, zero.applied) == ("flipout", ("flipout",))
    assert rows["a_head/bias"].applied == ("local_reparam",)
    norm = rows["norm/scale"]
    assert (norm.layer_type, norm.random, norm.estimator) == (nn.BatchNorm, False, None)
    assert (norm.applied, norm.prior) == (None, None)
    # 2 + 10 + 5 + 30 random; 4 x 5 of the norms and 24 of the table are not.
    assert (report.num_random_weights, report.num_weights) == (47, 91)
    text = str(report)
    assert "NormalPrior(mean=array[6, 5], std=0.5)" in text
    assert "NormalPrior(mean=0, std=2)" in text
    assert max(len(line) for line in text.splitlines()) < 140


def test_the_report_says_where_an_estimator_is_replaced_or_not_used() -> None:
    def network(params: Any, x: Any) -> Any:
        return x @ params["used"] + jnp.sin(params["sampled"])[None]

    params = {"used": jnp.ones((6, 2)), "sampled": jnp.ones(2), "unused": jnp.ones(3)}
    model = to_bnn(network, params, estimator="flipout")
    text = {w.path: w.applied for w in model.report(X).weights}
    assert text == {"used": ("flipout",), "sampled": ("reparam",), "unused": ()}
    assert "flipout -> reparam" in str(model.report(X))
    assert "flipout: not used" in str(model.report(X))
    assert all(w.applied is None for w in model.report().weights)
    assert "->" not in str(model.report())


def test_the_report_of_nnx_has_layer_types_without_inputs() -> None:
    types = {w.path: w.layer_type for w in nnx_model().report().weights}
    assert types["zero/kernel"] is nnx.Linear
    assert types["norm/scale"] is nnx.BatchNorm


@pytest.mark.parametrize("make", [linen_model, nnx_model])
def test_the_last_layer_is_the_last_to_meet_the_data(make: Any) -> None:
    model = make(where="last", inputs=(X,))
    assert list(gaussian.random_leaves(model.posterior)) == ["a_head/bias", "a_head/kernel"]


def test_the_last_layer_of_functions() -> None:
    def last(network: Any, params: Any) -> list[str]:
        model = to_bnn(network, params, where="last", inputs=(X,))
        return list(gaussian.random_leaves(model.posterior))

    weights = {"w": jnp.ones((6, 6)), "a": jnp.ones((6, 3)), "b": jnp.ones(3), "n": jnp.ones(6)}
    assert last(lambda p, x: (x @ p["w"]) @ p["a"] + p["b"][None], weights) == ["a", "b"]
    assert last(lambda p, x: jax.nn.relu(x @ p["w"]) * p["n"][None], weights) == ["n", "w"]
    loop = lambda p, x: jax.lax.fori_loop(0, 3, lambda i, y: y @ p["w"], x)  # noqa: E731
    assert last(loop, weights) == ["w"]
    stepped = jax.jit(jax.checkpoint(lambda p, x: x @ p["w"]))
    assert last(lambda p, x: stepped(p, x @ (p["w"] * 2.0)), weights) == ["w"]
    layers = {"z": {"kernel": jnp.ones((6, 3)), "gain": jnp.ones((6, 6))}, "w": jnp.ones((6, 6))}
    network = lambda p, x: ((x @ p["w"]) @ p["z"]["gain"]) @ p["z"]["kernel"]  # noqa: E731
    assert last(network, layers) == ["z/gain", "z/kernel"]


def test_the_last_layer_needs_inputs_and_weights_that_meet_them() -> None:
    with pytest.raises(ValueError, match=r"inputs=\(x,\)"):
        linen_model(where="last")
    with pytest.raises(ValueError, match="no last layer"):
        to_bnn(lambda p, x: x, {"w": jnp.ones(3)}, where="last", inputs=(X,))


@pytest.mark.parametrize("sizes", [(12,), (4, 8), (3, 3, 6)])
def test_batch_statistics_at_the_mean_are_the_average_over_batches(sizes: tuple[int, ...]) -> None:
    model = linen_model()
    batches = [np.asarray(b) for b in np.split(X, np.cumsum(sizes)[:-1])]
    options = {"train": True, "rngs": {"dropout": jax.random.key(0)}}
    new = model.batch_statistics(model.posterior, batches, **options)["batch_stats"]
    table = np.asarray(model.network.params["table"]["embedding"][0])
    activations = [hidden(model.network.params, b + table) for b in batches]
    mean = sum(len(a) * a.mean(axis=0) for a in activations) / len(X)
    var = sum(len(a) * a.var(axis=0) for a in activations) / len(X)
    np.testing.assert_allclose(new["norm"]["mean"], mean, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(new["norm"]["var"], var, rtol=2e-5)
    jax.tree.map(
        np.testing.assert_array_equal, new["frozen"], model.variables["batch_stats"]["frozen"]
    )


def test_batch_statistics_of_nnx_keep_all_other_state() -> None:
    model = nnx_model(initial_std=0.3)
    training = model.view(use_running_average=False, deterministic=False)
    new = training.batch_statistics(model.posterior, [(X,)])
    activations = hidden(model.network.params, X)
    stats = nnx.to_pure_dict(new)
    np.testing.assert_allclose(stats["norm"]["mean"], activations.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(stats["norm"]["var"], activations.var(axis=0), rtol=1e-4)
    assert jax.tree.structure(new) == jax.tree.structure(model.variables)
    for part in ("count", "key"):
        old, now = (nnx.to_pure_dict(s)["drop"]["rngs"][part] for s in (model.variables, new))
        assert old == now
    out = model.mean_apply(model.posterior, X, variables=new)
    assert float(jnp.abs(out - model.mean_apply(model.posterior, X)).max()) > 1e-2


def test_batch_statistics_of_the_predictive() -> None:
    """With a key, the mean over weight samples; its distribution is known for a linear layer."""
    model = to_bnn(NnxNet(nnx.Rngs(0)), initial_std=0.3, where="zero/kernel")
    training = model.view(use_running_average=False)
    draws = 2000
    new = training.batch_statistics(model.posterior, [X], key=jax.random.key(1), num_samples=draws)
    x = np.asarray(X, np.float64)
    at_mean = hidden(model.network.params, X)
    # Var over rows of x w: the weights' spread adds std^2 times the summed variance of the inputs.
    spread = 0.3**2 * x.var(axis=0).sum()
    expected = at_mean.var(axis=0) + spread
    cov = np.cov(x.T, bias=True)
    w = np.asarray(model.network.params["zero"]["kernel"], np.float64)
    error = np.sqrt(
        (2 * 0.3**4 * np.trace(cov @ cov) + 4 * 0.3**2 * np.sum((cov @ w) ** 2, axis=0)) / draws
    )
    got = np.asarray(nnx.to_pure_dict(new)["norm"]["var"])
    assert np.all(np.abs(got - expected) < 5 * error)
    assert np.all(spread > 10 * error)


def test_wrong_calls_of_batch_statistics() -> None:
    model = linen_model()
    with pytest.raises(ValueError, match="train=True"):
        model.batch_statistics(model.posterior, [X])
    with pytest.raises(TypeError, match=r"\[x\]"):
        model.batch_statistics(model.posterior, X, train=True)
    with pytest.raises(ValueError, match="no batches"):
        model.batch_statistics(model.posterior, [], train=True)
    with pytest.raises(ValueError, match="no batch statistics"):
        to_bnn(lambda p, x: x @ p, jnp.ones((6, 2))).batch_statistics(jnp.ones((6, 2)), [X])


def test_a_view_changes_only_the_mode() -> None:
    model = nnx_model()
    training = model.view(deterministic=False, use_running_average=False)
    assert jax.tree.structure(training.variables) == jax.tree.structure(model.variables)
    plain, dropped = (m.mean_apply(model.posterior, X) for m in (model, training))
    assert float(jnp.abs(plain - dropped).max()) > 1e-2
    back = training.view(deterministic=True, use_running_average=True)
    np.testing.assert_array_equal(back.mean_apply(model.posterior, X), plain)
    with pytest.raises(TypeError, match="train=True"):
        linen_model().view(deterministic=True)


def test_a_prior_tree_is_the_reports() -> None:
    model = linen_model()
    centred = priors.centred_on(model.network.params, std=0.3)
    report = linen_model(prior=centred).report()
    assert {w.path for w in report.weights if w.prior is not None} == {
        "a_head/bias",
        "a_head/kernel",
        "zero/bias",
        "zero/kernel",
    }


def test_a_batch_may_have_several_inputs() -> None:
    model = to_bnn(lambda p, x, z: (x @ p) * z, jnp.ones((6, 2)), where="all")
    forward = model.forward()
    key, z = jax.random.key(0), jnp.full((12, 2), 3.0)
    out, _ = forward(key, model.posterior, None, (X, z))
    np.testing.assert_array_equal(out, model.apply(key, model.posterior, X, z))
