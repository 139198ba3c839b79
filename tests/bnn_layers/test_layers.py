"""The NNX layers: their noise, their modes, their KL, and Flax's transformations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from bnn_jax import bnn_layers, gaussian, noise, priors
from bnn_jax.bnn_layers import (
    BayesianLayer,
    ConvReparam,
    DenseLocalReparam,
    DenseReparam,
    NormalPosterior,
    NormalPrior,
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all noise drawn, in order."""
    shapes: list[tuple[int, ...]] = []
    original = noise.normal

    def normal(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        shapes.append(tuple(shape))
        return original(key, shape, dtype)

    monkeypatch.setattr(noise, "normal", normal)
    return shapes


def dense(**options: Any) -> DenseReparam:
    return DenseReparam(3, 4, **{"rngs": nnx.Rngs(0), **options})


def conv(**options: Any) -> ConvReparam:
    return ConvReparam(2, 4, 3, has_bias=True, **{"rngs": nnx.Rngs(0), **options})


X = jax.random.normal(jax.random.key(7), (5, 3))
IMAGES = jax.random.normal(jax.random.key(8), (5, 6, 7, 2))


def test_one_draw_for_each_random_tensor_weight_first(drawn: list[tuple[int, ...]]) -> None:
    layers = [(dense(), X), (dense(has_bias=False), X), (conv(), IMAGES)]
    layers.append((DenseLocalReparam(3, 4, rngs=nnx.Rngs(0)), X))
    assert len(drawn) == 2 * 7  # mean and rho of each parameter at construction
    expected = [[(3, 4), (4,)], [(3, 4)], [(3, 3, 2, 4), (4,)], [(5, 4), (4,)]]
    for (layer, x), shapes in zip(layers, expected, strict=True):
        drawn.clear()
        layer(x)
        assert drawn == shapes
        drawn.clear()
        layer(x, deterministic=True)
        assert drawn == []


def test_output_is_that_of_the_ordinary_layer_with_the_drawn_weights() -> None:
    layer = conv(stride=2, dilation=(1, 2), group=2)
    q = {"w": layer.weight_posterior.gaussian, "b": layer.bias_posterior.gaussian}
    keys = jax.random.split(jax.random.key(3))
    plain = nnx.Conv(
        2, 4, (3, 3), 2, kernel_dilation=(1, 2), feature_group_count=2, rngs=nnx.Rngs(0)
    )
    plain.kernel.set_value(q["w"].mean + q["w"].std * noise.normal(keys[0], (3, 3, 1, 4)))
    plain.bias.set_value(q["b"].mean + q["b"].std * noise.normal(keys[1], (4,)))
    np.testing.assert_allclose(
        layer(IMAGES, rngs=jax.random.key(3)), plain(IMAGES), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("make", [dense, conv])
def test_deterministic_uses_the_mean(make: Any) -> None:
    x = X if make is dense else IMAGES
    by_call = make()(x, deterministic=True)
    np.testing.assert_array_equal(make(deterministic=True)(x), by_call)
    layer = make()
    layer.eval()
    np.testing.assert_array_equal(layer(x), by_call)
    layer.train()
    assert not np.array_equal(layer(x), by_call)
    layer.eval()
    layer.set_attributes(BayesianLayer, deterministic=False)
    assert not np.array_equal(layer(x), by_call)
    w, b = layer.weight_posterior.mean[...], layer.bias_posterior.mean[...]
    if make is dense:
        np.testing.assert_allclose(by_call, x @ w + b[None], rtol=1e-5)
    with pytest.raises(ValueError, match="deterministic=None"):
        make(deterministic=None)(x)


def test_noise_follows_the_rngs() -> None:
    layer = dense()
    first, second = layer(X), layer(X)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(dense()(X), first)
    with_key = layer(X, rngs=jax.random.key(5))
    np.testing.assert_array_equal(layer(X, rngs=jax.random.key(5)), with_key)
    assert not np.array_equal(with_key, first)
    by_stream = layer(X, rngs=nnx.Rngs(noise=1))
    np.testing.assert_array_equal(layer(X, rngs=nnx.Rngs(noise=1)["noise"]), by_stream)
    named = dense(rngs=nnx.Rngs(0, mine=1), rng_collection="mine")
    assert not np.array_equal(named(X), first)


def test_two_layers_of_one_rngs_have_their_own_noise() -> None:
    rngs = nnx.Rngs(0)
    a, b = DenseReparam(3, 4, rngs=rngs), DenseReparam(3, 4, rngs=rngs)
    nnx.update(b, nnx.state(a, nnx.Param))
    assert not np.array_equal(a(X), b(X))


def test_dense_takes_any_rank_and_local_only_what_is_exact() -> None:
    layer, local = dense(), DenseLocalReparam(3, 4, rngs=nnx.Rngs(0))
    assert layer(X[0]).shape == local(X[0]).shape == (4,)
    deep = jnp.ones((2, 6, 5, 3))
    assert layer(deep).shape == (2, 6, 5, 4)
    with pytest.raises(ValueError, match="approximate=True"):
        local(deep)
    assert DenseLocalReparam(3, 4, approximate=True, rngs=nnx.Rngs(0))(deep).shape == (2, 6, 5, 4)
    assert conv()(IMAGES[0]).shape == (6, 7, 4)


def test_local_reparam_is_finite_for_a_zero_row() -> None:
    """MindSpore's gradient is NaN there."""
    layer = DenseLocalReparam(3, 4, rngs=nnx.Rngs(0))
    x = X.at[2].set(0.0)
    gradient = nnx.grad(lambda m, x: jnp.sum(jnp.square(m(x))), argnums=(0, 1))(layer, x)
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradient))
    y = layer(x, deterministic=False) - layer.bias_posterior.mean[...][None]
    assert float(jnp.max(jnp.abs(y[2]))) < 10 * float(jnp.max(layer.bias_posterior.gaussian.std))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(dtype: Any) -> None:
    """Computed in half precision, with parameters and noise of float32."""
    for cls in (DenseReparam, DenseLocalReparam):
        exact, half = (cls(3, 4, dtype=d, rngs=nnx.Rngs(0)) for d in (None, dtype))
        # 300 squared is beyond float16
        y, expected = half((300 * X).astype(dtype)), exact(300 * X)
        assert y.dtype == dtype
        assert half.weight_posterior.mean[...].dtype == jnp.float32
        scale = float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.02 * scale)
    assert conv(dtype=dtype)(IMAGES).dtype == dtype
    assert dense(param_dtype=dtype).weight_posterior.mean[...].dtype == dtype


def test_kl_is_that_of_priors_in_both_directions() -> None:
    layer = conv(weight_prior_fn=NormalPrior(mean=0.3, std=0.2), bias_prior_fn=priors.LaplacePrior)
    q = [layer.weight_posterior.gaussian, layer.bias_posterior.gaussian]
    prior = [priors.NormalPrior(0.3, 0.2), priors.LaplacePrior()]
    for reverse in (False, True):
        expected = float(priors.kl_divergence(q, prior, reverse=reverse))
        assert float(layer.compute_kl_loss(reverse)) == pytest.approx(expected, rel=1e-6)
    assert float(layer.compute_kl_loss()) != pytest.approx(float(layer.compute_kl_loss(True)))
    layer.eval()
    assert float(layer.compute_kl_loss(True)) == pytest.approx(expected, rel=1e-6)


def test_kl_without_closed_form_is_a_monte_carlo_estimate() -> None:
    mixture = priors.ScaleMixturePrior(0.5, 1.0, 0.05)
    layer = dense(weight_prior_fn=mixture, bias_prior_fn=lambda: mixture)
    kl = nnx.jit(lambda m: m.compute_kl_loss())
    draws = np.array([float(kl(layer)) for _ in range(200)])
    assert draws.std() > 0
    # by quadrature, over 16 independent weights
    grid = np.linspace(-8, 8, 4001)
    exact = 0.0
    for q in (layer.weight_posterior.gaussian, layer.bias_posterior.gaussian):
        for m, s in zip(np.ravel(q.mean), np.ravel(q.std), strict=True):
            w = m + s * grid
            density = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
            log_q = -0.5 * grid**2 - np.log(s) - 0.5 * np.log(2 * np.pi)
            log_p = np.asarray(mixture.log_prob(jnp.asarray(w, jnp.float32)))
            exact += np.sum(density * (log_q - log_p)) * (grid[1] - grid[0])
    assert abs(draws.mean() - exact) < 5 * draws.std() / np.sqrt(200)
    again = [float(layer.compute_kl_loss(rngs=jax.random.key(1))) for _ in range(2)]
    assert again[0] == again[1]


def test_prior_with_arrays_is_saved_and_not_trained() -> None:
    centre = priors.NormalPrior(mean=jnp.full((3, 4), 0.5), std=0.1)
    layer = dense(weight_prior_fn=centre)
    params = nnx.state(layer, nnx.Param)
    assert len(jax.tree.leaves(params)) == 4
    saved = nnx.state(layer, bnn_layers.layer.PriorValue)
    assert any(leaf.shape == (3, 4) for leaf in jax.tree.leaves(saved))
    kl = nnx.jit(lambda m: m.compute_kl_loss())(layer)
    assert float(kl) == pytest.approx(float(layer.compute_kl_loss()), rel=1e-6)
    assert float(kl) > float(dense().compute_kl_loss())
    with pytest.raises(ValueError, match="does not broadcast"):
        DenseReparam(4, 3, weight_prior_fn=centre, rngs=nnx.Rngs(0))


def test_posterior_functions() -> None:
    asked = []

    def wide(name: str, shape: tuple[int, ...]) -> NormalPosterior:
        asked.append((name, shape))
        return NormalPosterior(
            name=name,
            shape=shape,
            loc_mean=2,
            loc_std=0,
            untransformed_scale_mean=1.0,
            untransformed_scale_std=0.0,
        )

    layer = dense(weight_posterior_fn=wide, bias_posterior_fn=wide)
    assert asked == [("bnn_weight", (3, 4)), ("bnn_bias", (4,))]
    np.testing.assert_array_equal(layer.weight_posterior.mean[...], np.full((3, 4), 2.0))
    np.testing.assert_allclose(layer.bias_posterior.gaussian.std, np.log1p(np.e) + 1e-6, rtol=1e-6)
    weights = jax.random.normal(jax.random.key(0), (3, 4))
    layer = dense(weight_posterior_fn=lambda name, shape: gaussian.centred(weights, 0.02))
    np.testing.assert_array_equal(layer.weight_posterior.mean[...], weights)
    np.testing.assert_allclose(layer.weight_posterior.gaussian.std, 0.02, rtol=1e-4)


class Mixed(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = ConvReparam(2, 4, 3, stride=2, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.blocks = nnx.List([DenseReparam(4, 4, "relu", rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.head = DenseLocalReparam(4, 2, activation="prelu", rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.drop(self.norm(self.conv(x))).mean((1, 2))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_mixed_network_trains_under_jit_and_is_saved(tmp_path: Any) -> None:
    def mse(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(outputs - labels))

    cell = bnn_layers.WithBNNLossCell(Mixed(nnx.Rngs(0)), mse, 1, 1e-4)
    optimizer = nnx.Optimizer(cell, optax.sgd(0.1), wrt=nnx.Param)
    labels, traces = jnp.ones((5, 2)), []

    @nnx.jit
    def step(cell: Any, optimizer: Any) -> jax.Array:
        traces.append(1)
        loss, grads = nnx.value_and_grad(lambda c: c(IMAGES, labels))(cell)
        optimizer.update(cell, grads)
        return loss

    losses = [float(step(cell, optimizer)) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert len(traces) == 1

    graph, state = nnx.split(cell)
    path = tmp_path / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, nnx.state(cell, nnx.Param))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(path, nnx.state(fresh(), nnx.Param))
    other = fresh()
    nnx.update(other, restored)
    nnx.update(other, nnx.state(cell, nnx.BatchStat))
    cell.eval()
    other.eval()
    np.testing.assert_array_equal(other.backbone(IMAGES), cell.backbone(IMAGES))
    merged = nnx.merge(graph, state)
    merged.eval()
    np.testing.assert_array_equal(merged.backbone(IMAGES), cell.backbone(IMAGES))


def fresh() -> bnn_layers.WithBNNLossCell:
    return bnn_layers.WithBNNLossCell(Mixed(nnx.Rngs(1)), lambda y, t: jnp.mean(y), 1, 1)
