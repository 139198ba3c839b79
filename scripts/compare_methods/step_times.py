"""The training step of each method, alternating with a plain Adam step of the same network.

    python scripts/compare_methods/step_times.py W1 W3 --rounds 15

The table has the median over rounds of the ratio to the plain step in the same round; a round
times 20 steps of each method. Of an ensemble, the step of all members is one compiled call, and
the last column divides its time by that of one member.
"""

import argparse
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from bnn_jax import infer, likelihoods, to_bnn
from bnn_jax._compiler import compiler_options
from bnn_jax.benchmark.timing import in_turns, ratio
from bnn_jax.benchmark.workloads import WORKLOADS, Workload, labels
from bnn_jax.infer import Method, Problem

STEPS = 20
NUM_DATA = 60_000
METHODS: dict[str, Method] = {
    "map": infer.map(),
    "ivon": infer.ivon(),
    "bayes_by_backprop": infer.bayes_by_backprop(kl_every=10),
    "mc_dropout": infer.mc_dropout(),
    "swag": infer.swag(),
    "sgld": infer.sgld(num_samples=10),
    "sghmc": infer.sghmc(num_samples=10),
    "ensemble of 8 map": infer.ensemble(infer.map(), size=8),
    "ensemble of 8 bayes_by_backprop": infer.ensemble(infer.bayes_by_backprop(kl_every=10), size=8),
}


def plain_steps(workload: Workload) -> Callable[[], object]:
    """Returns a call that makes STEPS steps of Adam on the data loss of the plain network."""
    network = workload.network(jnp.float32)
    inputs, targets = batch_of(workload)
    params = network.init(jax.random.key(1), inputs)["params"]
    optimizer = optax.adam(1e-3)

    @functools.partial(jax.jit, donate_argnums=(0, 1), compiler_options=compiler_options())
    def step(params, opt_state, inputs, targets):  # type: ignore[no-untyped-def]
        def loss(params):  # type: ignore[no-untyped-def]
            logits = network.apply({"params": params}, inputs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    state = (params, optimizer.init(params))

    def call() -> object:
        nonlocal state
        for _ in range(STEPS):
            *state, value = step(*state, inputs, targets)
        return value

    return call


def method_steps(workload: Workload, method: Method) -> Callable[[], object]:
    """Returns a call that makes STEPS steps of a method."""
    network: nn.Module = workload.network(jnp.float32)
    batch = batch_of(workload)
    inputs = batch[0]
    model = to_bnn(network, network.init(jax.random.key(1), inputs), inputs=(inputs,))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), inputs)
    problem = Problem(
        model, model.forward(), likelihoods.Categorical(), NUM_DATA, 10_000, inputs=shapes
    )
    run = method.build(problem)
    state, key = run.init(jax.random.key(2)), jax.random.key(3)
    step = jax.jit(run.step, donate_argnums=0, compiler_options=compiler_options())

    def call() -> object:
        nonlocal state
        for _ in range(STEPS):
            state, info = step(state, key, batch)
        return info

    return call


def batch_of(workload: Workload) -> tuple[jax.Array, jax.Array]:
    inputs = workload.inputs(jax.random.key(4), workload.batch)
    return inputs, labels(workload, jax.random.key(5), inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description="The training step of each method.")
    parser.add_argument("workloads", nargs="+", choices=["W1", "W2", "W3"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    given = parser.parse_args()
    print("| workload | method | step, ms | ratio to plain Adam | per member |")
    print("| --- | --- | --- | --- | --- |")
    for name in given.workloads:
        workload = WORKLOADS[name].in_fast_form()
        calls = {"plain": plain_steps(workload)}
        calls |= {m: method_steps(workload, METHODS[m]) for m in given.methods}
        times = in_turns(calls, rounds=given.rounds)
        for method, measured in times.items():
            one = method.removeprefix("ensemble of 8 ")
            member = f"{ratio(measured, times[one]):.2f}" if one != method in METHODS else ""
            print(
                f"| {name} | {method} | {1e3 * measured.median / STEPS:.2f} "
                f"| {ratio(measured, times['plain']):.2f} | {member} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
