"""Prints XLA's memory plan of a Bayesian training step of a transformer on 8 virtual devices.

    python scripts/plan_memory.py [--layers 12] [--width 768] [--devices 8] [--batch 64]

Nothing is allocated: the step is compiled for shapes. The plan is that of one device, for params
and optimizer state on every device, and divided over the devices along the axis `data`.
"""

import argparse
import json
import os
import time
from typing import Any


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("layers", 12),
        ("width", 768),
        ("vocabulary", 20_000),
        ("devices", 8),
        ("batch", 64),
        ("length", 128),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--estimator", default="reparam")
    return parser.parse_args()


def bayesian_step(given: argparse.Namespace, placement: Any, tokens: Any) -> tuple[Any, Any]:
    """Returns a training step on a mesh, and the shapes of its state."""
    import jax

    from bnn_jax import infer, likelihoods, models, to_bnn
    from bnn_jax.devices.placement import constrain
    from bnn_jax.infer import Problem

    network = models.build(
        "text_transformer",
        num_outputs=2,
        vocabulary=given.vocabulary,
        width=given.width,
        layers=given.layers,
        heads=given.width // 64,
    )
    built: list[Any] = []

    def first_state(key: Any, tokens: Any) -> Any:
        model = to_bnn(network, network.init(key, tokens), estimator=given.estimator)
        forward = model.forward()

        def gathering(draw: Any, posterior: Any, variables: Any, inputs: Any) -> Any:
            return forward(draw, placement.gathered(posterior), variables, inputs)

        problem = Problem(model, gathering, likelihoods.Categorical(), 10_000, 1000)
        built.append(infer.bayes_by_backprop().build(problem))
        return built[0].init(key)

    state = jax.eval_shape(first_state, jax.random.key(0), tokens)

    def step(state: Any, key: Any, batch: Any) -> Any:
        shardings = placement.shardings(state)
        state, info = built[0].step(state, key, batch)
        return constrain(state, shardings), info.loss

    return step, state


def plan(given: argparse.Namespace, shard_parameters: bool) -> dict[str, Any]:
    """Returns the plan of one device, in bytes, and what the devices send each other in a step."""
    import jax
    import jax.numpy as jnp

    from bnn_jax._compiler import compiler_options
    from bnn_jax.devices import Placement
    from bnn_jax.devices.collectives import collective_bytes

    placement = Placement.of(given.devices, shard_parameters)
    assert placement is not None
    tokens = jax.ShapeDtypeStruct((given.batch, given.length), jnp.int32)
    labels = jax.ShapeDtypeStruct((given.batch,), jnp.int32)
    step, state = bayesian_step(given, placement, tokens)

    def placed(leaf: Any, sharding: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    started = time.perf_counter()
    key = placed(jax.eval_shape(jax.random.key, 0), placement.everywhere)
    state = jax.tree.map(placed, state, placement.shardings(state))
    batch = tuple(placed(a, placement.examples) for a in (tokens, labels))
    jitted = jax.jit(step, donate_argnums=0, compiler_options=compiler_options())
    compiled = jitted.lower(state, key, batch).compile()
    memory = compiled.memory_analysis()
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "params": sum(leaf.size for leaf in jax.tree.leaves(gaussian_means(state.posterior))),
        "shard_parameters": shard_parameters,
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "total": memory.argument_size_in_bytes + memory.temp_size_in_bytes + new,
        "collectives": collective_bytes(compiled.as_text()),
        "compile_seconds": round(time.perf_counter() - started, 1),
    }


def gaussian_means(posterior: Any) -> Any:
    from bnn_jax import gaussian

    return gaussian.mean(posterior)


def main() -> None:
    given = arguments()
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = (
        f"{flags} --xla_force_host_platform_device_count={given.devices}".strip()
    )
    for shard_parameters in (False, True):
        print(json.dumps(plan(given, shard_parameters)), flush=True)


if __name__ == "__main__":
    main()
