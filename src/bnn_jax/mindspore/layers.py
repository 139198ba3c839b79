"""MindSpore's parameter dicts (name -> array), in and out.

Names are MindSpore's: attributes joined by dots, entries of lists by index. In its checkpoint files
the posteriors' parameters are called `bnn_weight_mean` and so on, which is understood too. Layouts
are converted as the table in `mindspore_layout` says. A dense layer behind a flattened image needs
`flattened={"fc1": (channels, height, width)}`, or a network that flattens by `flatten_nchw`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from bnn_jax.bnn_layers import ConvReparam, NormalPosterior, WithBNNLossCell
from bnn_jax.mindspore import layout as layouts
from bnn_jax.mindspore.layout import Image, Layout

Flattened = Mapping[str, Image]


def load_param_dict(
    module: nnx.Module, params: Mapping[str, Any], *, flattened: Flattened | None = None
) -> nnx.Module:
    """Set all parameters of the module, in place, from a MindSpore parameter dict.

    The unused `weight` and `bias` that MindSpore's ConvReparam keeps are ignored.

    Args:
        module: an NNX network whose attributes are named as in MindSpore.
        params: {name: array}; MindSpore's tensors and parameters will do.
        flattened: {layer: (channels, height, width)} for each dense layer that follows a flattened
            image; its inputs are reordered from MindSpore's order to ours.

    Returns:
        The module.

    Raises:
        ValueError: unknown or missing names, or wrong shapes: all are listed, nothing is changed.
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
            problems.append(f"{' and '.join(names)} name one parameter")
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
    """The module's parameters under MindSpore's names, in its layouts: `load_param_dict`'s inverse.

    A parameter that the module holds twice comes once, under its first name.
    """
    slots, _ = _slots(module, flattened)
    return {
        slot.names[0]: layouts.contiguous(slot.layout.save(layouts.numpy_of(slot.value)))
        for slot in slots
    }


@dataclasses.dataclass
class _Slot:
    """One parameter of a module: its variable, and MindSpore's names for it, the best one first."""

    variable: nnx.Variable
    names: list[str]
    layout: Layout

    @property
    def value(self) -> Any:
        return self.variable.get_value()


def _slots(module: nnx.Module, flattened: Flattened | None) -> tuple[list[_Slot], set[str]]:
    """Every parameter once, and the names of those that MindSpore stores without using them."""
    images = dict(flattened or {})
    slots: dict[int, _Slot] = {}
    unused: set[str] = set()
    paths: set[str] = set()
    for path, owner, parent, attribute, variable in _variables(module):
        layer = path.rpartition(".")[0] if isinstance(owner, NormalPosterior) else path
        paths.add(layer)
        # A bias of one layer and its kernel share the image, which is the kernel's.
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
    node: Any, path: str = "", parent: Any = None, above: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any, Any, str, nnx.Variable]]:
    """(path, owner, owner's parent, attribute, variable) of all parameters, in MindSpore's order.

    What is held twice comes twice, so that it is found under each of its names.
    """
    if id(node) in above:
        return
    for name, child in _children(node):
        paths = [layouts.join(path, name)]
        if isinstance(node, WithBNNLossCell) or (
            isinstance(node, nnx.Sequential) and name == "layers"
        ):
            paths.insert(0, path)  # MindSpore's names leave this level out
        if isinstance(child, nnx.Param | nnx.BatchStat):
            yield path, node, parent, name, child
        elif isinstance(child, nnx.Pytree | Mapping | list | tuple):
            for below in paths:
                yield from _variables(child, below, node, (*above, id(node)))


def _children(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, nnx.Pytree):
        return [(k, v) for k, v in vars(node).items() if not k.startswith("_pytree__")]
    if isinstance(node, Mapping):
        return [(str(k), v) for k, v in node.items()]
    return [(str(i), v) for i, v in enumerate(node)]
