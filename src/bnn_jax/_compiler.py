"""Workarounds for XLA on CPU, each with its reason and its measurement.

    compiler_options      vectors of 512 bits
    store                 stores an array that several operations use
    materialise           stores the result of an expression that several operations use
    recompute_softplus    a softplus that XLA does not merge with `softplus`
    softplus              a softplus without branches
    wait_for              gradients that wait for a value, so the posterior is updated in place
    false_at_run_time     a False that XLA does not know, so a sum is not fused with its uses
    one_program           a function that is one program when it is called outside of jit

`tests/core/test_compiler.py` compiles or times a small program with and without each of them; a
test that fails there says that the workaround is no longer needed. Those that time are slow tests.
docs/performance.md has the machine of the times, and W2, an MLP 784-1200-1200-10.
"""

import os
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

Tree = TypeVar("Tree")

_WIDTH = "xla_cpu_prefer_vector_width"


def compiler_options() -> dict[str, int]:
    """Returns options of `jax.jit` that make XLA use vectors of 512 bits on CPU.

    Empty on other backends, and where XLA_FLAGS sets the width.

        step = jax.jit(step, donate_argnums=0, compiler_options=compiler_options())

    Reason: XLA on CPU uses vectors of 256 bits by default, also where the machine has 512.
    Measured: a normal draw takes 0.83 ns instead of 1.50; a training step of W2 takes 1.3 times the
    plain network's instead of 2.3. There is no difference on a machine without AVX-512.
    """
    if jax.default_backend() != "cpu" or _WIDTH in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {_WIDTH: 512}


def materialise(
    numerator: Num[Array, "..."] | int, *, divide_by: Num[Array, "..."]
) -> Float[Array, "..."]:
    """Returns numerator / divide_by, which XLA on CPU stores in memory.

    Reason: XLA on CPU computes a cheap elementwise expression again in each operation that uses it,
    together with all that it depends on; the result of a division counts as expensive and is
    stored. So an expression that several operations use should end in a division.
    Measured: part of the 0.83 ns of a normal draw, instead of 3.7 ns for `jax.random.normal`.
    """
    return numerator / divide_by


def store(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x, which XLA on CPU stores in memory: x / 1, with a 1 that XLA does not know.

    Reason: as for `materialise`. An activation is used by a convolution, by the derivative of its
    kernel, which reads it transposed, and by the derivative of what comes before. XLA computes it
    for each of them again, together with the batch normalizations that it depends on. An
    `optimization_barrier` around x itself is removed before operations are fused.
    Measured: a training step of the plain ResNet-20 takes 0.71 of the time.
    """
    return materialise(x, divide_by=jax.lax.optimization_barrier(jnp.ones((), x.dtype)))


def wait_for(value: Float[Array, ""], tree: Tree) -> Tree:
    """Returns the tree, each array divided by a one that XLA knows only once it has the value.

    Reason: the value is computed from the posterior that the tree is about to update. If the update
    does not depend on it, XLA may compute the value last, and copies the whole posterior first.
    The arrays are stored as well, see `materialise`: an optimizer uses each gradient several times.
    Measured: a step of one 256 x 256 weight accesses 8.8 MB instead of 9.8, which included a copy
    of mean and rho.
    """
    one = 1.0 + jnp.where(jnp.isfinite(value), 0.0 * value, 0.0)
    return jax.tree.map(lambda x: materialise(x, divide_by=one.astype(x.dtype)), tree)


# Reason: outside of jit, XLA compiles each operation for each shape; the noise of a weight has some
# thirty. Inside jit, `inline` leaves the traced program as it is without the decorator.
# Measured: the first `model.apply` of an MLP with two hidden layers compiles 25 programs, not 124.
one_program = partial(jax.jit, inline=True)


def false_at_run_time(index: Int[Array, ""]) -> Bool[Array, ""]:
    """Returns False for any index that is at least 0, computed where the program runs.

    With the sign `jnp.where(false_at_run_time(i), -1, 1)` a draw is mean + deviation.

    Reason: XLA on CPU fuses a plain sum of a weight's mean and noise with the matrix products that
    use it, splits the draws among them, and computes their bits twice.
    Measured: 8 samples of a 64 x 64 weight with 1,000 examples take 8.8 Mflop instead of 9.2.
    """
    return index < 0


# log(1 + e) / e for 0 <= e <= 1, by least squares of the largest relative error: 3e-8.
_LOG1P = (
    0.9999999698819679,
    -0.4999949314926669,
    0.33319096896927647,
    -0.24842982586251025,
    0.19106007426455662,
    -0.1366324604265276,
    0.07822594431907273,
    -0.029505228912473966,
    0.005232690695210464,
)


@jax.custom_jvp
def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns log(1 + exp(x)), for float32 by a polynomial, with a relative error below 3e-7.

    Reason: XLA computes log1p with branches, which on CPU takes longer than all other parts of a
    weight's std.
    """
    return _softplus(x, recompute=False)


@jax.custom_jvp
def recompute_softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns softplus(x), computed by operations that XLA does not merge with those of `softplus`.

    Reason: the std is used in the forward pass and again in the KL divergence. XLA on CPU merges
    equal operations and keeps their exponentials in between, an array as large as the weights.
    Measured: value and gradient for one 256 x 256 weight access 8.98 MB instead of 9.24.
    """
    return _softplus(x, recompute=True)


@partial(one_program, static_argnames="recompute")
def _softplus(x: Array, *, recompute: bool) -> Array:
    if x.dtype != jnp.float32:
        return jax.nn.softplus(x)
    e = jnp.exp(jnp.minimum(x, -x) if recompute else -jnp.abs(x))
    ratio = jnp.full_like(e, _LOG1P[-1])
    for coefficient in reversed(_LOG1P[:-1]):
        ratio = ratio * e + coefficient
    return jnp.maximum(x, 0.0) + e * ratio


softplus.defjvp(lambda at, towards: (softplus(*at), jax.nn.sigmoid(*at) * towards[0]))
recompute_softplus.defjvp(
    lambda at, towards: (recompute_softplus(*at), jax.nn.sigmoid(*at) * towards[0])
)
