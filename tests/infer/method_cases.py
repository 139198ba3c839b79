"""Problems with a known posterior, and the inference methods that must find it.

To test another method, add it to METHODS.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bnn_jax import NormalPrior, infer, to_bnn
from bnn_jax.infer import Problem
from bnn_jax.likelihoods import Bernoulli, Normal

NUM_DATA, BATCH, NOISE_STD, PRIOR_STD = 64, 16, 0.5, 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """A method, and how near it must come to the exact posterior.

    Attributes:
        method: with hyper-parameters for both problems.
        steps: number of steps.
        mean: bound on |mean - exact mean| in exact standard deviations.
        std: bounds on std / exact std; None for a method that has no std.
        tv: bound on the total variation of the predictive of logistic regression.
    """

    method: Any
    steps: int = 1000
    mean: float = 0.25
    std: tuple[float, float] | None = (0.85, 1.18)
    tv: float = 0.03


# The linear problem's posterior is normal, so Laplace is exact but for training.
_LAPLACE = infer.laplace(learning_rate=0.03, prior_precision="prior")
_BBB = infer.bayes_by_backprop(learning_rate=0.03)
_MAP = infer.map(learning_rate=0.03)
# The stationary covariance of SGD at this rate is that of the posterior of linear regression.
_SWAG = infer.swag(optimizer=optax.sgd(0.1), start=0.2, every=10, rank=20)

METHODS = {
    "map": Case(_MAP, std=None, tv=0.12),
    "bayes_by_backprop": Case(_BBB),
    "moments": Case(infer.bayes_by_backprop(learning_rate=0.03, estimator="moments")),
    "sticking_the_landing": Case(
        infer.bayes_by_backprop(learning_rate=0.03, sticking_the_landing=True)
    ),
    "ivon": Case(infer.ivon(learning_rate=0.03, beta2=0.997, hess_init=1.0), steps=2000, tv=0.05),
    "ivon_accumulated": Case(
        infer.ivon(learning_rate=0.06, beta2=0.99, num_samples=2, accumulate=2), tv=0.05
    ),
    "swag": Case(_SWAG, steps=2500, mean=0.4, std=(0.6, 1.6), tv=0.08),
    "laplace": Case(_LAPLACE, tv=0.05),
    "laplace_diagonal": Case(dataclasses.replace(_LAPLACE, curvature="diagonal"), tv=0.08),
    "laplace_kronecker": Case(dataclasses.replace(_LAPLACE, curvature="kronecker"), tv=0.08),
    "ensemble_of_laplace": Case(infer.ensemble(_LAPLACE, size=2), tv=0.05),
    "ensemble": Case(infer.ensemble(_MAP, size=3), std=None, tv=0.12),
    "ensemble_of_mean_field": Case(infer.ensemble(_BBB, size=2)),
    "multi_swag": Case(
        infer.ensemble(_SWAG, size=2, vectorized=True),
        steps=2500, mean=0.4, std=(0.6, 1.6), tv=0.08,
    ),
    "sgld": Case(
        infer.sgld(step_size=0.02, num_samples=500, exploration=0.2),
        steps=10_000, mean=0.4, std=(0.8, 1.25), tv=0.05,
    ),
    "sghmc": Case(
        infer.sghmc(step_size=0.005, friction=0.2, num_samples=500, exploration=0.2),
        steps=10_000, mean=0.4, std=(0.8, 1.25), tv=0.05,
    ),
    "cyclical_sghmc": Case(
        infer.sghmc(step_size=0.01, friction=0.2, num_samples=500, cycles=5, exploration=0.5),
        steps=20_000, mean=0.4, std=(0.75, 1.3), tv=0.05,
    ),
    "nuts": Case(infer.nuts(warmup=200, chains=2), steps=700, std=(0.85, 1.18)),
    "hmc": Case(infer.hmc(warmup=200, chains=2, leapfrogs=3), steps=700, std=(0.85, 1.18)),
}  # fmt: skip


@functools.cache
def linear_data() -> tuple[np.ndarray, np.ndarray]:
    """Inputs whose Gram matrix is NUM_DATA times the identity, so the posterior factorises."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(NUM_DATA, 4)))[0] * np.sqrt(NUM_DATA)
    y = x @ np.array([[0.4], [-0.3], [0.2], [0.4]]) + NOISE_STD * rng.normal(size=(NUM_DATA, 1))
    return x.astype(np.float32), y.astype(np.float32)


def linear_exact() -> tuple[np.ndarray, float]:
    """Returns the mean and the std of each weight: the closed form."""
    x, y = (a.astype(np.float64) for a in linear_data())
    precision = NUM_DATA / NOISE_STD**2 + 1 / PRIOR_STD**2
    return x.T @ y / NOISE_STD**2 / precision, precision**-0.5


def linear_problem(steps: int, noise_std: float = NOISE_STD, prior_std: float = PRIOR_STD) -> Any:
    def network(params: Any, x: Any) -> Any:
        return x @ params["w"]

    model = to_bnn(
        network, {"w": 0.1 * jnp.ones((4, 1))}, where="*", prior=NormalPrior(0.0, prior_std),
        initial_std=0.05, estimator="reparam",
    )  # fmt: skip
    return Problem(model, model.forward(), Normal(noise_std), NUM_DATA, steps)


@functools.cache
def logistic_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(NUM_DATA, 2))
    y = rng.random(NUM_DATA) < 1 / (1 + np.exp(-x @ np.array([1.5, -0.7])))
    return x.astype(np.float32), y.astype(np.float32)


def logistic_problem(steps: int) -> Any:
    def network(params: Any, x: Any) -> Any:
        return (x @ params["w"])[:, 0]

    model = to_bnn(
        network, {"w": jnp.asarray([[0.1], [0.2]])}, where="*", prior=NormalPrior(0.0, 1.0),
        initial_std=0.2, estimator="reparam",
    )  # fmt: skip
    return Problem(model, model.forward(), Bernoulli(), NUM_DATA, steps)


def logistic_exact(points: np.ndarray) -> np.ndarray:
    """Returns the predictive probability of class 1 at the points, by quadrature on a grid."""
    x, y = (a.astype(np.float64) for a in logistic_data())
    axis = np.linspace(-6, 6, 301)
    w = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    logits = w @ x.T
    log_p = (y * logits - np.logaddexp(0, logits)).sum(axis=1) - 0.5 * (w**2).sum(axis=1)
    weights = np.exp(log_p - log_p.max())
    return weights @ (1 / (1 + np.exp(-w @ points.T))) / weights.sum()


def fitted(method: Any, problem: Any, data: Any, seed: int = 0) -> Any:
    """Returns the posterior after problem.num_steps steps on random batches, one program."""
    run = method.build(problem)
    init_key, noise_key, order_key = jax.random.split(jax.random.key(seed), 3)
    x, y = jax.tree.map(jnp.asarray, data)
    size = len(x) if method.whole_data else BATCH
    # Epochs of shuffled batches.
    epochs = -(-problem.num_steps * size // len(x))
    orders = jax.vmap(lambda k: jax.random.permutation(k, len(x)))(
        jax.random.split(order_key, epochs)
    )
    batches = orders.reshape(-1, size)[: problem.num_steps]

    @jax.jit
    def train(state: Any) -> Any:
        def one(state: Any, rows: Any) -> Any:
            state, info = run.step(state, noise_key, (x[rows], y[rows]))
            return state, info.loss

        return lax.scan(one, state, batches)

    state, losses = train(run.init(init_key))
    assert np.all(np.isfinite(losses))
    if run.finish is not None:
        state = run.finish(state, lambda: [(x, y)])
    return run.posterior(state)


def draws(posterior: Any, number: int = 2000) -> np.ndarray:
    keys = jax.random.split(jax.random.key(7), number)
    return np.asarray(jax.jit(jax.vmap(posterior.sample))(keys)["w"], np.float64)
