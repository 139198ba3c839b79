"""The networks by name: their numbers of weights, modes, padding, and one line for each mistake."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import models, to_bnn
from bnn_jax.models.names import KINDS, NETWORKS, NetworkError, arguments, build
from core_helpers import data, key

SMALL: dict[str, tuple[dict[str, Any], jax.Array]] = {
    "mlp": ({"hidden": [5]}, data(0, 4, 3)),
    "lenet5": ({}, data(0, 4, 16, 16, 1)),
    "cnn": ({"channels": [2, 3], "hidden": [5], "dropout": 0.5}, data(0, 4, 6, 5, 1)),
    "resnet20": ({}, data(0, 4, 8, 8, 1)),
    "wide_resnet": ({"depth": 10, "width": 1, "dropout": 0.5}, data(0, 4, 8, 8, 1)),
    "vit": ({"width": 6, "layers": 1, "heads": 2, "dropout": 0.5}, data(0, 4, 8, 8, 1)),
    "text_transformer": (
        {"vocabulary": 7, "width": 6, "layers": 1, "heads": 2, "dropout": 0.5},
        jnp.arange(12).reshape(4, 3) % 7,
    ),
    "lstm": (
        {"vocabulary": 7, "width": 3, "layers": 2, "dropout": 0.5},
        jnp.arange(12).reshape(4, 3) % 7,
    ),
}  # fmt: skip


def num_weights(network: nn.Module, *shape: int, dtype: Any = jnp.float32) -> int:
    params = jax.eval_shape(network.init, key(0), jnp.zeros(shape, dtype))["params"]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def test_published_numbers_of_weights() -> None:
    # He et al. 2016 report 0.27 million; 1x1 shortcuts add 2,752 to the 269,722 without them.
    assert num_weights(build("resnet20", num_outputs=10), 1, 32, 32, 3) == 269_722 + 2_752
    # WRN-28-10: Zagoruyko and Komodakis 2016 report 36.5 million.
    assert num_weights(build("wide_resnet", num_outputs=10), 1, 32, 32, 3) == 36_479_194
    wide = build("wide_resnet", num_outputs=10, depth=16, width=8)
    assert round(num_weights(wide, 1, 32, 32, 3) / 1e6, 1) == 11.0
    # ViT-B/16, as torchvision and timm have it.
    base = {"patch_size": 16, "width": 768, "layers": 12, "heads": 12}
    assert num_weights(build("vit", num_outputs=1000, **base), 1, 224, 224, 3) == 86_567_656


def test_the_others_have_the_weights_of_their_layers() -> None:
    cnn = build("cnn", num_outputs=3, channels=[2, 4], hidden=[5])
    assert num_weights(cnn, 1, 8, 9, 1) == (9 * 2 + 2) + (18 * 4 + 4) + (16 * 5 + 5) + (5 * 3 + 3)
    lstm = build("lstm", num_outputs=3, width=5, layers=2)
    cells = 4 * (2 * 5 + 5 * 5 + 5) + 4 * (5 * 5 + 5 * 5 + 5)
    assert num_weights(lstm, 1, 4, 2) == cells + 5 * 3 + 3
    text = build("text_transformer", num_outputs=3, vocabulary=11, width=8, layers=2, heads=2)
    block = 4 * (64 + 8) + (8 * 32 + 32) + (32 * 8 + 8) + 2 * 16
    expected = 11 * 8 + 4 * 8 + 2 * block + 16 + 8 * 3 + 3
    assert num_weights(text, 1, 4, dtype=jnp.int32) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_modes(name: str, dtype: str) -> None:
    args, x = SMALL[name]
    network = build(name, num_outputs=3, dtype=jnp.dtype(dtype), **args)
    # Flax's normalization layers rely on the promotion of bfloat16.
    with jax.numpy_dtype_promotion("strict" if dtype == "float32" else "standard"):
        check_outputs_and_modes(name, network, x, dtype)


def check_outputs_and_modes(name: str, network: nn.Module, x: jax.Array, dtype: str) -> None:
    logits, variables = jax.eval_shape(network.init_with_output, key(0), x)
    assert (logits.shape, logits.dtype) == ((4, 3), jnp.dtype(dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    if name in ("mlp", "lenet5"):
        return
    rngs = {"dropout": key(1)}

    def train(variables: Any, x: jax.Array) -> Any:
        return network.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)

    logits, state = jax.eval_shape(train, variables, x)
    assert (logits.shape, logits.dtype) == ((4, 3), jnp.dtype(dtype))
    assert ("batch_stats" in state) == (name in ("resnet20", "wide_resnet"))


def test_dropout_is_random_in_training_only() -> None:
    name, (args, x) = "cnn", SMALL["cnn"]
    network = build(name, num_outputs=3, **args)
    variables = network.init(key(0), x)
    first, second = (
        network.apply(variables, x, train=True, rngs={"dropout": key(seed)}) for seed in (1, 2)
    )
    assert np.any(np.asarray(first) != np.asarray(second))
    plain = build(name, num_outputs=3, **{**args, "dropout": 0.0})
    np.testing.assert_array_equal(
        network.apply(variables, x), plain.apply(variables, x, train=True)
    )


def compiled(network: nn.Module, variables: Any, x: jax.Array) -> jax.Array:
    return jax.jit(network.apply)(variables, x)


@pytest.mark.parametrize("name", ["text_transformer", "lstm"])
def test_padding_changes_nothing(name: str) -> None:
    """Texts of 3 tokens give what they give without their 2 padding tokens."""
    tokens = jnp.array([[3, 1, 2], [5, 6, 4]])
    padded = jnp.pad(tokens, ((0, 1), (0, 2)))
    args = {"vocabulary": 7, "width": 4, "layers": 1, **({"heads": 2} if name[0] == "t" else {})}
    network = build(name, num_outputs=3, padding_token=0, **args)
    plain = build(name, num_outputs=3, **args)
    variables = jax.jit(network.init)(key(0), padded)
    params = dict(variables["params"])
    if name == "text_transformer":
        params["positions"] = params["positions"][:, :3]
    outputs = compiled(network, variables, padded)
    expected = compiled(plain, {"params": params}, tokens)
    np.testing.assert_allclose(outputs[:2], expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(outputs[2]).all()  # a text of padding alone


def test_an_lstm_is_its_equations() -> None:
    """Hochreiter and Schmidhuber's cell, with a forget gate, step by step in NumPy."""
    x = data(0, 2, 4, 3)
    lstm = build("lstm", num_outputs=2, width=5)
    params = jax.tree.map(np.asarray, jax.jit(lstm.init)(key(0), x)["params"])
    cell = params["lstm1"]
    h = c = np.zeros((2, 5))

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    for t in range(4):
        gates = {
            g: np.asarray(x[:, t]) @ cell[f"i{g}"]["kernel"]
            + h @ cell[f"h{g}"]["kernel"]
            + cell[f"h{g}"]["bias"]
            for g in "ifgo"
        }
        c = sigmoid(gates["f"]) * c + sigmoid(gates["i"]) * np.tanh(gates["g"])
        h = sigmoid(gates["o"]) * np.tanh(c)
    expected = h @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(
        compiled(lstm, {"params": params}, x), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["vit", "lstm"])
def test_it_becomes_bayesian(name: str) -> None:
    args, x = SMALL[name]
    network = build(name, num_outputs=3, **args)
    variables = jax.tree.map(lambda s: jnp.ones(s.shape), jax.eval_shape(network.init, key(0), x))
    model = to_bnn(network, variables, estimator="flipout")
    outputs = jax.eval_shape(model.apply, key(1), model.posterior, x)
    assert outputs.shape == (4, 3)
    assert model.report().num_random_weights > 0


def test_every_network_says_what_it_takes() -> None:
    assert set(KINDS) == set(NETWORKS) == set(SMALL)
    for name, network in NETWORKS.items():
        text = network.__doc__ or ""
        missing = [a for a in arguments(name) if a not in ("dtype",) and a not in text]
        assert not missing or name in ("mlp", "lenet5", "resnet20"), f"{name}: {missing}"


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": ("resnet", {}, "no network 'resnet', did you mean 'resnet20'.*are mlp, lenet5, cnn"),
    "unlike any": ("xyz", {}, r"no network 'xyz'\. The networks are"),
    "argument": ("vit", {"patch": 4}, "no argument 'patch', did you mean 'patch_size'.*heads"),
    "size": ("resnet20", {"num_classes": 3}, "no argument 'num_classes'"),
    "missing": ("mlp", {}, "mlp needs the argument 'hidden'. It takes hidden, dtype"),
    "no vocabulary": ("text_transformer", {"width": 8}, "needs the argument 'vocabulary'"),
    "null vocabulary": ("text_transformer", {"vocabulary": None}, "vocabulary .* got None"),
    "zero": ("vit", {"layers": 0}, "layers of vit must be a whole number from 1 to 1000, got 0"),
    "float": ("wide_resnet", {"width": 2.5}, "width of wide_resnet must be a whole .* got 2.5"),
    "truth": ("lstm", {"layers": True}, "layers of lstm must be a whole .* got True"),
    "text": ("lstm", {"width": "8"}, "width of lstm must be a whole .* got '8'"),
    "list": ("mlp", {"hidden": 8}, "hidden of mlp must be a list of whole numbers"),
    "list of text": ("cnn", {"channels": ["a"]}, r"channels of cnn must be a list .* got \['a'\]"),
    "rate": ("cnn", {"dropout": 1.0}, "dropout of cnn must be a number from 0 to 1"),
    "padding": (
        "lstm",
        {"padding_token": -1},
        "padding_token of lstm .* from 0 to 1000000000, got -1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_name_or_argument_is_one_line(case: str) -> None:
    name, args, expected = WRONG[case]
    with pytest.raises(NetworkError) as caught:
        build(name, num_outputs=3, **args)
    message = str(caught.value)
    assert re.search(expected, message), message
    assert "\n" not in message


def test_outputs_are_counted() -> None:
    with pytest.raises(NetworkError, match="num_outputs of vit must be a whole number"):
        build("vit", num_outputs=0)


MISFITS: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "small image": (models.CNN(channels=(2, 2)), (1, 3, 8, 1), "at least 4x4, got 3x8"),
    "patches": (models.ViT(patch_size=5), (1, 8, 10, 1), "patch_size must divide .* 5 for 8x10"),
    "heads": (models.ViT(width=8), (1, 8, 8, 1), "multiple of heads, got width=8 and heads=3"),
    "depth": (models.WideResNet(depth=12), (1, 8, 8, 1), r"must be 6 n \+ 4, .* got 12"),
    "vectors": (models.LSTM(vocabulary=5), (1, 3, 2), "got float32 .* vocabulary=5"),
    "flat": (models.LSTM(), (1, 3), r"got float32 \(1, 3\)"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_inputs_that_do_not_fit_are_one_line(case: str) -> None:
    network, shape, expected = MISFITS[case]
    with pytest.raises(ValueError, match=expected):
        jax.eval_shape(network.init, key(0), jnp.zeros(shape))
