"""MindSpore's parameter dicts, in and out of modules and trees."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnn_jax import gaussian, mindspore
from bnn_jax.bnn_layers import ConvReparam, DenseReparam, WithBNNLossCell
from bnn_jax.gaussian import Gaussian
from bnn_jax.mindspore import load_param_dict, param_dict_to_tree, save_param_dict

RANDOM = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def posterior(name: str, *shape: int) -> dict[str, np.ndarray]:
    return {f"{name}.mean": array(*shape), f"{name}.untransformed_std": array(*shape)}


class Net(nnx.Module):
    """One of each kind of layer, nested, in lists, and one used twice."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = ConvReparam(1, 6, 5, pad_mode="valid", has_bias=True, rngs=rngs)
        self.bn = nnx.BatchNorm(6, rngs=rngs)
        self.layers = nnx.List([nnx.Conv(6, 4, (3, 1), rngs=rngs), nnx.LayerNorm(4, rngs=rngs)])
        self.up = nnx.ConvTranspose(4, 3, (2, 3), rngs=rngs)
        self.line = nnx.Conv(3, 2, (5,), rngs=rngs)
        self.fc1 = DenseReparam(12, 5, activation="prelu", rngs=rngs)
        self.head = nnx.Sequential(nnx.Linear(5, 4, rngs=rngs), jnp.tanh)
        self.again = self.fc1
        self.words = nnx.Embed(7, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)


def params() -> dict[str, np.ndarray]:
    return {
        **posterior("conv1.weight_posterior", 6, 1, 5, 5),
        **posterior("conv1.bias_posterior", 6),
        **{f"bn.{name}": array(6) for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        "layers.0.weight": array(4, 6, 3, 1),
        "layers.0.bias": array(4),
        "layers.1.gamma": array(4),
        "layers.1.beta": array(4),
        "up.weight": array(4, 3, 2, 3),
        "up.bias": array(3),
        "line.weight": array(2, 3, 1, 5),
        "line.bias": array(2),
        **posterior("fc1.weight_posterior", 5, 12),
        **posterior("fc1.bias_posterior", 5),
        "fc1.activation.w": array(1),
        "head.0.weight": array(4, 5),
        "head.0.bias": array(4),
        "words.embedding_table": array(7, 3),
    }


def net() -> Net:
    return Net(nnx.Rngs(0))


def test_every_layer_goes_in_and_comes_out() -> None:
    theirs = params()
    module = net()
    assert load_param_dict(module, theirs) is module
    np.testing.assert_array_equal(
        module.conv1.weight_posterior.mean[...],
        np.einsum("oihw->hwio", theirs["conv1.weight_posterior.mean"]),
    )
    np.testing.assert_array_equal(
        module.fc1.weight_posterior.untransformed_std[...],
        theirs["fc1.weight_posterior.untransformed_std"].T,
    )
    np.testing.assert_array_equal(module.head.layers[0].kernel[...], theirs["head.0.weight"].T)
    np.testing.assert_array_equal(module.bn.var[...], theirs["bn.moving_variance"])
    np.testing.assert_array_equal(module.words.embedding[...], theirs["words.embedding_table"])
    ours = save_param_dict(module)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_a_merged_module_is_the_same() -> None:
    theirs = params()
    module = nnx.merge(*nnx.split(load_param_dict(net(), theirs)))
    ours = save_param_dict(load_param_dict(net(), save_param_dict(module)))
    # after a merge the shared layer may be found under its other name
    for name in theirs.keys() & ours.keys():
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_other_names_of_the_same_parameters() -> None:
    """Checkpoint files, a shared layer's other name, a wrapped network, ConvReparam's extras."""
    theirs = params()
    renamed = {name.replace("fc1.", "again."): value for name, value in theirs.items()}
    renamed = {name.replace("head.0", "head.layers.0"): value for name, value in renamed.items()}
    for which in ("weight", "bias"):
        for part in ("mean", "untransformed_std"):
            value = renamed.pop(f"conv1.{which}_posterior.{part}")
            renamed[f"conv1.{which}_posterior.bnn_{which}_{part}"] = value
    renamed |= {"conv1.weight": array(6, 1, 5, 5), "conv1.bias": array(6)}
    cell = WithBNNLossCell(net(), lambda y, t: jnp.mean(y))
    load_param_dict(cell, renamed)
    ours = save_param_dict(cell)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_all_that_does_not_fit_is_named_and_nothing_changes() -> None:
    module, theirs = net(), params()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    theirs["surplus.weight"] = array(1)
    del theirs["layers.0.bias"]
    theirs["head.0.weight"] = array(5, 4)
    theirs["again.bias_posterior.mean"] = array(5)
    with pytest.raises(ValueError, match="none was loaded") as error:
        load_param_dict(module, theirs)
    for part in (
        "unknown: surplus.weight",
        "missing: layers.0.bias",
        "head.0.weight has shape (5, 4), expected (4, 5)",
        "fc1.bias_posterior.mean and again.bias_posterior.mean name the same parameter",
    ):
        assert part in str(error.value)
    after = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    jax.tree.map(np.testing.assert_array_equal, before, after)


class Flat(nnx.Module):
    def __init__(self, bayesian: bool) -> None:
        cls: Any = DenseReparam if bayesian else nnx.Linear
        self.fc1 = cls(2 * 3 * 4, 5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("bayesian", [True, False])
def test_a_dense_layer_behind_a_flattened_image(bayesian: bool) -> None:
    """By `flattened`, or by `flatten_nchw`: MindSpore's product of its own flattened input."""
    name = "fc1.weight_posterior.mean" if bayesian else "fc1.weight"
    theirs = {name: array(5, 24)}
    theirs |= {name.replace("weight", "bias"): np.zeros(5, np.float32)}
    if bayesian:
        theirs |= {k.replace("mean", "untransformed_std"): v for k, v in theirs.items()}
    image, options = array(6, 2, 3, 4), {"deterministic": True} if bayesian else {}
    expected = image.reshape(6, -1) @ theirs[name].T
    nhwc = jnp.asarray(np.einsum("nchw->nhwc", image))
    flattened = {"fc1": (2, 3, 4)}
    module = load_param_dict(Flat(bayesian), theirs, flattened=flattened)
    np.testing.assert_allclose(module.fc1(nhwc.reshape(6, -1), **options), expected, atol=1e-5)
    back = save_param_dict(module, flattened=flattened)
    np.testing.assert_array_equal(back[name], theirs[name])
    np.testing.assert_array_equal(
        mindspore.tree_to_param_dict(
            param_dict_to_tree(theirs, flattened=flattened), flattened=flattened
        )[name],
        theirs[name],
    )
    module = load_param_dict(Flat(bayesian), theirs)
    y = module.fc1(mindspore.flatten_nchw(nhwc), **options)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    with pytest.raises(ValueError, match="flattened names"):
        load_param_dict(module, theirs, flattened={"fc2": (2, 3, 4)})
    with pytest.raises(ValueError, match="25 inputs"):
        load_param_dict(module, theirs, flattened={"fc1": (1, 5, 5)})


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_transposed_convolution(transpose_kernel: bool) -> None:
    """MindSpore's is a convolution's adjoint: each input pixel adds its kernel to the output."""
    weight, image = array(3, 2, 2, 3), array(1, 3, 4, 5)
    expected = np.zeros((1, 2, 2 * 4, 2 * 4 + 3))
    for row in range(4):
        for column in range(5):
            patch = np.einsum("c,cohw->ohw", image[0, :, row, column], weight)
            expected[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 3] += patch
    up = nnx.ConvTranspose(
        3,
        2,
        (2, 3),
        (2, 2),
        padding="VALID",
        use_bias=False,
        transpose_kernel=transpose_kernel,
        rngs=nnx.Rngs(0),
    )
    load_param_dict(up, {"weight": weight})
    y = up(jnp.asarray(np.einsum("nchw->nhwc", image)))
    np.testing.assert_allclose(np.einsum("nhwc->nchw", y), expected, atol=1e-5)
    np.testing.assert_array_equal(save_param_dict(up)["weight"], weight)


def test_trees() -> None:
    theirs = {name: value for name, value in params().items() if "line" not in name}
    theirs = {name: value for name, value in theirs.items() if "activation" not in name}
    with_unused = theirs | {"conv1.weight": array(6, 1, 5, 5)}
    tree = param_dict_to_tree(theirs, transposed=["up"])
    kernel = tree["conv1"]["kernel"]
    assert isinstance(kernel, Gaussian)
    expected = np.einsum("oihw->hwio", theirs["conv1.weight_posterior.mean"])
    np.testing.assert_array_equal(kernel.mean, expected)
    assert tree["bn"].keys() == {"scale", "bias", "mean", "var"}
    assert tree["layers"]["0"]["kernel"].shape == (3, 1, 6, 4)
    module = load_param_dict(net(), params() | theirs)
    np.testing.assert_array_equal(tree["up"]["kernel"], module.up.kernel[...])
    assert set(gaussian.random_leaves(tree)) == {
        f"{layer}/{weight}" for layer in ("conv1", "fc1") for weight in ("kernel", "bias")
    }
    again = param_dict_to_tree(with_unused, transposed=["up"])
    jax.tree.map(np.testing.assert_array_equal, again, tree)
    back = mindspore.tree_to_param_dict(tree, transposed=["up"])
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)
    del theirs["conv1.weight_posterior.mean"]
    with pytest.raises(ValueError, match=r"conv1.weight_posterior must have mean"):
        param_dict_to_tree(theirs)
