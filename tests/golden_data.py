"""The reference numbers of tests/golden, and how they are fed to our layers."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnn_jax import bnn_layers, mindspore, noise

FOLDER = Path(__file__).parent / "golden"
INDEX = json.loads((FOLDER / "index.json").read_text())


def arrays(name: str, folder: Path = FOLDER) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz") as file:
        return dict(file)


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["key"]) for case in INDEX[name]["cases"]]


def kernel(weight: np.ndarray) -> np.ndarray:
    """A MindSpore weight in our layout; written apart from the package's own conversion."""
    return weight.T if weight.ndim == 2 else np.einsum("oihw->hwio", weight)


def posterior(data: dict[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    """A case's posterior under MindSpore's parameter names."""
    short = {"mean": "mean", "untransformed_std": "ustd"}
    return {
        f"{which}_posterior.{name}": data[f"{key}_{which[0]}_{file_name}"]
        for which in ("weight", "bias")
        for name, file_name in short.items()
        if f"{key}_{which[0]}_{file_name}" in data
    }


def layer(case: dict[str, Any], **options: Any) -> bnn_layers.BayesianLayer:
    """The layer of a case, constructed as in MindSpore; its values are those that are loaded."""
    with without_draws():
        return _layer(case, **options)


@contextlib.contextmanager
def without_draws() -> Iterator[None]:
    """No noise, where a layer's first values are replaced: draws take long to compile."""

    def zeros(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> jnp.ndarray:
        return jnp.asarray(np.zeros(shape, dtype))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "normal", zeros)
        yield


def _layer(case: dict[str, Any], **options: Any) -> bnn_layers.BayesianLayer:
    def pair(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    rngs = nnx.Rngs(0)
    if case["layer"] == "ConvReparam":
        return bnn_layers.ConvReparam(
            case["in_channels"],
            case["out_channels"],
            pair(case["kernel_size"]),
            pair(case.get("stride", 1)),
            case.get("pad_mode", "same"),
            pair(case.get("padding", 0)),
            pair(case.get("dilation", 1)),
            case["group"],
            case["has_bias"],
            **options,
            rngs=rngs,
        )
    cls = {"DenseReparam": bnn_layers.DenseReparam}.get(case["layer"], bnn_layers.DenseLocalReparam)
    return cls(
        case["in_channels"],
        case["out_channels"],
        case.get("activation"),
        case["has_bias"],
        **options,
        rngs=rngs,
    )


def inject(monkeypatch: pytest.MonkeyPatch, draws: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Replace all noise by these draws, in this order; returns those not asked for yet."""
    left = list(draws)

    def normal(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jnp.ndarray:
        value = left.pop(0)
        assert value.shape == tuple(shape)
        return jnp.asarray(value, dtype)

    monkeypatch.setattr(noise, "normal", normal)
    return left


class Net(nnx.Module):
    """The networks of `bnn_loss_grads` (local=True) and `trace_AdamWeightDecay`."""

    def __init__(self, *, local: bool, rngs: nnx.Rngs) -> None:
        self.conv = bnn_layers.ConvReparam(1, 3, 3, stride=2, has_bias=True, rngs=rngs)
        self.fc1 = bnn_layers.DenseReparam(48, 6, activation="relu", rngs=rngs)
        if local:
            self.loc = bnn_layers.DenseLocalReparam(6, 5, rngs=rngs)
        self.fc2 = nnx.Linear(5 if local else 6, 4, rngs=rngs)
        self.local = local

    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        x = self.fc1(mindspore.flatten_nchw(self.conv(x)))
        return self.fc2(self.loc(x) if self.local else x)


def net(data: dict[str, np.ndarray], *, local: bool) -> Net:
    params = {name.removeprefix("p0_"): a for name, a in data.items() if name.startswith("p0_")}
    with without_draws():
        made = Net(local=local, rngs=nnx.Rngs(0))
    return mindspore.load_param_dict(made, params)


def net_noise(data: dict[str, np.ndarray], *, local: bool) -> list[np.ndarray]:
    """The recorded draws in call order, weights in our layout."""
    draws = [kernel(data["eps0"]), data["eps1"], kernel(data["eps2"]), data["eps3"]]
    return [*draws, data["eps4"], data["eps5"]] if local else draws


def net_batch(data: dict[str, np.ndarray]) -> tuple[jnp.ndarray, jnp.ndarray]:
    return jnp.asarray(np.einsum("nchw->nhwc", data["x"])), jnp.asarray(data["y"])


def assert_close(actual: Any, expected: Any, rtol: float = 1e-5) -> None:
    """To rtol of the largest element: MindSpore's own rounding errors are of that size."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(
        np.asarray(actual), expected, rtol=0, atol=rtol * np.max(np.abs(expected))
    )
