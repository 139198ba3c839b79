"""ONNX and SavedModel files agree with `predict`; what cannot be converted is an error."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import export, gaussian, predict, to_bnn
from bnn_jax.likelihoods import Categorical, Normal
from core_helpers import data, key

IMAGES = data(0, 5, 4, 4, 1)


@contextlib.contextmanager
def as_users_have_it() -> Iterator[None]:
    """The libraries are not written for JAX's strictest settings, and warn."""
    with (
        warnings.catch_warnings(),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_key_reuse(False),
    ):
        warnings.simplefilter("ignore")
        yield


def run_onnx(folder: Path, x: Any) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x0": np.asarray(x)}), strict=True))


def run_savedmodel(folder: Path, x: Any) -> dict[str, np.ndarray]:
    import tensorflow as tf

    run = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    return {name: value.numpy() for name, value in run(x0=tf.constant(np.asarray(x))).items()}


FORMATS = {
    "onnx": (export.onnx, run_onnx, ("jax2onnx", "onnxruntime")),
    "savedmodel": (export.savedmodel, run_savedmodel, ("tensorflow",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("likelihood", [Categorical(temperature=0.5), Normal()])
def test_both_kinds_agree_with_predict(form: str, likelihood: Any, tmp_path: Path) -> None:
    write, run, packages = FORMATS[form]
    with as_users_have_it():
        for package in packages:
            pytest.importorskip(package)
        net = nn.Sequential(
            [
                nn.Conv(3, (2, 2)),
                lambda x: nn.max_pool(nn.relu(x), (2, 2), (2, 2)),
                lambda x: x.reshape(x.shape[0], -1),
                nn.Dense(4),
            ]
        )
        model = to_bnn(net, net.init(key(0), IMAGES), initial_std=0.2)
        for kind, count in (("mean", None), ("members", 3)):
            folder = write(
                tmp_path / kind,
                model,
                None,
                likelihood,
                IMAGES[:2],
                kind=kind,
                key=key(3),
                num_samples=count,
            )
            weights = gaussian.mean(model.posterior) if kind == "mean" else model.posterior
            expected = predict(
                key(3), model, IMAGES, count, likelihood=likelihood, posterior=weights
            )
            card = json.loads((folder / "card.json").read_text())
            outputs = run(folder, IMAGES)
            assert sorted(outputs) == sorted(output["name"] for output in card["outputs"])
            for name, value in outputs.items():
                np.testing.assert_allclose(value, getattr(expected, name), rtol=1e-5, atol=1e-5)
            assert card["format"] == form
            assert set(packages) <= set(card["versions"])


def test_a_network_that_onnx_lacks_is_an_error_that_names_the_others(tmp_path: Path) -> None:
    def network(params: Any, x: Any) -> Any:
        return jnp.linalg.eigvalsh(x[:, :, None] * x[:, None] + params)

    with as_users_have_it():
        pytest.importorskip("jax2onnx")
        with pytest.raises(NotImplementedError, match=r"export\.savedmodel, which take any"):
            export.onnx(
                tmp_path / "new",
                network,
                jnp.eye(3),
                Normal(std=1.0),
                data(0, 2, 3),
                kind="mean",
            )
    assert not (tmp_path / "new").exists()
