"""Conversion of MindSpore's parameter dicts to nested dicts with Flax's names, and back."""

from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.gaussian import Gaussian
from bnn_jax.mindspore import layout as layouts
from bnn_jax.mindspore.layout import Image

Flattened = Mapping[str, Image]


def param_dict_to_tree(
    params: Mapping[str, object],
    *,
    flattened: Flattened | None = None,
    transposed: Collection[str] = (),
) -> dict[str, PyTree]:
    """Returns the parameters as nested dicts with Flax's names. Random weights are `Gaussian`.

    Batch statistics are returned as `mean` and `var` beside `scale` and `bias`. The names do not
    identify 1-d convolutions: their kernels are returned as 2-d kernels of height 1.

    Args:
        params: {name: array}.
        flattened: as in `load_param_dict`.
        transposed: the names of the transposed convolutions.

    Raises:
        ValueError: a posterior lacks mean or untransformed_std.
    """
    parts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for name, value in params.items():
        owner, _, attribute = layouts.attribute_name(name).rpartition(".")
        layer, _, last = owner.rpartition(".")
        if last.endswith("_posterior"):
            weight, part = (layer, last.removesuffix("_posterior")), attribute
        else:
            weight, part = (owner, attribute), "value"
        parts.setdefault(weight, {})[part] = layouts.numpy_of(value)
    tree: dict[str, PyTree] = {}
    for (layer, attribute), values in parts.items():
        name, load = _flax_name(attribute, layer, flattened, transposed)
        arrays = {key: jnp.asarray(load(value)) for key, value in values.items()}
        node = tree
        for key in filter(None, layer.split(".")):
            node = node.setdefault(key, {})
        if arrays.keys() == {"value"}:
            node[name] = arrays["value"]
        elif {"mean", "untransformed_std"} <= arrays.keys():
            node[name] = Gaussian(mean=arrays["mean"], rho=arrays["untransformed_std"])
        else:
            raise ValueError(
                f"{layouts.join(layer, attribute)}_posterior must have mean and untransformed_std, "
                f"the parameters have only {sorted(arrays)}."
            )
    return tree


def tree_to_param_dict(
    tree: PyTree, *, flattened: Flattened | None = None, transposed: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Returns {MindSpore's name: array} of nested dicts: the inverse of `param_dict_to_tree`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=gaussian.is_gaussian)
    named = {gaussian.path_name(path).replace("/", "."): leaf for path, leaf in leaves}
    params: dict[str, np.ndarray] = {}
    for path, leaf in named.items():
        layer, _, attribute = path.rpartition(".")
        layout = layouts.PLAIN
        if attribute == "kernel":
            image = (flattened or {}).get(layer)
            layout = layouts.kernel(leaf.shape, layer, image, transposed=layer in transposed)
            attribute = "weight"
        elif layouts.join(layer, "scale") in named:
            attribute = layouts.NORMALISATION.get(attribute, attribute)
        elif attribute == "embedding":
            attribute = "embedding_table"
        name = layouts.join(layer, attribute)
        arrays = {name: leaf}
        if isinstance(leaf, Gaussian):
            posterior = f"{name}_posterior"
            arrays = {f"{posterior}.mean": leaf.mean, f"{posterior}.untransformed_std": leaf.rho}
        params |= {
            key: layouts.contiguous(layout.save(layouts.numpy_of(value)))
            for key, value in arrays.items()
        }
    return params


def _flax_name(
    attribute: str, layer: str, flattened: Flattened | None, transposed: Collection[str]
) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns Flax's name of MindSpore's attribute, and the function that converts its arrays."""
    flax_names = {theirs: ours for ours, theirs in layouts.NORMALISATION.items()}
    flax_names["embedding_table"] = "embedding"
    if attribute != "weight":
        return flax_names.get(attribute, attribute), layouts.PLAIN.load

    def load(value: np.ndarray) -> np.ndarray:
        ours = value.shape[
            ::-1
        ]  # the layout depends on the rank, and on the shape only for a dense layer
        image = (flattened or {}).get(layer)
        return layouts.kernel(ours, layer, image, transposed=layer in transposed).load(value)

    return "kernel", load
