"""Layers as functions, against jax.lax and Flax with all noise zero, and their errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import functional
from bnn_jax.gaussian import Gaussian
from core_helpers import ESTIMATORS, data, key, no_noise, random_posterior


def params(kernel: tuple[int, ...], features: int, bias: bool = True) -> dict[str, Gaussian]:
    made = {"kernel": random_posterior(1, *kernel)}
    return {**made, "bias": random_posterior(2, features)} if bias else made


def mean(of: dict[str, Gaussian]) -> dict[str, jax.Array]:
    return {name: q.mean for name, q in of.items()}


def assert_same(got: Any, expected: Any) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("bias", [True, False])
def test_dense_is_flaxs_without_noise(
    estimator: str, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_noise(monkeypatch)
    p = params((3, 4), 4, bias)
    for x in (data(0, 2, 3), data(1, 2, 5, 3)):
        got = functional.dense(key(0), p, x, estimator=estimator, approximate=True)
        assert_same(got, nn.Dense(4, use_bias=bias).apply({"params": mean(p)}, x))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_dense_transpose_is_the_transpose(estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_noise(monkeypatch)
    p, x = params((3, 4), 3), data(0, 2, 4)
    got = functional.dense_transpose(key(0), p, x, estimator=estimator)
    assert_same(got, x @ p["kernel"].mean.T + p["bias"].mean[None])


CONVS: dict[str, tuple[tuple[int, ...], dict[str, Any], dict[str, Any]]] = {
    # name: (x, ours, Flax's names where they differ)
    "1d": ((2, 7, 3), {}, {}),
    "2d strides": ((2, 7, 6, 3), {"strides": 2}, {}),
    "2d strides by dimension, valid": ((2, 7, 6, 3), {"strides": (1, 2), "padding": "VALID"}, {}),
    "2d padding int": ((2, 7, 6, 3), {"padding": 2}, {}),
    "2d padding pairs": ((2, 7, 6, 3), {"padding": [(0, 2), (1, 0)]}, {}),
    "2d dilation": ((2, 9, 8, 3), {"dilation": 2}, {"kernel_dilation": 2}),
    "2d groups": ((2, 5, 5, 4), {"groups": 2}, {"feature_group_count": 2}),
    "2d depthwise": ((2, 5, 5, 4), {"groups": 4}, {"feature_group_count": 4}),
    "3d": ((2, 4, 5, 4, 3), {"strides": (2, 1, 1)}, {}),
}


@pytest.mark.parametrize("name", CONVS)
def test_conv_is_flaxs_without_noise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_noise(monkeypatch)
    shape, ours, flaxs = CONVS[name]
    n = len(shape) - 2
    p = params((*(3, 2, 2)[:n], shape[-1] // ours.get("groups", 1), 4), 4)
    x = data(0, *shape)
    options = {k: v for k, v in ours.items() if k not in ("dilation", "groups")} | flaxs
    if isinstance(ours.get("strides"), int):
        options["strides"] = (ours["strides"],) * n
    layer = nn.Conv(4, (3, 2, 2)[:n], **options)
    expected = layer.apply({"params": mean(p)}, x)
    for estimator in ESTIMATORS if name == "1d" else ("flipout",):
        got = functional.conv(key(0), p, x, estimator=estimator, approximate=True, **ours)
        assert_same(got, expected)


TRANSPOSES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "1d": ((2, 5, 3), {}),
    "2d strides": ((2, 4, 3, 3), {"strides": (2, 3)}),
    "2d valid": ((2, 4, 3, 3), {"strides": (2, 1), "padding": "VALID"}),
    "2d pairs": ((2, 4, 3, 3), {"strides": (2, 2), "padding": [(1, 0), (1, 1)]}),
    "3d": ((2, 3, 2, 2, 3), {}),
    "transposed kernel": ((2, 4, 3, 3), {"strides": (2, 2), "transpose_kernel": True}),
}


@pytest.mark.parametrize("name", TRANSPOSES)
def test_conv_transpose_is_flaxs_without_noise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_noise(monkeypatch)
    shape, options = TRANSPOSES[name]
    size = (3, 2, 2)[: len(shape) - 2]
    channels = (4, 3) if options.get("transpose_kernel") else (3, 4)
    p, x = params((*size, *channels), 4), data(0, *shape)
    layer = nn.ConvTranspose(4, size, **options)
    expected = layer.apply({"params": mean(p)}, x)
    for estimator in ESTIMATORS if name == "1d" else ("flipout",):
        got = functional.conv_transpose(
            key(0), p, x, estimator=estimator, approximate=True, **options
        )
        assert_same(got, expected)


def test_reparam_is_the_plain_layer_at_a_sample() -> None:
    from bnn_jax import gaussian

    p, x = params((3, 3, 3, 4), 4), data(0, 2, 5, 5, 3)
    got = functional.conv_reparam(key(7), p, x)
    drawn = gaussian.sample(key(7), p)
    np.testing.assert_array_equal(got, nn.Conv(4, (3, 3)).apply({"params": drawn}, x))


def test_the_functions_with_the_estimator_in_their_name() -> None:
    p, x = params((3, 4), 4), data(0, 2, 3)
    for estimator in ESTIMATORS:
        named = getattr(functional, f"dense_{estimator}")(key(0), p, x)
        np.testing.assert_array_equal(named, functional.dense(key(0), p, x, estimator=estimator))
    p, x = params((2, 3, 4), 4), data(0, 2, 6, 3)
    for layer in ("conv", "conv_transpose"):
        for estimator in ("reparam", "flipout"):
            named = getattr(functional, f"{layer}_{estimator}")(key(0), p, x)
            plain = getattr(functional, layer)(key(0), p, x, estimator=estimator)
            np.testing.assert_array_equal(named, plain)


def test_plain_arrays_are_not_random() -> None:
    p, x = params((3, 4), 4), data(0, 2, 3)
    half = {"kernel": p["kernel"].mean, "bias": p["bias"]}
    one = functional.dense(key(0), half, x, estimator="reparam")
    spread = one - x @ half["kernel"]
    np.testing.assert_allclose(spread[0], spread[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        functional.dense(key(0), mean(p), x, estimator="flipout"),
        functional.dense(key(1), mean(p), x, estimator="flipout"),
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bfloat16_inputs_give_bfloat16_outputs_of_a_float32_posterior(estimator: str) -> None:
    p, x = params((8, 4), 4), data(0, 2, 8)
    got = functional.dense(key(0), p, x.astype(jnp.bfloat16), estimator=estimator)
    assert got.dtype == jnp.bfloat16
    wide = functional.dense(key(0), p, x, estimator=estimator)
    if estimator != "flipout":  # the draws are the same: signs are drawn by dtype
        np.testing.assert_allclose(got.astype(jnp.float32), wide, atol=0.15)


def test_local_reparam_where_positions_share_weights_is_an_error() -> None:
    message = "local_reparam is not exact for 'kernel'.*flipout.*approximate=True"
    with pytest.raises(ValueError, match=message):
        functional.conv_local_reparam(key(0), params((3, 3, 4), 4), data(0, 2, 5, 3))
    with pytest.raises(ValueError, match=message):
        functional.dense_local_reparam(key(0), params((3, 4), 4), data(0, 2, 5, 3))
    for transpose_kernel, kernel in ((False, (3, 3, 4)), (True, (3, 4, 3))):
        with pytest.raises(ValueError, match=message):
            functional.conv_transpose_local_reparam(
                key(0),
                params(kernel, 4),
                data(0, 2, 5, 3),
                transpose_kernel=transpose_kernel,
            )


def test_local_reparam_of_a_conv_with_one_output_position_is_exact() -> None:
    p, x = params((5, 3, 4), 4), data(0, 2, 5, 3)
    y = functional.conv_local_reparam(key(0), p, x, padding="VALID")
    flat = {"kernel": Gaussian(*(v.reshape(15, 4) for v in (p["kernel"].mean, p["kernel"].rho)))}
    dense = functional.dense_local_reparam(key(0), {**flat, "bias": p["bias"]}, x.reshape(2, 15))
    np.testing.assert_allclose(y[:, 0], dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.dense(key(0), params((3, 4), 4), data(0, 2, 3), estimator="x"),
         "Unknown estimator 'x'"),
        (lambda: functional.dense_reparam(key(0), params((3, 4), 4), data(0, 2, 5)),
         "x has 5 channels.*takes 3"),
        (lambda: functional.dense_reparam(key(0), params((2, 3, 4), 4), data(0, 2, 5, 3)),
         "do not fit"),
        (lambda: functional.conv_reparam(key(0), params((3, 3, 4), 4), data(0, 2, 5, 5, 3)),
         "do not fit"),
        (lambda: functional.conv_reparam(key(0), params((3, 4), 4), data(0, 2, 3)), "do not fit"),
        (lambda: functional.conv_transpose_reparam(key(0), params((3, 4), 4), data(0, 2, 3)),
         "do not fit"),
        (lambda: functional.conv_reparam(key(0), params((3, 3, 4), 4), data(0, 2, 5, 4)),
         "x has 4 channels.*takes 3"),
        (lambda: functional.conv_reparam(
            key(0), params((3, 3, 4), 4), data(0, 2, 5, 3), strides=(1, 1)),
         r"strides must be one integer of at least 1.*\(1, 1\)"),
        (lambda: functional.conv_reparam(
            key(0), params((3, 3, 4), 4), data(0, 2, 5, 3), dilation=0), "dilation must be"),
        (lambda: functional.conv_reparam(
            key(0), params((3, 3, 4), 4), data(0, 2, 5, 3), padding="FULL"), "padding.*'FULL'"),
        (lambda: functional.conv_reparam(
            key(0), params((3, 3, 4), 4), data(0, 2, 5, 3), padding=[(1, 1), (1, 1)]),
         "padding must be.*1 pair"),
        (lambda: functional.conv_transpose_reparam(
            key(0), params((3, 3, 4), 4), data(0, 2, 5, 3), padding="FULL"), "padding.*'FULL'"),
        (lambda: functional.conv_reparam(
            key(0), params((3, 1, 4), 4), data(0, 2, 5, 3), groups=3), "groups=3.*4"),
        (lambda: functional.dense_reparam(key(0), {"weight": data(0, 3, 4)}, data(0, 2, 3)),
         r"params must have the key 'kernel'.*\['weight'\]"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_clear_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
