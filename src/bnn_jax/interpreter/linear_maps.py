"""Maps y = map(x, W) that are linear in the data x and in the weight W.

Products, convolutions and einsums are recognised. `linear_map` registers any other function as a
linear map: interpretations treat it as one operation and do not interpret its computation.

    @linear_map("ni,io->no")
    def product(x, w):
        return jnp.dot(x, w)

The subscripts define which axes of x and y correspond to examples and to axes of W, which
estimators require; see `linear_map`.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
from jaxtyping import Array

from bnn_jax.interpreter.jaxprs import Equation, bind, shape_of

LINEAR_MAP = "linear_map"


@dataclasses.dataclass(frozen=True)
class Use:
    """One use y = map(x, W) of a weight, with the examples on axis 0 of x.

    Attributes:
        map: the map as a function of x and W, for any number of examples.
        in_signs: a shape that broadcasts to x: full on the axes of examples and of W's inputs.
        out_signs: a shape that broadcasts to y: full on the axes of examples and of W's outputs.
        out_axis: the axis of the examples in y.
        positions: whether an example uses the weight at several positions (of space or time).
        w_out: the axes of W that are outputs, if W is a matrix of its inputs and its outputs; None
            if parts of W have separate inputs (groups, batches of products).
        y_out: the corresponding axes of y, in the same order.
    """

    map: Callable[[Array, Array], Array]
    in_signs: tuple[int, ...]
    out_signs: tuple[int, ...]
    out_axis: int
    positions: bool
    w_out: tuple[int, ...] | None
    y_out: tuple[int, ...]

    def each(self, x: Array, weights: Array) -> Array:
        """Returns y_i = map(x_i, W_i), with one weight for each example on axis 0 of `weights`."""
        y = jax.vmap(lambda x_i, w_i: self.map(x_i[None], w_i))(x, weights)
        return jax.numpy.moveaxis(jax.numpy.squeeze(y, 1 + self.out_axis), 0, self.out_axis)


@dataclasses.dataclass(frozen=True)
class _Registered:
    """A linear map with its settings, and the letters of the axes of x, W and y."""

    fn: Callable[[Array, Array], Array]
    x: str
    w: str
    y: str

    def fits(self, eqn: Equation) -> bool:
        """Returns whether a call by this name is the map, and not its derivative or its vmap."""
        if len(eqn.invars) != 2 or len(eqn.outvars) != 1:
            return False
        x, w, y = (shape_of(v) for v in (*eqn.invars, *eqn.outvars))
        sizes: dict[str, int] = {}
        for letters, shape in ((self.x, x), (self.w, w), (self.y, y)):
            if len(letters) != len(shape):
                return False
            if any(
                sizes.setdefault(letter, n) != n for letter, n in zip(letters, shape, strict=True)
            ):
                return False
        return _out_shape(self, *(_struct(v.aval) for v in eqn.invars)) == y


_MAPS: dict[str, _Registered] = {}


def linear_map(subscripts: str) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Returns a decorator that registers fn(x, w, *settings) as a map linear in x and in w.

    Args:
        subscripts: a letter for each axis, as in einsum: "nhwi,jkio->nabo" for a convolution of
            images with a kernel. The first letter denotes the examples, on axis 0 of x and on any
            axis of y. A letter in x and w denotes an input of the weight, and a letter in w and y
            an output. A letter in y that is not in w denotes positions that share the weight.

    Returns:
        A decorator. It returns the jitted function. Settings are static: hashable, not arrays.

    Raises:
        ValueError: the subscripts have another form.
    """
    inputs, _, y = subscripts.replace(" ", "").partition("->")
    x, _, w = inputs.partition(",")
    if not (x and w and y and x[0] in y and x[0] not in w and "," not in w):
        raise ValueError(
            "The subscripts of a linear map must be x,w->y, with one letter for each axis and the "
            f"examples on the first axis of x and in y, such as 'ni,io->no'; got {subscripts!r}."
        )

    def register(fn: Callable[..., Array]) -> Callable[..., Array]:
        @functools.cache
        def compiled(settings: tuple[Hashable, ...]) -> Callable[[Array, Array], Array]:
            def whole(x: Array, w: Array) -> Array:
                return fn(x, w, *settings)

            name = f"{LINEAR_MAP}_{fn.__module__}.{fn.__qualname__}{settings or ''}"
            same = sum(known == name or known.startswith(f"{name} ") for known in _MAPS)
            whole.__name__ = f"{name} {same + 1}" if same else name
            jitted: Callable[[Array, Array], Array] = jax.jit(whole)
            _MAPS[whole.__name__] = _Registered(whole, *letters)
            return jitted

        letters = (x, w, y)

        @functools.wraps(fn)
        def call(x: Array, w: Array, *settings: Hashable) -> Array:
            return compiled(settings)(x, w)

        return call

    return register


def operation_of(eqn: Equation) -> str:
    """Returns the name of the primitive, or `LINEAR_MAP` for a call of a registered map."""
    name = str(eqn.primitive.name)
    registered = _registered(eqn)
    return LINEAR_MAP if registered is not None and registered.fits(eqn) else name


def use_of(eqn: Equation, weight: int) -> Use | None:
    """Returns the equation as a linear map of data with examples on axis 0, if it is one.

    Args:
        weight: the index of the argument that is the weight; the other argument is the data.
    """
    operation = operation_of(eqn)
    if operation == LINEAR_MAP:
        return _linear_map(eqn) if weight == 1 else None
    if operation == "dot_general":
        return _dot_general(eqn, weight)
    if operation == "conv_general_dilated" and weight == 1:
        return _conv_general_dilated(eqn)
    return None


def _registered(eqn: Equation) -> _Registered | None:
    return _MAPS.get(eqn.params["name"]) if eqn.primitive.name == "jit" else None


@functools.lru_cache(maxsize=1024)
def _out_shape(registered: _Registered, *inputs: jax.ShapeDtypeStruct) -> tuple[Any, ...] | None:
    try:
        return tuple(jax.eval_shape(registered.fn, *inputs).shape)
    except (TypeError, ValueError):
        return None


def _struct(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _linear_map(eqn: Equation) -> Use:
    registered = _registered(eqn)
    assert registered is not None
    example = registered.x[0]
    x_shape, w_shape, y_shape = (shape_of(v) for v in (*eqn.invars, *eqn.outvars))

    def apply(x: Array, w: Array) -> Array:
        same = (x.shape, w.shape) == (x_shape, w_shape)
        return bind(eqn, [x, w])[0] if same else registered.fn(x, w)

    outputs = [letter for letter in registered.w if letter in registered.y]
    grouped = any(letter in registered.x for letter in outputs)
    return Use(
        apply,
        _full_on([example, *registered.w], registered.x, x_shape),
        _full_on([example, *registered.w], registered.y, y_shape),
        registered.y.index(example),
        any(
            n > 1 and letter not in (example, *registered.w)
            for letter, n in zip(registered.y, y_shape, strict=True)
        ),
        None if grouped else tuple(map(registered.w.index, outputs)),
        tuple(map(registered.y.index, outputs)),
    )


def _full_on(
    axes: Sequence[object], names: Sequence[object], shape: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Returns the shape with size 1 on all axes except those with these names."""
    return tuple(n if name in axes else 1 for name, n in zip(names, shape, strict=True))


def _dot_general(eqn: Equation, weight: int) -> Use | None:
    """Returns a product of data and weight, in either order, as a `Use`."""
    contract, batch = eqn.params["dimension_numbers"]
    x_shape, w_shape = (shape_of(eqn.invars[i]) for i in (1 - weight, weight))
    x_contract, x_batch = contract[1 - weight], batch[1 - weight]
    x_free = [a for a in range(len(x_shape)) if a not in (*x_contract, *x_batch)]
    w_free = [a for a in range(len(w_shape)) if a not in (*contract[weight], *batch[weight])]
    if not x_free or x_free[0] != 0:
        return None  # The example axis is contracted, or it is a batch axis of the product.
    x_out = [n if a == 0 else 1 for a, n in enumerate(x_shape) if a in x_free]
    w_out = [w_shape[a] for a in w_free]
    free = [*w_out, *x_out] if weight == 0 else [*x_out, *w_out]

    def apply(x: Array, w: Array) -> Array:
        return bind(eqn, [w, x] if weight == 0 else [x, w])[0]

    return Use(
        apply,
        _full_on([0, *x_contract, *x_batch], range(len(x_shape)), x_shape),
        (*(x_shape[a] for a in x_batch), *free),
        len(x_batch) + (len(w_out) if weight == 0 else 0),
        len(x_free) > 1,
        None if x_batch else tuple(w_free),
        tuple(range(len(w_out)) if weight == 0 else range(len(x_free), len(free))),
    )


def _conv_general_dilated(eqn: Equation) -> Use | None:
    """Returns a convolution of data with a random kernel as a `Use`."""
    spec = eqn.params["dimension_numbers"]
    if eqn.params["batch_group_count"] != 1 or spec.lhs_spec[0] != 0:
        return None  # The example axis is not the batch axis of the convolution.
    in_axes, out_axes = spec.lhs_spec[:2], spec.out_spec[:2]
    x_shape, y_shape = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])

    def apply(x: Array, w: Array) -> Array:
        return bind(eqn, [x, w])[0]

    return Use(
        apply,
        _full_on(in_axes, range(len(x_shape)), x_shape),
        _full_on(out_axes, range(len(y_shape)), y_shape),
        out_axes[0],
        any(n > 1 for a, n in enumerate(y_shape) if a not in out_axes),
        (spec.rhs_spec[0],) if eqn.params["feature_group_count"] == 1 else None,
        (spec.out_spec[1],),
    )
