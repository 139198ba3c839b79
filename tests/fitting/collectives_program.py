"""Prints what the devices send each other in a training step and a prediction, as JSON.

For 8 virtual devices: {name: {operation: bytes}}.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp

from bnn_jax import NormalPrior, gaussian, infer, likelihoods, noise, to_bnn
from bnn_jax.devices import Placement
from bnn_jax.devices.collectives import collective_bytes
from bnn_jax.devices.placement import constrain, put
from bnn_jax.infer import Problem
from bnn_jax.predictive import members, on_mesh, predictor

X, Y = jnp.ones((16, 32)), jnp.arange(16) % 4
PARAMS = {"first": 0.1 * jnp.ones((32, 64)), "last": 0.1 * jnp.ones((64, 4))}


def network(params: Any, x: Any) -> Any:
    return jnp.tanh(x @ params["first"]) @ params["last"]


def step(num_samples: int, *, shard_parameters: bool = False) -> dict[str, int]:
    placement = Placement.of({"data": 8}, shard_parameters)
    assert placement is not None
    model = to_bnn(network, PARAMS, where="*", prior=NormalPrior(std=1.0), estimator="reparam")
    forward = model.forward()

    def gathering(draw: Any, posterior: Any, variables: Any, inputs: Any) -> Any:
        return forward(draw, placement.gathered(posterior), variables, inputs)

    problem = Problem(model, gathering, likelihoods.Categorical(), 16, 10)
    run = infer.bayes_by_backprop(num_samples=num_samples).build(problem)
    state = run.init(jax.random.key(0))
    shardings = placement.shardings(state)

    def one(state: Any, key: Any, batch: Any) -> Any:
        state, info = run.step(state, key, batch)
        return constrain(state, shardings), info.loss

    arguments = put(state, shardings), placement.replicate(jax.random.key(1))
    lowered = jax.jit(one).lower(*arguments, put((X, Y), placement.examples))
    return collective_bytes(lowered.compile().as_text())


def prediction(num_samples: int) -> dict[str, int]:
    """Of the program that serves any number of samples, with the number fixed."""
    placement = Placement.of({"data": 4, "samples": 2})
    assert placement is not None
    q = jax.tree.map(lambda w: gaussian.centred(w, 0.1), PARAMS)
    drawn = members.of(network, q, None, num_samples, False, {})
    summarise = on_mesh.divided(predictor.summarise, placement.mesh)

    def of(key: Any, data: Any, x: Any) -> Any:
        return summarise(
            key, data, x, None, jnp.asarray(0), jnp.asarray(num_samples),
            program=drawn.program, likelihood=likelihoods.Categorical(), levels=(), stacked=0,
        )  # fmt: skip

    fixed = placement.replicate((jax.random.key(0), drawn.data))
    lowered = jax.jit(of).lower(*fixed, put(X, placement.examples))
    return collective_bytes(lowered.compile().as_text())


if __name__ == "__main__":
    with noise.generator("hash"):
        found = {
            "predict, 4 samples": prediction(4),
            "predict, 64 samples": prediction(64),
            "step, 1 sample": step(1),
            "step, 4 samples": step(4),
            "step, 1 sample, divided weights": step(1, shard_parameters=True),
        }
    print(json.dumps(found))
