"""WithBNNLossCell: the two factors, and every Bayesian layer once."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from flax import nnx

from bnn_jax.bnn_layers import DenseReparam, NormalPosterior, WithBNNLossCell, kl_by_layer

X = jnp.ones((2, 3))


def layer(seed: int = 0) -> DenseReparam:
    return DenseReparam(3, 3, rngs=nnx.Rngs(seed))


def mean_loss(y: jax.Array, label: Any) -> jax.Array:
    return jnp.mean(y)


class Holder(nnx.Module):
    """Modules under any attributes; calling it is the identity."""

    def __init__(self, **modules: Any) -> None:
        for name, module in modules.items():
            setattr(self, name, module)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def kl_of(backbone: nnx.Module, *, reverse: bool = False) -> float:
    """The loss with the data loss switched off."""
    cell = WithBNNLossCell(backbone, lambda y, t: jnp.zeros(()), 1, 1, reverse)
    return float(cell(X, None))


def test_each_layer_counts_once() -> None:
    a, b = layer(0), layer(1)
    kl_a, kl_b = (float(x.compute_kl_loss()) for x in (a, b))
    once, both = pytest.approx(kl_a, rel=1e-6), pytest.approx(kl_a + kl_b, rel=1e-6)
    assert kl_of(a) == once  # the root is Bayesian itself
    assert kl_of(nnx.Sequential(a, a)) == once
    assert kl_of(Holder(x=a, y=Holder(z=a))) == once
    assert kl_of(Holder(x=nnx.List([a, b]), y=nnx.Dict(z=b))) == both
    assert kl_of(nnx.Sequential(a, jnp.tanh, nnx.Linear(3, 3, rngs=nnx.Rngs(0)), b)) == both
    assert kl_of(Holder(x=nnx.data({"k": [a, (b,)]}))) == both
    assert kl_of(nnx.Linear(3, 3, rngs=nnx.Rngs(0))) == 0.0


def test_a_shared_posterior_counts_once() -> None:
    tied = NormalPosterior("tied", (3, 3), rngs=nnx.Rngs(0))
    a, b = (
        DenseReparam(
            3, 3, has_bias=False, weight_posterior_fn=lambda name, shape: tied, rngs=nnx.Rngs(i)
        )
        for i in range(2)
    )
    assert kl_of(nnx.Sequential(a, b)) == pytest.approx(float(a.compute_kl_loss()), rel=1e-6)


def test_factors_and_direction() -> None:
    net = nnx.Sequential(layer(0), layer(1))
    net.eval()
    kl = sum(float(v) for v in kl_by_layer(net).values())
    backward = sum(float(v) for v in kl_by_layer(net, reverse=True).values())
    data = float(jnp.mean(net(X)))
    assert kl != pytest.approx(backward, rel=0.1)
    for reverse, expected in ((False, kl), (True, backward)):
        cell = WithBNNLossCell(net, mean_loss, 60000, 0.5, reverse_kl=reverse)
        assert float(cell(X, None)) == pytest.approx(60000 * data + 0.5 * expected, rel=1e-6)
    assert kl_of(net, reverse=True) == pytest.approx(backward, rel=1e-6)
    assert WithBNNLossCell(net, mean_loss).backbone_network is net
    assert list(kl_by_layer(net)) == ["layers.0", "layers.1"]


@pytest.mark.parametrize("name", ["dnn_factor", "bnn_factor"])
def test_bad_factors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for value, error in ((True, TypeError), ("1", TypeError), (None, TypeError), (-1, ValueError)):
        with pytest.raises(error, match=name):
            WithBNNLossCell(layer(), mean_loss, **{name: value})
    with pytest.raises(ValueError, match="nan"):
        WithBNNLossCell(layer(), mean_loss, **{name: float("nan")})
    WithBNNLossCell(layer(), mean_loss, **{name: 0})


def test_loss_has_to_be_a_scalar() -> None:
    for loss in (lambda y, t: y, lambda y, t: jnp.mean(y, keepdims=True), lambda y, t: (y, t)):
        with pytest.raises(ValueError, match="mean or sum"):
            WithBNNLossCell(layer(), loss)(X, None)


def test_bad_backbone_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match="backbone"):
        WithBNNLossCell(lambda x: x, mean_loss)
    with pytest.raises(TypeError, match="loss_fn"):
        WithBNNLossCell(layer(), 3)
