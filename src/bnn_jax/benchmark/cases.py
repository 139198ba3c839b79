"""The cases of a workload: a compiled training step, epoch or prediction.

The plain network is trained with the data loss alone, with the same optimizer, batch and donated
buffers. A case keeps its state between calls.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import TypedDict

import jax
import jax.numpy as jnp
import optax
from jax import Array, stages
from jax.typing import DTypeLike
from jaxtyping import PyTree

from bnn_jax import gaussian, likelihoods, to_bnn, train
from bnn_jax._compiler import compiler_options
from bnn_jax.benchmark.workloads import Workload, labels
from bnn_jax.fitting.loop import Loop, Step
from bnn_jax.predictive.posterior_predictive import predict as predict
from bnn_jax.transforms import BayesianModel

NUM_DATA = 60_000


class _Factors(TypedDict, total=False):
    num_data: int
    dnn_factor: float
    bnn_factor: float


@dataclasses.dataclass
class Case:
    """A compiled program with its arguments.

    Attributes:
        call: runs the program once.
        compile_seconds: the time to trace and compile; for an epoch or a prediction it includes the
            first run.
        facts: the numbers of weight samples, of examples and of steps between values of the KL.
        cost: XLA's count of flops, of bytes read and written, and of bytes of temporary buffers.
            Empty for loops, whose body XLA counts once.
    """

    call: Callable[[], object]
    compile_seconds: float
    facts: dict[str, int]
    cost: dict[str, float] = dataclasses.field(default_factory=dict)


def train_step(
    workload: Workload,
    estimator: str | None,
    *,
    dtype: DTypeLike,
    samples: int = 1,
    kl_every: int = 10,
) -> Case:
    """A training step with Adam; estimator None is the plain network."""
    step, state = _training(workload, estimator, dtype, samples, kl_every)
    batch = _batch(workload, workload.batch, dtype)
    key = jax.random.key(0)
    program, seconds = _compiled(step, state, key, batch, donate_argnums=(0,))

    def call() -> object:
        nonlocal state
        state, info = program(state, key, batch)
        return info.nll

    facts = {"samples": samples, "examples": workload.batch, "kl_every": kl_every}
    return Case(call, seconds, facts, _cost(program))


def epoch(
    workload: Workload,
    estimator: str | None,
    *,
    dtype: DTypeLike,
    steps: int,
    steps_per_call: int,
    kl_every: int = 10,
) -> Case:
    """An epoch of the training loop, which gathers batches in the compiled program."""
    step, state = _training(workload, estimator, dtype, samples=1, kl_every=kl_every)
    loop = Loop(
        step=step,
        examples=_batch(workload, steps * workload.batch, dtype),
        augment=None,
        run_key=jax.random.key(0),
        order_key=jax.random.key(4),
        batch_size=workload.batch,
        epochs=1,
        steps_per_call=steps_per_call,
    )
    totals = loop.no_totals(state)

    def call() -> object:
        nonlocal state, totals
        order = loop.order(0)
        for _ in range(0, steps, steps_per_call):
            state, totals = loop.call(
                state, totals, order, loop.examples, loop.run_key, count=steps_per_call
            )
        return totals.info.loss

    started = time.perf_counter()
    jax.block_until_ready(call())
    facts = {"samples": 1, "examples": steps * workload.batch, "kl_every": kl_every}
    return Case(call, time.perf_counter() - started, facts)


def _training(
    workload: Workload, estimator: str | None, dtype: DTypeLike, samples: int, kl_every: int
) -> tuple[Step, train.State]:
    """Returns a step with Adam and the initial state."""
    model = _model(workload, estimator, dtype)
    optimizer = optax.adam(1e-3)
    forward, posterior = model.forward(**workload.train_options), model.posterior
    factors: _Factors = {"num_data": NUM_DATA}
    if estimator is None:
        posterior = gaussian.mean(posterior)
        factors = {"dnn_factor": 1.0, "bnn_factor": 0.0}
    step = train.build_step(
        forward,
        likelihoods.Categorical().nll,
        optimizer,
        model.prior,
        num_samples=samples,
        kl_every=kl_every,
        **factors,
    )
    return step, train.init(posterior, optimizer, variables=model.variables)


def prediction(
    workload: Workload, *, dtype: DTypeLike, samples: int, examples: int, antithetic: bool = False
) -> Case:
    """A prediction by `predict`."""
    model = _model(workload, "reparam", dtype)
    inputs, _ = _batch(workload, examples, dtype)
    key = jax.random.key(0)

    def call() -> object:
        return predict(
            key,
            model,
            inputs,
            samples,
            likelihood=likelihoods.Categorical(),
            batch_size=examples,
            antithetic=antithetic,
        ).probabilities

    started = time.perf_counter()
    call()
    return Case(call, time.perf_counter() - started, {"samples": samples, "examples": examples})


def plain_passes(workload: Workload, *, dtype: DTypeLike, passes: int, examples: int) -> Case:
    """Forward passes of the plain network over the same examples, one call each."""
    model = _model(workload, None, dtype)
    inputs, _ = _batch(workload, examples, dtype)
    params, variables = gaussian.mean(model.posterior), model.variables

    def forward(params: PyTree, variables: PyTree, inputs: Array) -> Array:
        return jax.nn.softmax(model.network.call(params, variables, inputs).astype(jnp.float32))

    program, seconds = _compiled(forward, params, variables, inputs)

    def call() -> object:
        return [program(params, variables, inputs) for _ in range(passes)]

    cost = _cost(program)
    cost |= {name: passes * cost[name] for name in ("flops", "bytes")}
    return Case(call, seconds, {"samples": passes, "examples": examples}, cost)


def _model(workload: Workload, estimator: str | None, dtype: DTypeLike) -> BayesianModel:
    network = workload.network(dtype)
    inputs, _ = _batch(workload, 2, dtype)
    variables = jax.jit(network.init)(jax.random.key(1), inputs)
    chosen = workload.estimators[estimator] if estimator else "reparam"
    return to_bnn(network, variables, estimator=chosen)


def _batch(workload: Workload, examples: int, dtype: DTypeLike) -> tuple[Array, Array]:
    inputs = workload.inputs(jax.random.key(2), examples)
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        inputs = inputs.astype(dtype)
    return inputs, labels(workload, jax.random.key(3), inputs)


def _compiled(
    function: Callable[..., PyTree], *arguments: PyTree, donate_argnums: tuple[int, ...] = ()
) -> tuple[stages.Compiled, float]:
    started = time.perf_counter()
    jitted = jax.jit(function, compiler_options=compiler_options(), donate_argnums=donate_argnums)
    program = jitted.lower(*arguments).compile()
    return program, time.perf_counter() - started


def _cost(program: stages.Compiled) -> dict[str, float]:
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    return {
        "flops": float(cost.get("flops", 0.0)),
        "bytes": float(cost.get("bytes accessed", 0.0)),
        "temporary_bytes": float(getattr(memory, "temp_size_in_bytes", 0)),
        "argument_bytes": float(getattr(memory, "argument_size_in_bytes", 0)),
    }
