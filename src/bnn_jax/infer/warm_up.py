"""Stan's warm-up of Hamiltonian Monte Carlo: step size and diagonal mass matrix, by blackjax.

The step size is adapted by dual averaging towards an acceptance rate; the inverse mass matrix is
the variance of the weights in windows that double in length.

Source: Hoffman, Gelman 2014, arXiv:1111.4246, section 3.2; the Stan reference manual, "HMC
algorithm parameters".
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from bnn_jax._extras import optional_import

Weights = list[Array]


class WarmUp:
    """Stan's warm-up: dual averaging of the step size, windows for the mass matrix."""

    def __init__(self, steps: int, target_acceptance: float) -> None:
        with optional_import("infer.nuts and infer.hmc"):
            from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
            from blackjax.adaptation.step_size import dual_averaging_adaptation
            from blackjax.adaptation.window_adaptation import build_schedule

        self.warmup = steps
        with jax.numpy_dtype_promotion("standard"):
            self.stages = jnp.asarray(build_schedule(steps), jnp.int32)
        self.mass = mass_matrix_adaptation(True)
        self.size = dual_averaging_adaptation(target_acceptance)

    def init(self, weights: Weights) -> tuple[PyTree, PyTree, PyTree]:
        """Returns (state of the step size, state of the mass matrix, inverse mass matrix)."""
        dimensions = sum(w.size for w in weights)
        mass = self.mass[0](dimensions)
        return self.size[0](0.1), mass, jnp.ones(dimensions, jnp.float32)

    def values(self, adapted: tuple[PyTree, PyTree, PyTree]) -> tuple[Array, Array]:
        """Returns the step size and the inverse mass matrix of a transition."""
        return jnp.exp(adapted[0].log_step_size), adapted[2]

    def update(
        self,
        adapted: tuple[PyTree, PyTree, PyTree],
        step: Array,
        weights: Weights,
        acceptance: Float[Array, ""],
    ) -> tuple[PyTree, PyTree, PyTree]:
        """Returns the adaptation after a transition; nothing changes after the warm-up."""
        size, mass, inverse_mass = adapted
        slow, window_ends = self.stages[jnp.minimum(step, self.warmup - 1)]
        new_size = self.size[1](size, acceptance)
        new_mass = _where(slow == 1, self.mass[1](mass, weights), mass)
        ended = self.mass[2](new_mass)
        new_inverse = jnp.where(window_ends, ended.inverse_mass_matrix, inverse_mass)
        new_mass = _where(window_ends, ended, new_mass)
        restarted = self.size[0](self.size[2](new_size))
        new_size = _where(window_ends, restarted, new_size)
        # The last step of the warm-up fixes the average step size.
        final = new_size._replace(log_step_size=jnp.log(self.size[2](new_size)))
        new_size = _where(step == self.warmup - 1, final, new_size)
        return _where(step < self.warmup, (new_size, new_mass, new_inverse), adapted)


def _where(condition: Array, this: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(
        lambda a, b: jnp.where(condition, jnp.asarray(a, jnp.result_type(b)), b), this, other
    )


def strong(tree: PyTree) -> PyTree:
    """Returns the arrays without weak types, so that a step is compiled once."""
    return jax.tree.map(lambda a: jax.lax.convert_element_type(a, jnp.result_type(a)), tree)
