"""Ensemble: several runs of one method, from different initial weights, as one posterior.

    p(y | x, data)  is approximated by  (1 / size) sum_m  E_{w ~ q_m}[p(y | x, w)]

The members differ in their initial params, and in the noise of their steps; they see the same
batches. An ensemble of MAP estimates is a deep ensemble, one of SWAG is MultiSWAG.

On CPU the members are a loop that is unrolled in the compiled step, since `vmap` over the kernels
of a convolution is slow there; on accelerators they are one `vmap`.
On a mesh with the axis `samples`, each device trains its share of the members.

Source: Lakshminarayanan, Pritzel, Blundell 2017, "Simple and Scalable Predictive Uncertainty
Estimation using Deep Ensembles", arXiv:1612.01474; Wilson, Izmailov 2020, arXiv:2002.08791.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef
from jaxtyping import Array, PyTree

from bnn_jax import gaussian
from bnn_jax.devices import Placement, axis_size
from bnn_jax.infer.ensemble_state import Layout, State, stack
from bnn_jax.infer.method import Inference, Method
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import Mixture, Point, Posterior, Samples

Starts = Literal["redrawn", "same"] | Callable[[PRNGKey], PyTree]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Hyper-parameters of an ensemble.

    Attributes:
        method: of each member.
        size: number of members; a step costs as much as that many of one member.
        starts: the initial params of the members.
            "redrawn": each leaf whose elements differ is drawn from a normal distribution with the
                mean and standard deviation that its elements have; constant leaves, such as biases
                of zeros and scales of ones, stay. It needs nothing of the network, and suits
                networks that were initialised at random.
            "same": those of the problem, for pretrained networks.
            function: key -> params, such as lambda key: module.init(key, x)["params"].
        vectorized: whether members are one `vmap`; by default they are on accelerators only. A
            state cannot be resumed with another choice.
    """

    method: Method
    size: int = 5
    starts: Starts = "redrawn"
    vectorized: bool | None = None

    name: ClassVar[str] = "ensemble"

    def __post_init__(self) -> None:
        if isinstance(self.method, type) or not isinstance(self.method, Method):
            raise TypeError(
                "ensemble: method must be an inference method, such as infer.map(), got "
                f"{self.method!r}."
            )
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"ensemble: size must be an integer of at least 1, got {self.size!r}.")
        if self.starts not in ("redrawn", "same") and not callable(self.starts):
            raise ValueError(
                "ensemble: starts must be 'redrawn', 'same' or a function key -> params, got "
                f"{self.starts!r}."
            )

    @property
    def whole_data(self) -> bool:
        return self.method.whole_data

    def build(self, problem: Problem) -> Inference:
        member = self.method.build(dataclasses.replace(problem, placement=None))
        layout = self.layout(problem.placement)

        def init(key: PRNGKey) -> State:
            keys = jax.random.split(key, self.size)
            states = [self._start(problem, k, i) for i, k in enumerate(keys)]
            return layout.state(jnp.zeros((), jnp.int32), states)

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Any]:
            structures: list[tuple[PyTreeDef, PyTreeDef]] = []

            def one(member_state: object, index: Array | int) -> tuple[list[Array], list[Array]]:
                key = jax.random.fold_in(jax.random.clone(run_key), index)
                after, info = member.step(member_state, key, batch)
                structures.append((jax.tree.structure(after), jax.tree.structure(info)))
                return jax.tree.leaves(after), jax.tree.leaves(info)

            if layout.stacked:
                numbers = jnp.arange(self.size, dtype=jnp.uint32)
                members, infos = state.vmap(one, numbers, axis=layout.axis)
            else:
                results = [one(each, i) for i, each in enumerate(state.states())]
                after = structures[0][0]
                members = tuple(jax.tree.unflatten(after, leaves) for leaves, _ in results)
                infos = stack([info for _, info in results])
            info = jax.tree.unflatten(structures[0][1], [_mean(values) for values in infos])
            return State(state.step + 1, members, state.structure), info

        def posterior(state: State) -> Samples | Mixture:
            if layout.stacked:
                return _combine(state.vmap(member.posterior, axis=layout.axis))
            return _combine(stack([member.posterior(each) for each in state.states()]))

        def finish(state: State, batches: Callable[[], Iterable[Batch]]) -> State:
            assert member.finish is not None
            finished = [member.finish(each, batches) for each in state.states()]
            return layout.state(state.step, finished)

        def shapes() -> PyTree:
            assert member.shapes is not None
            return jax.eval_shape(lambda one: _combine(stack([one] * self.size)), member.shapes())

        return Inference(
            init,
            step,
            posterior,
            finish if member.finish else None,
            shapes=shapes if member.shapes else None,
            portable=layout.portable,
            resumed=layout.resumed,
        )

    def layout(self, placement: Placement | None) -> "Layout":
        """Returns how the members are held on one device or on a mesh.

        Raises:
            ValueError: the devices do not divide their number.
        """
        devices = 1 if placement is None else axis_size(placement.mesh, "samples")
        if self.size % devices:
            raise ValueError(
                f"ensemble: size must be a multiple of the {devices} devices along the axis "
                f"'samples' of the mesh, got {self.size}: use {-(-self.size // devices) * devices} "
                "members, or another mesh."
            )
        own = jax.default_backend() != "cpu" if self.vectorized is None else self.vectorized
        return Layout(own, placement if devices > 1 else None)

    def _start(self, problem: Problem, key: PRNGKey, index: int) -> PyTree:
        """Returns the initial state of a member."""
        params_key, init_key = jax.random.split(key)
        params = problem.params
        if callable(self.starts):
            params = self.starts(params_key)
            _check_structure(params, problem.params)
        elif self.starts == "redrawn":
            params = _redrawn(params_key, problem)
        model = problem.model
        own = dataclasses.replace(
            model,
            posterior=_around(model.posterior, params),
            variables=_with_own_streams(model.variables, index),
        )
        return self.method.build(dataclasses.replace(problem, model=own, placement=None)).init(
            init_key
        )


def _redrawn(key: PRNGKey, problem: Problem) -> PyTree:
    """Returns params whose trained leaves are redrawn, with each leaf's own mean and std."""

    def redraw(leaf: Array, random: bool, leaf_key: PRNGKey) -> Array:
        if not (random or problem.train_rest) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        drawn = jnp.mean(wide) + jnp.std(wide) * jax.random.normal(leaf_key, leaf.shape, wide.dtype)
        return jnp.where(jnp.all(leaf == leaf.ravel()[0]), leaf, drawn.astype(leaf.dtype))

    params = jax.tree.map(jnp.asarray, problem.params)
    return jax.tree.map(redraw, params, problem.is_random, gaussian.leaf_keys(key, params))


def _around(posterior: PyTree, params: PyTree) -> PyTree:
    """Returns the posterior with other means."""

    def around(leaf: PyTree, value: Array) -> PyTree:
        return dataclasses.replace(leaf, mean=value) if gaussian.is_gaussian(leaf) else value

    return jax.tree.map(around, posterior, params, is_leaf=gaussian.is_gaussian)


def _with_own_streams(variables: PyTree, index: int) -> PyTree:
    """Returns the variables of a member, whose random streams (of an NNX network) are its own."""

    def own(leaf: Array) -> Array:
        if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            return leaf
        return jax.random.fold_in(jax.random.clone(leaf), index)

    return jax.tree.map(own, variables)


def _check_structure(params: PyTree, expected: PyTree) -> None:
    found, wanted = (jax.tree.map(jnp.shape, tree) for tree in (params, expected))
    if found != wanted:
        raise ValueError(
            "ensemble: starts must return params with the structure and the shapes of the "
            f"network's; got {found}, and the network has {wanted}."
        )


def _combine(stacked: Posterior) -> Samples | Mixture:
    if isinstance(stacked, Point):
        return Samples(stacked.params, stacked.variables)
    return Mixture(stacked)


def _mean(values: Array) -> Array:
    """Returns the mean over the members; what is not a float, such as a count, is the first's."""
    return jnp.mean(values, axis=0) if jnp.issubdtype(values.dtype, jnp.floating) else values[0]
