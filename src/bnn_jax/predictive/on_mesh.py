"""The summary of a chunk of examples on a mesh: examples over `data`, members over `samples`.

Each device along `samples` loops over its own consecutive members, and the running sums of all
devices are merged at the end. So what the devices send each other does not grow with the number of
members, unless their outputs are kept.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from bnn_jax.devices import Placement, axis_size
from bnn_jax.devices.placement import constrain
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import predictor
from bnn_jax.predictive.kinds import Data
from bnn_jax.predictive.members import Program
from bnn_jax.predictive.running_sums import Function, Known, Sums
from bnn_jax.predictive.sample_loop import Count, SampleLoop, number_of_groups

Summarise = Callable[..., dict[str, PyTree]]


def divided(summarise: Summarise, mesh: Mesh) -> Summarise:
    """Returns a function with the arguments of `predictor.summarise`, for arrays on a mesh.

    Args:
        summarise: `predictor.summarise`, or what takes its place.
        mesh: divides the examples, whose number must be a multiple of the devices along `data`.
    """
    has_members = summarise is predictor.summarise and axis_size(mesh, "samples") > 1

    def on_mesh(*arguments: Any, **static: Any) -> dict[str, PyTree]:
        if has_members:
            summary = _over_samples(mesh, *arguments, **static)
        else:
            summary = summarise(*arguments, **static)
        return constrain(summary, Placement(mesh).everywhere)

    return on_mesh


def _over_samples(
    mesh: Mesh,
    key: PRNGKey,
    data: Data,
    x: PyTree,
    targets: Array | None,
    start: Array,
    num_samples: Count,
    *,
    program: Program,
    likelihood: Known | Function,
    levels: tuple[float, ...],
    stacked: int,
) -> dict[str, PyTree]:
    """Returns the summary of `predictor.summarise`, with the members divided over `samples`."""
    devices = axis_size(mesh, "samples")
    data = program.prepared(data)
    indices = start + jnp.arange(jax.tree.leaves(x)[0].shape[0])
    per_device_groups = -(-number_of_groups(program, stacked or num_samples) // devices)

    part = partial(
        _part,
        program=program,
        likelihood=likelihood,
        groups=per_device_groups if stacked else None,
    )
    split = PartitionSpec("samples")
    arguments: tuple[Any, ...] = (
        key,
        data,
        x,
        targets,
        indices,
        num_samples,
        jnp.asarray(per_device_groups),
    )
    parts, outputs = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(split, *(PartitionSpec() for _ in arguments)),
        out_specs=split,
        axis_names={"samples"},
        check_vma=False,
    )(jnp.arange(devices), *arguments)
    each = per_device_groups * program.group_size
    counts = jnp.clip(num_samples - jnp.arange(devices) * each, 0, each)
    loop = SampleLoop(program, likelihood, num_samples, bool(stacked))
    total = loop.sums.merged(parts, counts)
    if stacked:
        # Quantiles need all members of an example on one device.
        by_example = NamedSharding(mesh, PartitionSpec(None, tuple(mesh.axis_names)))
        outputs = constrain(jax.tree.map(lambda a: a[:stacked], outputs), by_example)
    return predictor.summary_from(loop, total, outputs, levels)


def _part(
    device: Array,
    key: PRNGKey,
    data: Data,
    x: PyTree,
    targets: Array | None,
    indices: Array,
    num_samples: Array,
    per_device: Array,
    *,
    program: Program,
    likelihood: Known | Function,
    groups: Count | None,
) -> tuple[Sums, PyTree]:
    """Returns what one device along `samples` computes: its sums, on a new axis 0, and outputs.

    Args:
        device: (1,) its number.
        key, data, x, targets, indices: those of the prediction.
        num_samples: the number of members of all devices.
        per_device: the number of groups of one device.
        program, likelihood: those of the prediction.
        groups: the same number as an int, if outputs are kept.
    """
    loop = SampleLoop(program, likelihood, num_samples, groups is not None)
    number = per_device if groups is None else groups
    first = device[0] * per_device
    total, outputs = loop.run(number, key, data, x, targets, indices, first=first)
    return jax.tree.map(lambda a: a[None], total), outputs
