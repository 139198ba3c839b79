"""Reading and writing of MindSpore's parameter dicts (name -> array).

The names are those of MindSpore: attributes joined by dots, entries of lists by index. The names of
its checkpoint files, such as `bnn_weight_mean` for a posterior's parameter, are accepted too. The
table in `mindspore.layout` lists the conversions of layouts. A dense layer after a flattened image
requires `flattened={"fc1": (channels, height, width)}`, or a network that uses `flatten_nchw`.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from bnn_jax.bnn_layers import ConvReparam, NormalPosterior, WithBNNLossCell
from bnn_jax.mindspore import layout as layouts
from bnn_jax.mindspore.layout import Image, Layout

Flattened = Mapping[str, Image]


def load_param_dict(
    module: nnx.Module, params: Mapping[str, object], *, flattened: Flattened | None = None
) -> nnx.Module:
    """Sets all parameters of the module, in place, from a MindSpore parameter dict.

    The unused `weight` and `bias` of MindSpore's ConvReparam are ignored.

    Args:
        module: an NNX network whose attributes have the same names as in MindSpore.
        params: {name: array}. The values may be MindSpore's tensors and parameters.
        flattened: {layer: (channels, height, width)} for each dense layer that follows a flattened
            image. Its inputs are reordered from MindSpore's order to that of Flax.

    Returns:
        The module.

    Raises:
        ValueError: names are unknown or missing, or shapes are wrong. The error lists all of them,
            and the module is unchanged.
    """
    slots, unused = _slots(module, flattened)
    given = {
        layouts.attribute_name(name): layouts.numpy_of(value) for name, value in params.items()
    }
    known = {name for slot in slots for name in slot.names}
    unknown = sorted(given.keys() - known - unused)
    missing = [slot.names[0] for slot in slots if not given.keys() & set(slot.names)]
    problems = [f"unknown: {', '.join(unknown)}"] if unknown else []
    problems += [f"missing: {', '.join(missing)}"] if missing else []
    found: list[tuple[_Slot, np.ndarray]] = []
    for slot in slots:
        names = [name for name in slot.names if name in given]
        expected = slot.layout.their_shape(slot.value.shape)
        for name in names:
            if given[name].shape != expected:
                problems.append(f"{name} has shape {given[name].shape}, expected {expected}")
        if len(names) > 1:
            problems.append(f"{' and '.join(names)} name the same parameter")
        found += [(slot, given[name]) for name in names]
    if problems:
        raise ValueError(
            f"The parameters do not fit this {type(module).__name__}, so none was loaded. "
            + "; ".join(problems)
        )
    for slot, value in found:
        slot.variable.set_value(jnp.asarray(slot.layout.load(value), slot.value.dtype))
    return module


def save_param_dict(
    module: nnx.Module, *, flattened: Flattened | None = None
) -> dict[str, np.ndarray]:
    """Returns the parameters with MindSpore's names and layouts: the inverse of `load_param_dict`.

    A parameter that the module contains twice is returned once, under its first name.
    """
    slots, _ = _slots(module, flattened)
    return {
        slot.names[0]: layouts.contiguous(slot.layout.save(layouts.numpy_of(slot.value)))
        for slot in slots
    }


@dataclasses.dataclass
class _Slot:
    """One parameter of a module: its variable and MindSpore's names, the preferred first."""

    variable: nnx.Variable
    names: list[str]
    layout: Layout

    @property
    def value(self) -> Array:
        return self.variable.get_value()


def _slots(module: nnx.Module, flattened: Flattened | None) -> tuple[list[_Slot], set[str]]:
    """Returns each parameter once, and the names of the parameters that MindSpore does not use."""
    images = dict(flattened or {})
    slots: dict[int, _Slot] = {}
    unused: set[str] = set()
    paths: set[str] = set()
    for path, owner, parent, attribute, variable in _variables(module):
        layer = path.rpartition(".")[0] if isinstance(owner, NormalPosterior) else path
        paths.add(layer)
        # The image belongs to the kernel of the layer, not to its bias.
        image = images.get(layer) if variable.get_value().ndim == 2 else None
        shape = variable.get_value().shape
        name, layout = layouts.name_and_layout(owner, attribute, shape, layer, image, parent)
        slot = slots.setdefault(id(variable), _Slot(variable, [], layout))
        slot.names.append(layouts.join(path, name))
        if isinstance(parent, ConvReparam):
            unused |= {layouts.join(layer, "weight"), layouts.join(layer, "bias")}
    strange = sorted(images.keys() - paths)
    if strange:
        raise ValueError(f"flattened names {strange}; the layers are {sorted(paths)}.")
    return list(slots.values()), unused


def _variables(
    node: object, path: str = "", parent: object = None, above: tuple[int, ...] = ()
) -> Iterator[tuple[str, object, object, str, nnx.Variable]]:
    """Yields (path, owner, owner's parent, attribute, variable) of each parameter.

    The order is that of MindSpore. A parameter that occurs twice is yielded under both names.
    """
    if id(node) in above:
        return
    for name, child in _children(node):
        paths = [layouts.join(path, name)]
        if isinstance(node, WithBNNLossCell) or (
            isinstance(node, nnx.Sequential) and name == "layers"
        ):
            paths.insert(0, path)  # MindSpore's names omit this level
        if isinstance(child, nnx.Param | nnx.BatchStat):
            yield path, node, parent, name, child
        elif isinstance(child, nnx.Pytree | Mapping | list | tuple):
            for below in paths:
                yield from _variables(child, below, node, (*above, id(node)))


def _children(node: object) -> list[tuple[str, object]]:
    if isinstance(node, nnx.Pytree):
        return [(k, v) for k, v in vars(node).items() if not k.startswith("_pytree__")]
    if isinstance(node, Mapping):
        return [(str(k), v) for k, v in node.items()]
    assert isinstance(node, list | tuple)
    return [(str(i), v) for i, v in enumerate(node)]
