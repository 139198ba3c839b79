"""The noise of weights and layers: every normal and every sign is drawn here.

Callers write `noise.normal(...)`
(the module's attribute, never a copy of the function), so that a test can replace it for all of
them.

Where the bits come from, for draws of 32 bits and less:

    threefry    Threefry-2x32 with its 20 rounds, counting the elements.
    threefry13  the same with 13 rounds, the fewest that its authors found to pass all tests of
                BigCrush; the other 7 are a margin. The default on CPU.
    rbg         XLA's own generator, Philox on most machines. The default on GPU and TPU.
    hash        two rounds of an integer hash of the counter and the key: the cheapest, and the
                least studied.
    jax         jax.random.normal and jax.random.rademacher themselves.

`with noise.generator("hash"):` selects another for the code that is traced inside; jit compiles a
separate program for each. The bits of Threefry and hash are the same on every machine, and the
normals made of them are the same to a few units in the last place. Those of rbg
depend on the backend and on the version of XLA. Under `vmap` a key draws what it draws alone. Each
element has its own counter, so under sharding each device draws its own part of the same array.

Sources: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"
(Threefry, Philox); the hash is C. Wellons' lowbias32.
"""

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, Float, Key, UInt32

from bnn_jax._compiler import materialise, one_program
from bnn_jax._parameters import check_key

PRNGKey = Key[Array, ""] | UInt32[Array, "2"]
Words = UInt32[Array, "..."]
Shape = tuple[Any, ...]  # of ints, or of the symbolic sizes of jax.export
KeyWords = UInt32[Array, "2"] | tuple[Array, Array]


@partial(jax.tree_util.register_dataclass, data_fields=("key", "sign"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Draw:
    """The noise of one weight sample: mean + sign * deviation, the deviation drawn from the key.

    Draw(key, 1) and Draw(key, -1) are an antithetic pair: each is distributed as the posterior, and
    the mean of the two is the posterior mean. Where a function takes a key, Draw(key) is the same.

    Attributes:
        key: a key of `jax.random`.
        sign: +1 or -1, or a scalar array that holds one of them.
    """

    key: Any
    sign: Any = 1

    def __post_init__(self) -> None:
        if isinstance(self.sign, int) and self.sign not in (1, -1):
            raise ValueError(f"The sign of a draw must be +1 or -1, got {self.sign}.")

    @classmethod
    def of(cls, key: "PRNGKey | Draw") -> "Draw":
        """Returns a draw itself, or the draw of a key, with sign +1."""
        if isinstance(key, Draw):
            return key
        check_key(key)
        return cls(key)

    @property
    def opposite(self) -> "Draw":
        """Returns the other draw of the antithetic pair."""
        return Draw(jax.random.clone(self.key), -self.sign)

    def shift(self, mean: Array, deviation: Array) -> Array:
        """Returns mean + sign * deviation."""
        if isinstance(self.sign, int):
            return mean + deviation if self.sign > 0 else mean - deviation
        return jnp.where(self.sign < 0, mean - deviation, mean + deviation)


def unpaired(draw: "PRNGKey | Draw", what: str) -> PRNGKey:
    """Returns the key of a draw, for noise that has no opposite, such as dropout masks.

    Raises:
        ValueError: the draw is the second of an antithetic pair.
    """
    draw = Draw.of(draw)
    if not isinstance(draw.sign, int) or draw.sign != 1:
        raise ValueError(f"{what} has no opposite noise: leave antithetic pairs out.")
    key: PRNGKey = draw.key
    return key


_chosen = jax.make_user_context(None)
_MOST = 2**32  # elements that a counter of 32 bits can number


@contextlib.contextmanager
def generator(name: str | None) -> Iterator[None]:
    """Selects the generator of all draws traced inside; None is the backend's default.

    Raises:
        ValueError: the name is unknown.
    """
    check_generator(name)
    with _chosen(name):
        yield


def check_generator(name: str | None) -> str | None:
    """Returns the name if it is that of a generator, or None.

    Raises:
        ValueError: the name is unknown.
    """
    if name is not None and name not in GENERATORS:
        near = difflib.get_close_matches(str(name), GENERATORS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"The generators are {', '.join(GENERATORS)}; got {name!r}.{hint}")
    return name


def generator_in_use() -> str:
    """Returns the name of the generator in use."""
    name: str | None = _chosen.value
    return name or ("threefry13" if jax.default_backend() == "cpu" else "rbg")


def normal(key: PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> Float[Array, "..."]:
    """Returns independent standard normal draws of the given shape, at most 6.34 in magnitude.

    Draws of less than 32 bits are made in float32 and rounded: a generator of 16-bit uniforms has
    no tails beyond three or four standard deviations. Draws of 64 bits are jax.random.normal's.
    """
    check_key(key)
    return _normal(key, tuple(shape), jnp.dtype(dtype), generator_in_use())


@partial(one_program, static_argnums=(1, 2, 3))
def _normal(key: PRNGKey, shape: Shape, dtype: jnp.dtype, name: str) -> Float[Array, "..."]:
    if dtype.itemsize > 4 or name == "jax" or _too_many(shape):
        wide = dtype if dtype.itemsize >= 4 else jnp.float32
        return jax.random.normal(key, shape, wide).astype(dtype)
    return normal_of(_words(key, shape, name)).astype(dtype)


def signs(key: PRNGKey, shape: Shape, dtype: DTypeLike = jnp.float32) -> Float[Array, "..."]:
    """Returns independent signs, -1 or +1 with probability one half each, of one bit each."""
    check_key(key)
    return _signs(key, tuple(shape), jnp.dtype(dtype), generator_in_use())


@partial(one_program, static_argnums=(1, 2, 3))
def _signs(key: PRNGKey, shape: Shape, dtype: jnp.dtype, name: str) -> Float[Array, "..."]:
    size = math.prod(shape)
    if name == "jax" or _too_many(shape):
        return jax.random.rademacher(key, shape, dtype)
    words = _words(key, (-(-size // 32),), name)
    bits = (words[:, None] >> lax.iota(jnp.uint32, 32)[None]) & jnp.uint32(1)
    negative = bits.reshape(-1)[:size].reshape(shape).astype(dtype)
    # One divided by a sign is the sign.
    return materialise(1, divide_by=1 - 2 * negative)


def _too_many(shape: Shape) -> bool:
    """Returns whether a counter of 32 bits cannot number the elements; False for unknown sizes.

    The sizes of an exported program may be symbolic. Beyond 2^32 elements its noise repeats.
    """
    try:
        return math.prod(shape) >= _MOST
    except jax.errors.InconclusiveDimensionOperation:
        return False


def _words(key: PRNGKey, shape: Shape, name: str) -> Words:
    """Returns independent words of 32 bits."""
    return GENERATORS[name](key, shape)


def _threefry(key: PRNGKey, shape: Shape, rounds: int = 20) -> Words:
    return threefry_words(jax.random.bits(key, (2,), jnp.uint32), _counter(shape), rounds)


def threefry_words(key: KeyWords, counter: Words, rounds: int) -> Words:
    """Returns Threefry-2x32 of each counter, its two words combined by exclusive or."""
    # XLA vectorizes the unrolled loop of rounds; jax.random's is not unrolled.
    first, second = key
    x, y = first, counter + second
    keys = (first, second, first ^ second ^ jnp.uint32(0x1BD11BDA))
    for done in range(1, rounds + 1):
        rotation = (13, 15, 26, 6, 17, 29, 16, 24)[(done - 1) % 8]
        x = x + y
        y = x ^ ((y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation)))
        if done % 4 == 0:
            block = done // 4
            x = x + keys[block % 3]
            y = y + keys[(block + 1) % 3] + jnp.uint32(block)
    return x ^ y


def _hash(key: PRNGKey, shape: Shape) -> Words:
    return hash_words(jax.random.bits(key, (2,), jnp.uint32), _counter(shape))


def hash_words(key: KeyWords, counter: Words) -> Words:
    """Returns the hash of each counter."""
    first, second = key
    return _lowbias32(_lowbias32(counter ^ first) ^ second)


def _lowbias32(x: Words) -> Words:
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> jnp.uint32(15))) * jnp.uint32(0x846CA68B)
    return x ^ (x >> jnp.uint32(16))


def _rbg(key: PRNGKey, shape: Shape) -> Words:
    @jax.custom_batching.custom_vmap  # JAX's own rule draws the bits of all keys from the first
    def bits(words: Any) -> Any:
        return jax.random.bits(jax.random.wrap_key_data(words, impl="rbg"), shape, jnp.uint32)

    bits.def_vmap(lambda size, _, keys: (jnp.stack([bits(keys[i]) for i in range(size)]), True))
    return bits(jax.random.bits(key, (4,), jnp.uint32))


def _jax(key: PRNGKey, shape: Shape) -> Words:
    return jax.random.bits(key, shape, jnp.uint32)


GENERATORS: dict[str, Callable[[PRNGKey, Shape], Words]] = {
    "threefry": _threefry,
    "threefry13": partial(_threefry, rounds=13),
    "rbg": _rbg,
    "hash": _hash,
    "jax": _jax,
}


def _counter(shape: Shape) -> Words:
    """Returns the number of each element, in row-major order."""
    count = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        if shape[axis] != 1:
            place = lax.broadcasted_iota(jnp.uint32, shape, axis)
            known = isinstance(stride, int)
            factor = jnp.uint32(stride) if known else jnp.asarray(stride).astype(jnp.uint32)
            count = count + place * factor
        stride *= shape[axis]
    return count


# |Z| = x P(t) / Q(t), x = 1 - q and t = sqrt(5 - log(1 - x^2)) - 3.696..., for the probability q of
# a magnitude above |Z|. Fitted to the inverse of erf; relative error 2e-7 before rounding.
_SHIFT = 3.696190432672485
_P = (
    3.9258733831680623,
    7.365375638743362,
    6.423213075471101,
    3.0571829471568766,
    0.7798989945505987,
    0.08359227017308268,
)
_Q = (1.0, 1.4234686956145863, 1.0209765748497448, 0.3504709622444758, 0.057885091433701956)


def normal_of(words: Words) -> Float[Array, "..."]:
    """Returns standard normals by the inverse distribution function: one sign bit, 31 of magnitude.

    It has no branch, because XLA on CPU would compute the bits again for each. The magnitude comes
    from the tail's probability, which float32 resolves to the last of 2^31 steps; jax.random.normal
    has 2^23 steps, and beyond 5 standard deviations too few draws.
    """
    steps = (words & jnp.uint32(0x7FFFFFFF)).astype(jnp.int32).astype(jnp.float32)
    q = (steps + 0.5) * 2.0**-31
    # q (2 - q) may round to more than 1, where the logarithm would be positive.
    t = jnp.sqrt(jnp.maximum(-jnp.log(q * (2.0 - q)), 0.0) + 5.0) - _SHIFT
    magnitude = lax.bitcast_convert_type((1.0 - q) * _polynomial(_P, t), jnp.uint32)
    signed = lax.bitcast_convert_type(magnitude | (words & jnp.uint32(0x80000000)), jnp.float32)
    return materialise(signed, divide_by=_polynomial(_Q, t))


def _polynomial(coefficients: tuple[float, ...], t: Array) -> Array:
    value = jnp.full_like(t, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * t + c
    return value
