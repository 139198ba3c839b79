"""The distribution of the noise, for each generator.

Bounds are five standard errors of the statistic under the exact distribution, unless stated.
"""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy import special, stats

from bnn_jax import noise

OWN = ["threefry", "threefry13", "hash", "rbg"]
MOMENTS = {1: 0.0, 2: 1.0, 3: 0.0, 4: 3.0, 5: 0.0, 6: 15.0}


def draw(name: str, shape: tuple[int, ...], *, seed: int = 0, dtype: Any = jnp.float32) -> Any:
    with noise.generator(name):
        return np.asarray(jax.jit(lambda k: noise.normal(k, shape, dtype))(jax.random.key(seed)))


def double_factorial(n: int) -> float:
    return math.prod(range(n, 0, -2)) if n > 0 else 1.0


def assert_standard_normal(z: np.ndarray) -> None:
    """Moments to order 6, Kolmogorov-Smirnov, and counts in the tails."""
    z = np.sort(z.astype(np.float64).ravel())
    n = len(z)
    for order, exact in MOMENTS.items():
        error = math.sqrt((double_factorial(2 * order - 1) - exact**2) / n)
        assert abs(np.mean(z**order) - exact) < 5 * error, order
    # P(sup > 3 / sqrt(n)) is 3e-8. The grid's own step is far below that.
    grid = np.arange(1, n + 1) / n
    cdf = special.ndtr(z)
    distance = max(np.max(grid - cdf), np.max(cdf - grid + 1 / n))
    assert distance < 3.0 / math.sqrt(n)
    for sigma in (1.0, 2.0, 3.0, 4.0, 5.0):
        p = stats.norm.sf(sigma)
        for count in (np.sum(z > sigma), np.sum(z < -sigma)):
            low, high = stats.binom.ppf([3e-7, 1 - 3e-7], n, p)
            assert low <= count <= high, sigma


@pytest.mark.parametrize("name", OWN)
def test_draws_are_standard_normal(name: str) -> None:
    assert_standard_normal(draw(name, (1000, 500)))


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_ten_million_draws_are_standard_normal(name: str) -> None:
    for seed in range(2):
        assert_standard_normal(draw(name, (10_000, 1_000), seed=seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_a_thousand_million_draws_have_the_right_tails(name: str) -> None:
    """Beyond 5 and 6 standard deviations, where 574 and 2 of 10^9 draws should be."""
    counts = np.zeros(4)
    for seed in range(100):
        z = draw(name, (10_000_000,), seed=seed)
        counts += [np.sum(z > 5), np.sum(z < -5), np.sum(z > 6), np.sum(z < -6)]
    for count, sigma in zip(counts, (5, 5, 6, 6), strict=True):
        low, high = stats.poisson.ppf([3e-7, 1 - 3e-7], 1e9 * stats.norm.sf(sigma))
        assert low <= count <= high, (sigma, counts)


def correlations(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Of values and of their squares, in standard errors."""
    n = a.size
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return [
        float(np.mean(a * b)) * math.sqrt(n),
        float(np.mean((a**2 - 1) * (b**2 - 1))) / 2 * math.sqrt(n),
    ]


@pytest.mark.parametrize("name", OWN)
def test_keys_steps_leaves_and_positions_are_independent(name: str) -> None:
    shape = (512, 256)
    run = jax.random.key(7)

    program = jax.jit(lambda key: noise.normal(key, shape))

    def of(key: Any) -> np.ndarray:
        with noise.generator(name):
            return np.asarray(program(key))

    streams = {
        "key 0": of(jax.random.key(0)),
        "key 1": of(jax.random.key(1)),
        "key 2**31": of(jax.random.key(2**31)),
        **{f"step {i}": of(jax.random.fold_in(run, i)) for i in range(4)},
        **{
            f"step 0, leaf {i}": of(jax.random.fold_in(jax.random.fold_in(run, 0), i))
            for i in range(3)
        },
        **{f"split {i}": of(k) for i, k in enumerate(jax.random.split(jax.random.key(8), 3))},
    }
    for one, other in combinations(streams, 2):
        assert np.abs(correlations(streams[one], streams[other])).max() < 5.5, (one, other)
    for name_of, z in streams.items():
        flat = z.ravel()
        for lag in (1, 2, 3, 4, 8, 16, 32, 255, 256, 257, 1024, 4096, 65536):
            assert np.abs(correlations(flat[:-lag], flat[lag:])).max() < 5.5, (name_of, lag)


@pytest.mark.parametrize("name", OWN)
def test_bits_are_balanced_and_independent(name: str) -> None:
    """Each of the 32 bits, and each pair of them, and each bit with its next word's."""
    with noise.generator(name):
        program = jax.jit(lambda key: noise.GENERATORS[name](key, (200_000,)))
        words = np.asarray(program(jax.random.key(3)))
    bits = ((words[:, None] >> np.arange(32, dtype=np.uint32)) & 1).astype(np.float64) * 2 - 1
    n = len(bits)
    assert np.abs(bits.mean(axis=0)).max() * math.sqrt(n) < 5
    within = bits.T @ bits / n - np.eye(32)
    assert np.abs(within).max() * math.sqrt(n) < 5.5
    assert np.abs(bits[1:].T @ bits[:-1] / n).max() * math.sqrt(n) < 5.5


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("position", [0, 31, 40])
def test_a_flipped_bit_of_the_key_flips_half_of_the_bits(name: str, position: int) -> None:
    data = np.asarray([0x12345678, 0x9ABCDEF0], np.uint32)
    flipped = data.copy()
    flipped[position // 32] ^= np.uint32(1 << (position % 32))
    program = jax.jit(lambda d: noise.GENERATORS[name](jax.random.wrap_key_data(d), (10_000,)))
    words = [np.asarray(program(d)) for d in (data, flipped)]
    share = np.unpackbits((words[0] ^ words[1]).view(np.uint8)).mean()
    assert abs(share - 0.5) * 2 * math.sqrt(320_000) < 5


def test_the_inverse_is_right_to_the_ends() -> None:
    """At the smallest and largest magnitudes, at every power of two, and in between."""
    powers = [2**i + d for i in range(31) for d in (-1, 0, 1)]
    magnitudes = np.unique(
        np.concatenate([powers, [2**31 - 2, 2**31 - 1], np.linspace(0, 2**31 - 1, 100_000)])
    ).astype(np.int64)
    magnitudes = magnitudes[(magnitudes >= 0) & (magnitudes < 2**31)]
    normal_of = jax.jit(noise.normal_of)
    exact = special.ndtri_exp(np.log((magnitudes + 0.5) * 2.0**-32))
    for sign in (0, 1):
        words = (magnitudes + sign * 2**31).astype(np.uint32)
        got = np.asarray(normal_of(jnp.asarray(words)), np.float64)
        assert np.isfinite(got).all()
        wanted = exact if sign else -exact
        assert np.abs(got - wanted).max() < 4e-6
        assert (got[wanted != 0] * wanted[wanted != 0] >= 0).all()
    assert np.abs(got).max() == pytest.approx(6.338, abs=1e-3)


def test_threefry_is_the_cipher() -> None:
    """Against jax.random's own, with the key's words and the counter as its input."""
    from jax.extend.random import threefry_2x32

    key = jax.random.key(11)
    words = jax.random.bits(jax.random.clone(key), (2,), jnp.uint32)
    # Its own counts run through both halves: first the high words, then the low ones.
    count = jnp.concatenate([jnp.zeros(1000, jnp.uint32), jnp.arange(1000, dtype=jnp.uint32)])
    both = np.asarray(threefry_2x32(words, count))
    got = np.asarray(noise.GENERATORS["threefry"](key, (10, 100))).ravel()
    np.testing.assert_array_equal(got, both[:1000] ^ both[1000:])


@pytest.mark.parametrize(
    ("rounds", "counter", "key", "wanted"),
    [
        (13, 0, (0, 0), 0x9D1C5EC6 ^ 0x8BD50731),
        (20, 0, (0, 0), 0x6B200159 ^ 0x99BA4EFE),
    ],
)
def test_known_answers(rounds: int, counter: int, key: tuple[int, int], wanted: int) -> None:
    """The known answers that Salmon et al. publish with their Random123."""
    counters = jnp.full((1,), counter, jnp.uint32)
    got = noise.threefry_words(jnp.asarray(key, jnp.uint32), counters, rounds)
    assert int(got[0]) == wanted


def test_hash_is_its_formula() -> None:
    key = jax.random.key(5)
    first, second = (
        int(w) for w in np.asarray(jax.random.bits(jax.random.clone(key), (2,), jnp.uint32))
    )

    def lowbias32(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
        x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
        return x ^ (x >> 16)

    wanted = [lowbias32(lowbias32(i ^ first) ^ second) for i in range(12)]
    assert np.asarray(noise.GENERATORS["hash"](key, (3, 4))).ravel().tolist() == wanted


@pytest.mark.parametrize("name", list(noise.GENERATORS))
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_signs_are_fair_and_independent(name: str, dtype: Any) -> None:
    with noise.generator(name):
        program = jax.jit(lambda key: noise.signs(key, (300, 101), dtype))
        s = np.asarray(program(jax.random.key(1))).astype(np.float64)
    assert set(np.unique(s)) == {-1.0, 1.0}
    n = s.size
    assert abs(s.mean()) * math.sqrt(n) < 5
    flat = s.ravel()
    for lag in (1, 2, 31, 32, 33, 64, 101):
        assert abs(np.mean(flat[:-lag] * flat[lag:])) * math.sqrt(n) < 5


@pytest.mark.parametrize("name", OWN)
def test_shapes_and_transformations(name: str) -> None:
    with noise.generator(name):

        @jax.jit
        def draws(key: Any, keys: Any) -> Any:
            shapes = (), (3, 0), (24,), (2, 1, 3, 4)
            of_shapes = [noise.normal(jax.random.clone(key), shape) for shape in shapes]
            one_by_one = jnp.stack([noise.normal(k, (4,)) for k in jax.random.clone(keys)])
            at_once = jax.vmap(lambda k: noise.normal(k, (4,)))(keys)
            return of_shapes, noise.signs(jax.random.clone(key), ()), one_by_one, at_once

        keys = jax.random.split(jax.random.key(3), 5)
        (number, empty, flat, shaped), sign, one_by_one, at_once = draws(jax.random.key(2), keys)
        assert number.shape == sign.shape == ()
        assert empty.shape == (3, 0)
        if name != "rbg":
            np.testing.assert_array_equal(np.asarray(shaped).ravel(), flat)
        if name != "rbg":  # whose vmapped draws are others, of the same distribution
            np.testing.assert_allclose(at_once, one_by_one, rtol=1e-6)
        assert at_once.shape == one_by_one.shape


def test_half_precision_is_float32_rounded() -> None:
    wide = draw("threefry", (1000,))
    np.testing.assert_array_equal(
        draw("threefry", (1000,), dtype=jnp.bfloat16), wide.astype(jnp.bfloat16)
    )


def test_a_generator_is_chosen_where_the_code_is_traced() -> None:
    def call(key: Any) -> Any:
        return noise.normal(key, (3,))

    jitted: Callable[[Any], Any] = jax.jit(call)
    found = {}
    for name in noise.GENERATORS:
        with noise.generator(name):
            assert noise.generator_in_use() == name
            found[name] = np.asarray(jitted(jax.random.key(0))).tolist()
    assert len({str(v) for v in found.values()}) == len(noise.GENERATORS)
    expected = jax.random.normal(jax.random.key(0), (3,))
    np.testing.assert_allclose(found["jax"], expected, rtol=1e-6)
    default = np.asarray(jitted(jax.random.key(0))).tolist()
    assert default == found[noise.generator_in_use()]
    with noise.generator("hash"), noise.generator(None):
        assert noise.generator_in_use() == (
            "threefry13" if jax.default_backend() == "cpu" else "rbg"
        )


def test_an_unknown_generator_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"rbg, hash, jax; got 'three'. Did you mean"):
        noise.check_generator("three")
    with pytest.raises(ValueError, match="got 'lcg'"), noise.generator("lcg"):
        pass


@pytest.mark.parametrize("name", ["threefry13", "rbg", "jax"])
def test_a_shape_with_symbolic_sizes_has_the_same_bits(name: str) -> None:
    def draws(key_data: Any, x: Any, y: Any) -> Any:
        key = jax.random.wrap_key_data(key_data)
        with noise.generator(name):
            shape = (2, x.shape[0], y.shape[0])
            return noise.normal(key, shape), noise.signs(jax.random.fold_in(key, 1), shape)

    rows, columns = export.symbolic_shape("rows, columns")
    words = jax.random.key_data(jax.random.key(4))
    float32 = jnp.dtype("float32")
    sizes = [jax.ShapeDtypeStruct((n,), float32) for n in (rows, columns)]
    exported = export.export(jax.jit(draws))(words, *sizes)
    for n, m in ((1, 3), (5, 7)):
        x, y = jnp.zeros(n), jnp.zeros(m)
        for got, expected in zip(
            exported.call(words, x, y), jax.jit(draws)(words, x, y), strict=True
        ):
            np.testing.assert_array_equal(got, expected)
