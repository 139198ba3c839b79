"""Exported programs of standardised data, in one pass, and of antithetic members."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import export as jax_export

from bnn_jax import export, infer, likelihoods, predict, to_bnn
from bnn_jax.fitting import Fit, fit
from bnn_jax.fitting.standardize import Affine, Standardizer
from core_helpers import data, key
from predict_helpers import Q, S, X, network

pytest.importorskip("flatbuffers")

NOISE = likelihoods.Normal(std=0.5)
OPTIONS: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


def run(folder: Path, *inputs: Any) -> dict[str, np.ndarray]:
    call = jax_export.deserialize(bytearray((folder / "model.stablehlo").read_bytes())).call
    return {name: np.asarray(value) for name, value in call(*inputs).items()}


@pytest.fixture(scope="module")
def fitted() -> tuple[Fit, np.ndarray]:
    """A fit on years around 2000 and targets in thousands."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.uniform(1990, 2010, 40), rng.uniform(-1, 1, 40)], axis=1).astype(np.float32)
    y = (1e5 + 3e3 * (x[:, :1] - 2000)).astype(np.float32)
    net = nn.Dense(1)
    model = to_bnn(net, net.init(key(0), x), initial_std=0.1)
    method = infer.bayes_by_backprop(learning_rate=0.01)
    return (
        fit(
            key(1),
            model,
            (x, y),
            method=method,
            likelihood=NOISE,
            epochs=2,
            batch_size=20,
            standardize=True,
        ),
        x,
    )


@pytest.mark.parametrize("kind", ["members", "sampled", "one_pass"])
def test_raw_inputs_and_units_of_the_targets(
    kind: str, fitted: tuple[Fit, np.ndarray], tmp_path: Path
) -> None:
    result, x = fitted
    options: dict[str, Any] = {} if kind == "one_pass" else {"num_samples": 4}
    drawn = {"key": key(3)} if kind == "members" else {}
    folder = export.stablehlo(
        tmp_path / "new",
        result.model,
        result.posterior,
        NOISE,
        x[:2],
        kind=kind,
        scaling=result.scaling,
        features=["year", "share"],
        **options,
        **drawn,
    )
    words = [jax.random.key_data(key(3))] if kind == "sampled" else []
    outputs = run(folder, *words, x)
    method = {"method": "moments"} if kind == "one_pass" else {}
    expected = result.predict(x, options.get("num_samples"), key=key(3)) if not method else None
    if expected is None:
        standardised = predict(
            key(0),
            result.model,
            result.scaling.of_inputs(x),
            likelihood=NOISE,
            posterior=result.posterior,
            method="moments",
        )
        expected = result.scaling.undo(standardised)
    assert expected.mean.min() > 5e4
    for name, value in outputs.items():
        np.testing.assert_allclose(value, getattr(expected, name), rtol=1e-5)
    card = json.loads((folder / "card.json").read_text())
    assert card["features"] == ["year", "share"]
    assert card["num_samples"] == (0 if kind == "one_pass" else 4)


def test_inputs_far_from_zero_lose_no_digits(tmp_path: Path) -> None:
    """A shift that float32 does not hold: (x - shift) / scale has an error of a rounding only."""
    shift, scale = np.array([1e4 + 0.0003]), np.array([0.01])
    x = np.float32(1e4) + np.arange(-5, 6, dtype=np.float32)[:, None] / 64
    folder = export.stablehlo(
        tmp_path / "new",
        lambda params, x: x * params["w"][None],
        {"w": np.ones((1,), np.float32)},
        NOISE,
        x,
        kind="mean",
        scaling=Standardizer(inputs=Affine(shift, scale)),
    )
    expected = (x.astype(np.float64) - shift) / scale
    np.testing.assert_allclose(run(folder, x)["mean"], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["members", "sampled"])
def test_antithetic_draws_are_those_of_predict(kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"key": key(5)} if kind == "members" else {}
    folder = export.stablehlo(
        tmp_path / "new",
        network,
        Q,
        NOISE,
        X,
        kind=kind,
        num_samples=S,
        antithetic=True,
        **options,
    )
    words = [jax.random.key_data(key(5))] if kind == "sampled" else []
    outputs = run(folder, *words, X)
    expected = predict(key(5), network, X, S, likelihood=NOISE, posterior=Q, antithetic=True)
    for name, value in outputs.items():
        np.testing.assert_allclose(value, getattr(expected, name), **OPTIONS)


def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        export.stablehlo(tmp_path / "new", network, Q, NOISE, X, kind="mean")
    assert not list(tmp_path.iterdir())


def test_invalid_scalings_and_names(tmp_path: Path) -> None:
    one = Affine(np.zeros(3), np.ones(3))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"features": ["a"]}, "got 1 names for inputs of shapes"),
        ({"scaling": Standardizer(targets=one), "likelihood": likelihoods.Categorical()}, "scale"),
        ({"scaling": Standardizer(inputs=one), "example_inputs": (X, X)}, "this one has 2"),
        ({"antithetic": True, "posterior": [{"w": data(0, 3, 4)}] * 2}, "mean-field posterior"),
    ]
    for given, message in cases:
        arguments: dict[str, Any] = {"posterior": Q, "likelihood": NOISE, "example_inputs": X}
        arguments |= {"kind": "members", "key": key(0), "num_samples": 2, **given}
        with pytest.raises(ValueError, match=message):
            export.stablehlo(tmp_path / "new", network, **arguments)
    assert not list(tmp_path.iterdir())
