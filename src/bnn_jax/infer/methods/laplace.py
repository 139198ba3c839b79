"""Laplace approximation: a Gaussian around the MAP estimate, as wide as the curvature says.

    q(w) = N(w_MAP, (G + prior precision)^-1),   G = sum_i J_i^T H_i J_i

Training is that of MAP. `finish` then adds up the generalised Gauss-Newton matrix G, in one pass
over the data, with the network in evaluation mode: in full for the last layer, its diagonal, or
Kronecker factors for the kernels of dense and convolutional layers, with the diagonal for biases
and every other weight (see `infer.curvature`). Weights that have no part of G, those of other
layers under "last_layer", stay at the MAP estimate. Batch statistics are computed again first.

Sources: MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks"; Immer, Korzepa,
Bauer 2021, arXiv:2008.08400 (generalised Gauss-Newton, linearised predictive); Daxberger et al.
2021, "Laplace Redux", arXiv:2106.14806 (last layer, choice of the prior).
"""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from bnn_jax._compiler import compiler_options
from bnn_jax.gaussian import Leaf, path_name
from bnn_jax.infer import laplace_factors
from bnn_jax.infer.current_variables import current_variables
from bnn_jax.infer.curvature import Curvature, curvature_of
from bnn_jax.infer.hyperparameters import check_flags, check_optimizer
from bnn_jax.infer.laplace_factors import PriorPrecision, prior_of
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.methods.map import MAP
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.interpreter.last_layer import last_layer
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import Laplace as LaplacePosterior
from bnn_jax.posteriors import Linearised, Point
from bnn_jax.priors import NormalPrior

Structure = Literal["last_layer", "diagonal", "kronecker"]
Predictive = Literal["linearised", "sampled"]

# Weights of the last layer above which its covariance, a square matrix, is refused.
MAX_LAST_LAYER = 16_384


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("trained", "factors", "precision", "log_evidence"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of the Laplace approximation.

    Attributes:
        trained: the state of MAP.
        factors: the factors of the covariance; None before `finish`, and so are the others.
        precision: {layer: prior precision}, its mean if it differs between weights.
        log_evidence: the approximate log marginal likelihood, in nats.
    """

    trained: PyTree
    factors: PyTree = None
    precision: PyTree = None
    log_evidence: Leaf = None

    @property
    def step(self) -> Leaf:
        return self.trained.step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Laplace:
    """Hyper-parameters of the Laplace approximation.

    Attributes:
        learning_rate: of Adam; decays to zero by a cosine over the run unless `constant` is set.
        constant: keep the learning rate constant.
        optimizer: any optax transformation, in place of Adam and its schedule.
        curvature: what is kept of G.
            "last_layer": all of G of the random weights of the last layer, with other weights
                fixed; for up to 16,384 weights, whose square is kept.
            "diagonal": the diagonal of G of all random weights.
            "kronecker": Kronecker factors of kernels, the diagonal of other random weights.
        prior_precision: of the posterior.
            "marginal_likelihood": for each layer the one with the largest marginal likelihood at
                the MAP estimate, which was trained with the model's prior.
            "prior": that of the model's prior, which must be a `NormalPrior`.
        predictive: how outputs are computed from a draw of the weights.
            "linearised": by the network that is linear in its weights about the MAP estimate, for
                which the curvature was computed. It is the better one where weights are many.
            "sampled": by the network itself.
    """

    learning_rate: float = 1e-3
    constant: bool = False
    optimizer: optax.GradientTransformation | None = None
    curvature: Structure = "last_layer"
    prior_precision: PriorPrecision = "marginal_likelihood"
    predictive: Predictive = "linearised"

    name: ClassVar[str] = "laplace"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self.name, learning_rate=self.learning_rate)
        check_flags(self.name, constant=self.constant)
        check_optimizer(self.name, self.optimizer)
        _check_choice("curvature", self.curvature, get_args(Structure))
        _check_choice("prior_precision", self.prior_precision, get_args(PriorPrecision))
        _check_choice("predictive", self.predictive, get_args(Predictive))

    def build(self, problem: Problem) -> Inference:
        trained = MAP(
            learning_rate=self.learning_rate, constant=self.constant, optimizer=self.optimizer
        ).build(problem)
        _check_prior(self, problem)
        # Before any step: the errors of an unsuitable network.
        known = None if problem.inputs is None else _curvature(self, problem, problem.inputs)

        def init(key: PRNGKey) -> State:
            return State(trained.init(key))

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
            after, info = trained.step(state.trained, run_key, batch)
            return dataclasses.replace(state, trained=after), info

        def posterior(state: State) -> Point | LaplacePosterior | Linearised:
            """The MAP estimate, if the state is not finished."""
            params, variables = state.trained.params, state.trained.variables
            if state.factors is None:
                return Point(params, variables)
            found = LaplacePosterior(params, state.factors, variables)
            return Linearised(found) if self.predictive == "linearised" else found

        def finish(state: State, batches: Callable[[], Iterable[Batch]]) -> State:
            params = state.trained.params
            variables = current_variables(problem, params, state.trained.variables, batches())
            curvature, totals = known, None
            for batch in batches():
                if curvature is None:
                    curvature = _curvature(self, problem, batch[0])
                if totals is None:
                    totals, add = curvature.zeros(), _jitted(curvature.add)
                totals = add(totals, params, variables, batch)
            if curvature is None or totals is None:
                raise ValueError("laplace: finish needs the training data, got no batches.")
            factors = _jitted(partial(laplace_factors.factors, curvature), static="prior_precision")
            found = factors(totals, params, prior_precision=self.prior_precision)
            return State(dataclasses.replace(state.trained, variables=variables), *found)

        def shapes() -> PyTree:
            if known is None:
                raise ValueError("laplace: the shapes of the posterior need Problem.inputs.")

            def finished(key: PRNGKey) -> LaplacePosterior | Linearised | Point:
                state = init(key)
                totals, params = known.zeros(), state.trained.params
                found = laplace_factors.factors(known, totals, params, self.prior_precision)
                return posterior(State(state.trained, *found))

            return jax.eval_shape(finished, jax.random.key(0))

        return Inference(init, step, posterior, finish, _diagnostics, shapes)


def _diagnostics(state: State) -> dict[str, float]:
    if state.log_evidence is None:
        return {}
    scales = {f"prior_std/{layer}": float(p) ** -0.5 for layer, p in state.precision.items()}
    return {"log_evidence": float(state.log_evidence), **scales}


def _jitted(function: Callable[..., Any], static: str | None = None) -> Callable[..., Any]:
    names = () if static is None else (static,)
    return jax.jit(function, static_argnames=names, compiler_options=compiler_options())


def _curvature(method: Laplace, problem: Problem, inputs: PyTree) -> Curvature:
    """Returns the empty sums of the curvature; refuses networks for which there are none."""
    random = _random_paths(problem)
    variables = problem.model.variables
    if method.curvature != "last_layer":
        return curvature_of(problem, method.curvature, random, variables, inputs)

    def call(params: PyTree, variables: PyTree, inputs: PyTree) -> PyTree:
        return problem.evaluate(params, variables, inputs)

    last = last_layer(call, problem.params, variables, (inputs,))
    paths = last & random
    if not paths:
        raise ValueError(
            f"laplace: no weight of the last layer ({', '.join(sorted(last))}) is random: make it "
            "random by to_bnn(..., where='last', inputs=(x,)), or use curvature='diagonal' or "
            "'kronecker'."
        )
    found = curvature_of(problem, "full", paths, variables, inputs)
    size = sum(int(np.prod(shape)) for shape in found.shapes.values())
    if size > MAX_LAST_LAYER:
        raise ValueError(
            f"laplace: the last layer has {size} random weights, and the full covariance is kept "
            f"for at most {MAX_LAST_LAYER}: use curvature='kronecker' or 'diagonal'."
        )
    return found


def _random_paths(problem: Problem) -> frozenset[str]:
    leaves = jax.tree_util.tree_leaves_with_path(problem.is_random)
    return frozenset(path_name(path) for path, random in leaves if random)


def _check_prior(method: Laplace, problem: Problem) -> None:
    paths = sorted(_random_paths(problem))
    if not paths:
        raise ValueError("laplace: no weight is random: choose some with to_bnn(..., where=...).")
    if method.prior_precision != "prior":
        return
    for path in paths:
        prior = prior_of(problem, path)
        if not isinstance(prior, NormalPrior):
            raise ValueError(
                f"laplace: prior_precision='prior' needs a NormalPrior, and that of {path} is a "
                f"{type(prior).__name__}: use prior_precision='marginal_likelihood'."
            )
        if method.curvature == "kronecker" and jnp.size(prior.std) != 1:
            raise ValueError(
                f"laplace: curvature='kronecker' needs one prior std for each weight array, and "
                f"that of {path} has {jnp.size(prior.std)}: use curvature='diagonal' or "
                "prior_precision='marginal_likelihood'."
            )


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"laplace: {name} must be one of {listed}, got {value!r}.")
