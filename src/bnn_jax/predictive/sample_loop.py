"""The loop over the members of a prediction, for one chunk of examples."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax.noise import PRNGKey
from bnn_jax.predictive import running_sums
from bnn_jax.predictive.kinds import Data
from bnn_jax.predictive.members import Program
from bnn_jax.predictive.running_sums import Function, Known, Sums

Count = int | Array


@dataclasses.dataclass(frozen=True)
class SampleLoop:
    """The members of a prediction, computed one group after the other.

    Attributes:
        program, likelihood: those of the prediction.
        num_samples: the number of members of the prediction.
        stacked: whether the outputs of all members are kept.
    """

    program: Program
    likelihood: Known | Function
    num_samples: Count
    stacked: bool

    @property
    def sums(self) -> running_sums.RunningSums:
        return running_sums.of(self.likelihood)

    def run(
        self,
        groups: Count,
        key: PRNGKey,
        data: Data,
        x: PyTree,
        targets: Array | None,
        indices: Array,
        *,
        first: Array | None = None,
    ) -> tuple[Sums, PyTree]:
        """Returns the running sums over consecutive groups, and their outputs if they are kept.

        Args:
            groups: the number of groups; an int, or an array for one program that serves any number
                where outputs are not kept.
            key, data: those of the prediction.
            x, targets, indices: the examples, their targets and their positions in the data.
            first: the number of the first group; None for all groups. Members from `num_samples`
                on are left out.
        """
        program = self.program
        sampler = program.sampler(key, data, x, indices)

        def outputs_of(number: Array) -> tuple[PyTree, ...]:
            return sampler(number if first is None else first + number)

        def add(total: Sums, number: Array, group_outputs: tuple[PyTree, ...]) -> Sums:
            for i, outputs in enumerate(group_outputs):
                s = number * program.group_size + i
                added = self.sums.add(total, s, outputs, targets)
                if first is not None:
                    total = _where(first * program.group_size + s < self.num_samples, added, total)
                else:
                    # The last group may have more members than requested, and has at least one.
                    total = added if i == 0 else _where(s < self.num_samples, added, total)
            return total

        def add_group(number: Array, total: Sums) -> Sums:
            return add(total, number, outputs_of(number))

        def add_and_keep(total: Sums, number: Array) -> tuple[Sums, PyTree]:
            group_outputs = outputs_of(number)
            kept = jax.tree.map(lambda *a: jnp.stack(a), *group_outputs)
            return add(total, number, group_outputs), kept

        zero = self.sums.zero(jax.eval_shape(lambda: outputs_of(jnp.asarray(0))[0]), targets)
        if not self.stacked:
            return jax.lax.fori_loop(0, groups, add_group, zero), None
        total, kept = jax.lax.scan(add_and_keep, zero, jnp.arange(groups))
        return total, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), kept)


def number_of_groups(program: Program, num_samples: Count) -> Count:
    """Returns the number of groups for num_samples members."""
    return -(-num_samples // program.group_size)


def _where(condition: Array, this: PyTree, otherwise: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), this, otherwise)
