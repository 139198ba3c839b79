"""A small network with its flat generalised Gauss-Newton matrix, for the tests of Laplace."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from bnn_jax import NormalPrior, likelihoods, posteriors, to_bnn
from bnn_jax.infer import Problem
from bnn_jax.infer.curvature import curvature_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype(np.float32)
NOISE, PRIOR = 0.4, 0.7

# (likelihood, outputs, targets)
LIKELIHOODS: dict[str, tuple[Any, int, np.ndarray]] = {
    "categorical": (likelihoods.Categorical(), 3, np.arange(12, dtype=np.int32) % 3),
    "bernoulli": (likelihoods.Bernoulli(), 1, np.arange(12, dtype=np.float32)[:, None] % 2),
    "normal": (likelihoods.Normal(NOISE), 2, RNG.normal(size=(12, 2)).astype(np.float32)),
    "learned_noise": (likelihoods.Normal(), 2, RNG.normal(size=(12, 1)).astype(np.float32)),
    "poisson": (likelihoods.Poisson(), 1, np.arange(12, dtype=np.float32)[:, None] % 5),
    "student_t": (likelihoods.StudentT(4.0, 0.5), 2, RNG.normal(size=(12, 2)).astype(np.float32)),
}


class Network(nn.Module):
    """A convolution, a product with positions, and two dense layers."""

    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = jnp.tanh(nn.Conv(2, (2,), name="conv")(x[..., None]))
        h = jnp.tanh(nn.Dense(2, name="shared")(h))
        h = jnp.tanh(nn.Dense(3, name="hidden")(h.reshape(x.shape[0], -1)))
        return nn.Dense(self.outputs, name="last")(h)


@functools.cache
def problem(
    name: str = "categorical", examples: int = 12, prior: Any = None, last_only: bool = False
) -> Problem:
    likelihood, outputs, _ = LIKELIHOODS[name]
    network = Network(outputs)
    variables = network.init(jax.random.key(1), X)
    prior = NormalPrior(std=PRIOR) if prior is None else prior
    where: dict[str, Any] = {"where": "last", "inputs": (X,)} if last_only else {"where": "*"}
    model = to_bnn(network, variables, prior=prior, **where)
    return Problem(model, model.forward(), likelihood, examples, 10)


def whole(name: str, examples: int = 12) -> Any:
    return jnp.asarray(X[:examples]), jnp.asarray(LIKELIHOODS[name][2][:examples])


def batches(name: str, examples: int = 12) -> list[Any]:
    x, y = whole(name, examples)
    return [(x[:6], y[:6]), (x[6:], y[6:])] if examples > 6 else [(x, y)]


def finished(method: Any, of: Problem, data: list[Any], params: Any = None) -> Any:
    """Returns the finished state at given params."""
    run = method.build(of)
    state = run.init(jax.random.key(0))
    if params is not None:
        trained = dataclasses.replace(state.trained, params=params)
        state = dataclasses.replace(state, trained=trained)
    assert run.finish is not None
    state = run.finish(state, lambda: data)
    return state, run.posterior(state)


def covariance(posterior: Any) -> np.ndarray:
    """The covariance that the factors say, by their linear maps; leaves in tree order."""
    weights = posterior.weights if isinstance(posterior, posteriors.Linearised) else posterior
    size = len(ravel_pytree(weights.centre)[0])
    names = dict(paths_and_places(weights.centre))
    total = np.zeros((size, size))
    for factor in weights.factors:
        places = np.concatenate([names[path] for path in factor.paths])
        if isinstance(factor, posteriors.laplace.Full):
            block = factor.root @ factor.root.T
        elif isinstance(factor, posteriors.laplace.Diagonal):
            block = jnp.diag(jnp.ravel(factor.std) ** 2)
        else:
            root = jnp.kron(factor.left, factor.right) * jnp.ravel(factor.std)[None, :]
            shape = [weights_shape(weights.centre, factor.paths[0])[a] for a in factor.axes]
            order = np.arange(len(places)).reshape(shape).transpose(np.argsort(factor.axes))
            block = (root @ root.T)[np.ix_(order.ravel(), order.ravel())]
        total[np.ix_(places, places)] = block
    return total


def paths_and_places(tree: Any) -> list[tuple[str, np.ndarray]]:
    found, start = [], 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found.append((name, np.arange(start, start + leaf.size)))
        start += leaf.size
    return found


def weights_shape(tree: Any, name: str) -> tuple[int, ...]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    shapes = {jax.tree_util.keystr(p, simple=True, separator="/"): v.shape for p, v in leaves}
    return shapes[name]


@functools.cache
def flat_ggn(name: str, examples: int = 12) -> np.ndarray:
    """The GGN of all weights, from the Jacobian of each example and the Hessian of the nll."""
    of = problem(name)
    flat, restore = ravel_pytree(of.params)

    @jax.jit
    @jax.vmap
    def parts(x: Any, y: Any) -> Any:
        def outputs(w: Any) -> Any:
            return of.model.network.call(restore(w), {}, x[None])

        out = outputs(flat)
        hessian = jax.hessian(lambda out: of.likelihood.nll(out, y[None]))(out)
        size = out.size
        return jax.jacrev(outputs)(flat).reshape(size, -1), hessian.reshape(size, size)

    found = parts(*whole(name, examples))
    jacobians, hessians = (np.asarray(a, np.float64) for a in found)
    values, vectors = np.linalg.eigh(hessians)
    positive = np.maximum(values, 0.0)
    return np.einsum(
        "nci,ncd,nd,ned,nej->ij", jacobians, vectors, positive, vectors, jacobians, optimize=True
    )


def inverse(matrix: np.ndarray, precision: float = PRIOR**-2) -> np.ndarray:
    return np.linalg.inv(matrix + precision * np.eye(len(matrix)))


def all_paths(of: Problem) -> list[str]:
    return [path for path, _ in paths_and_places(of.params)]


def summed(of: Problem, kind: Any, data: list[Any], paths: Any = None) -> tuple[Any, Any]:
    """Returns the curvature and its sums over batches, as `finish` adds them up."""
    sums = curvature_of(of, kind, frozenset(paths or all_paths(of)), {}, data[0][0])
    add, totals = jax.jit(sums.add), sums.zeros()
    for batch in data:
        totals = add(totals, of.params, {}, batch)
    return sums, totals
