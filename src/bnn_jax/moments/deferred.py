"""Networks with operations that have no rule: moments up to them, samples after.

An operation without a rule is deferred, and so is all that depends on its result. Everything else
is computed once, as means and variances. A sample of the outputs then takes a draw of each value
that a deferred operation uses, and evaluates the deferred operations:

    weights                             a draw of the posterior, the same for all examples
    what has been computed as moments   a draw of independent normal variables
    views of either, elementwise
    functions and sums of them          the same function of the draw

So a value that enters deferred operations in several places is one draw in all of them. If the
first operation of a network has no rule, the samples are those of the posterior.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax import noise
from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.interpret import Cell, Rule, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation, bind
from bnn_jax.moments import rules
from bnn_jax.moments.errors import MomentsError, no_rule
from bnn_jax.moments.node import Node
from bnn_jax.moments.propagate import Traced, traced
from bnn_jax.moments.reductions import Reduced
from bnn_jax.moments.value import Moments, Origin
from bnn_jax.noise import Draw, PRNGKey

Cells = Sequence[Cell[PyTree]]


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """An operation, and the values of its arguments."""

    eqn: Equation
    arguments: tuple[PyTree, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Deferred:
    """The output of an operation, by its number, that has a value only in a sample."""

    call: Call
    index: int


@dataclasses.dataclass(frozen=True)
class PartialOutputs:
    """A network whose rules have been applied as far as there are any.

    Attributes:
        network: its jaxpr.
        outputs: for each output an array, a node, or `Deferred`.
        calls: the deferred operations in the network's order.
        errors: the operations without a rule.
    """

    network: Traced
    outputs: Sequence[PyTree]
    calls: Sequence[Call]
    errors: Sequence[MomentsError]

    def sample(self, draw: Draw, key: PRNGKey) -> PyTree:
        """Returns one draw of the network's outputs.

        Args:
            draw: the noise of the weights; its sign is also that of the noise of other values.
            key: gives the noise of all other values.
        """
        values = _Values(self, draw, key)
        for call in self.calls:
            values.run(call)
        return self.network.with_structure([values.of(output) for output in self.outputs])

    @property
    def sampled_weights(self) -> frozenset[str]:
        """The weights that some deferred operation uses, on which an output depends."""
        wanted = [x for x in self.outputs if isinstance(x, Deferred)]
        seen: set[int] = set()
        while wanted:
            value = wanted.pop()
            base = _base(value)
            base = base.call if isinstance(base, Deferred) else base
            if id(base) not in seen:
                seen.add(id(base))
                source = base.origin if isinstance(base, Moments) else base
                wanted += source.arguments if isinstance(source, Call | Origin) else ()
        cells = self.network.cells[: len(self.network.weights)]
        named = zip(self.network.weights, cells, strict=True)
        return frozenset(path for path, cell in named if id(_base(cell.value)) in seen)


def partial_outputs(
    model: object,
    posterior: PyTree,
    *inputs: PyTree,
    variables: PyTree = None,
    **kwargs: PyTree,
) -> PartialOutputs:
    """Returns the moments of a network as far as there are rules, from which outputs are drawn.

    Args:
        model, posterior, inputs, variables, kwargs: as in `moments.outputs`.
    """
    network = traced(model, posterior, inputs, variables, kwargs)
    deferral = _Deferral()
    cells = interpret(network.jaxpr, network.consts, network.cells, deferral.rules)
    outputs = [cell.value for cell in cells]
    return PartialOutputs(network, outputs, deferral.calls, deferral.errors)


class _Deferral:
    """The rules of `moments.rules`, with a record of what has none."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.errors: list[MomentsError] = []
        table = {name: self._or_deferred(rule) for name, rule in rules.RULES.table.items()}
        self.rules: Rules[PyTree] = dataclasses.replace(
            rules.RULES,
            default=self._or_deferred(lambda eqn, cells: None),
            table=table | dict.fromkeys(jaxprs.WRAPPERS, self._call),
            concerns=lambda cell: isinstance(cell.value, Deferred) or rules.is_uncertain(cell),
        )

    def _or_deferred(self, rule: Rule[PyTree]) -> Callable[[Equation, Cells], list[Cell[PyTree]]]:
        return partial(self._apply, rule)

    def _apply(self, rule: Rule[PyTree], eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
        if any(isinstance(cell.value, Deferred) for cell in cells):
            return self._deferred(eqn, cells)
        try:
            out = rule(eqn, cells)
        except MomentsError as error:
            out = None
            self.errors.append(error)
        else:
            if out is None:
                self.errors.append(no_rule(eqn))
        if out is None:
            return self._deferred(eqn, cells)
        return list(out)

    def _deferred(self, eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
        call = Call(eqn, tuple(cell.value for cell in cells))
        self.calls.append(call)
        return [Cell(Deferred(call, i)) for i in range(len(eqn.outvars))]

    def _call(self, eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
        """Step inside. An inner equation may not know its layer: the call does."""
        inner = jaxprs.called(eqn, jaxprs.WRAPPERS)
        assert inner is not None
        before = len(self.errors)
        out = interpret(*inner, cells, self.rules)
        self.errors[before:] = [error.at(eqn) for error in self.errors[before:]]
        return out


class _Values:
    """The values of one sample."""

    def __init__(self, moments: PartialOutputs, draw: Draw, key: PRNGKey) -> None:
        self.draw, self.key = draw, key
        self.results: dict[int, Sequence[Array]] = {}
        self.bases: dict[int, Array] = {}
        self.drawn = 0
        weights = len(moments.network.weights)
        self.weights = {
            id(_base(cell.value)): i for i, cell in enumerate(moments.network.cells[:weights])
        }

    def run(self, call: Call) -> Sequence[Array]:
        """Evaluates an operation, once."""
        if id(call) not in self.results:
            self.results[id(call)] = bind(call.eqn, [self.of(x) for x in call.arguments])
        return self.results[id(call)]

    def of(self, value: PyTree) -> PyTree:
        """Returns the value of an argument in this sample."""
        if isinstance(value, Deferred):
            return self.run(value.call)[value.index]
        if isinstance(value, Reduced):
            return value.at(self.of(value.of))
        if isinstance(value, Node):
            return value.at(self._of_base(value.base))
        return value

    def _of_base(self, base: Moments) -> Array:
        if id(base) not in self.bases:
            self.bases[id(base)] = self._normal(base) if base.origin is None else self._moved(base)
        return self.bases[id(base)]

    def _moved(self, base: Moments) -> Array:
        assert base.origin is not None
        return base.origin.function(*map(self.of, base.origin.arguments))

    def _normal(self, base: Moments) -> Array:
        if id(base) in self.weights:
            key = jax.random.fold_in(self.draw.key, self.weights[id(base)])
        else:
            key = jax.random.fold_in(self.key, self.drawn)
            self.drawn += 1
        return self.draw.shift(base.mean, base.std * noise.normal(key, base.shape, base.dtype))


def _base(value: PyTree) -> PyTree:
    """What a value is a function of: moments, a deferred value, or the value itself."""
    if isinstance(value, Reduced):
        return value.of.base
    return value.base if isinstance(value, Node) else value


@dataclasses.dataclass(frozen=True)
class Plan:
    """What each weight of a network gets under method="moments_then_samples".

    Attributes:
        weights: {path of a random weight: "moments" or "samples"}.
        without_rule: the operations without a rule, with their layers and lines.
    """

    weights: dict[str, str]
    without_rule: tuple[MomentsError, ...]

    def __str__(self) -> str:
        width = max(map(len, self.weights), default=0)
        lines = [f"{path:<{width}}  {how}" for path, how in self.weights.items()]
        places = [f" ({error.place})" if error.place else "" for error in self.without_rule]
        lines += [
            f"no rule: {error.operation}{place}"
            for error, place in zip(self.without_rule, places, strict=True)
        ]
        return "\n".join(lines)


def plan(
    model: object,
    posterior: PyTree,
    *inputs: PyTree,
    variables: PyTree = None,
    **kwargs: PyTree,
) -> Plan:
    """Returns which weights of a network are propagated as moments, and which are sampled.

    The network is traced, not computed. Without an operation that has no rule, all weights get
    moments, and method="moments" is the better choice: it draws nothing.

    Args:
        model, posterior, inputs, variables, kwargs: as in `moments.outputs`.
    """
    found: list[PartialOutputs] = []

    def trace(posterior: PyTree, variables: PyTree, *inputs: PyTree) -> Array:
        found.append(partial_outputs(model, posterior, *inputs, variables=variables, **kwargs))
        return jnp.zeros(())

    jax.eval_shape(trace, posterior, variables, *inputs)
    (moments,) = found
    sampled = moments.sampled_weights
    cells = moments.network.cells
    weights = {
        path: "samples" if path in sampled else "moments"
        for path, cell in zip(moments.network.weights, cells, strict=False)
        if rules.is_uncertain(cell)
    }
    return Plan(weights, tuple(moments.errors))
