"""A Gaussian whose covariance is in factors, one for each part of the weights: Laplace's posterior.

    weights = centre + deviation,   deviation of a part = factor.draw(key)

A factor holds a square root of the covariance of its part: of single weights (`Diagonal`), of a
kernel (`Kronecker`), or of several leaves together (`Full`). The parts are independent, and weights
of no part are deterministic.
"""

import dataclasses
import math
from functools import partial
from typing import Protocol, runtime_checkable

import jax
from jaxtyping import Array, PyTree

from bnn_jax import gaussian, noise
from bnn_jax.gaussian import Leaf
from bnn_jax.noise import PRNGKey


@runtime_checkable
class Factor(Protocol):
    """The covariance of some leaves; a registered pytree."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the leaves."""
        ...

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """Returns a draw of the deviation of each leaf."""
        ...


@partial(jax.tree_util.register_dataclass, data_fields=("std",), meta_fields=("paths",))
@dataclasses.dataclass(frozen=True)
class Diagonal:
    """Independent weights of one leaf.

    Attributes:
        std: their standard deviations, an array of the leaf's shape.
        paths: the path of the leaf.
    """

    std: Leaf
    paths: tuple[str, ...]

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        return (self.std * noise.normal(key, self.std.shape, self.std.dtype),)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("left", "right", "std"),
    meta_fields=("paths", "axes"),
)
@dataclasses.dataclass(frozen=True)
class Kronecker:
    """A kernel, a matrix W = left (std * noise) right^T of its inputs and its outputs.

    Attributes:
        left, right: orthogonal matrices: eigenvectors of the factor of inputs and that of outputs.
        std: array of the shape of the leaf with its axes in the order of `axes`.
        paths: the path of the leaf.
        axes: the axes of the leaf that are inputs, and those that are outputs.

    Source: Ritter, Botev, Barber 2018, "A Scalable Laplace Approximation for Neural Networks".
    """

    left: Leaf
    right: Leaf
    std: Leaf
    paths: tuple[str, ...]
    axes: tuple[int, ...]

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        draw = self.std * noise.normal(key, self.std.shape, self.std.dtype)
        matrix = draw.reshape(len(self.left), len(self.right))
        matrix = self.left @ matrix @ self.right.T
        order = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return (matrix.reshape(self.std.shape).transpose(order),)


@partial(jax.tree_util.register_dataclass, data_fields=("root",), meta_fields=("paths", "shapes"))
@dataclasses.dataclass(frozen=True)
class Full:
    """All weights of several leaves, with all their covariances.

    Attributes:
        root: a square matrix R with R R^T = the covariance of the leaves, raveled and joined.
        paths: the paths of the leaves.
        shapes: their shapes.
    """

    root: Leaf
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        joined = self.root @ noise.normal(key, (len(self.root),), self.root.dtype)
        leaves, start = [], 0
        for shape in self.shapes:
            stop = start + math.prod(shape)
            leaves.append(joined[start:stop].reshape(shape))
            start = stop
        return tuple(leaves)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("centre", "factors", "variables"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Laplace:
    """A Gaussian around the MAP estimate.

    Attributes:
        centre: the mean, a params tree.
        factors: a tuple of `Factor`, the covariance.
        variables: the network's other state, such as batch statistics; None for the model's own.

    Source: Daxberger et al. 2021, "Laplace Redux", arXiv:2106.14806.
    """

    centre: PyTree
    factors: PyTree
    variables: PyTree = None

    def sample(self, key: PRNGKey) -> PyTree:
        """Returns one draw. Each factor's noise has the key of its first leaf, by position."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(self.centre)
        names = [gaussian.path_name(path) for path, _ in leaves]
        shift: dict[str, Array] = {}
        for factor in self.factors:
            drawn = factor.draw(jax.random.fold_in(key, names.index(factor.paths[0])))
            shift.update(zip(factor.paths, drawn, strict=True))
        drawn_leaves = [
            leaf + shift[name].astype(leaf.dtype) if name in shift else leaf
            for name, (_, leaf) in zip(names, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, drawn_leaves)

    def mean(self) -> PyTree:
        return self.centre

    def structure(self) -> dict[str, str]:
        """Returns {path of a random weight: diagonal, kronecker or full}."""
        return {path: type(f).__name__.lower() for f in self.factors for path in f.paths}
