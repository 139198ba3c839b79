"""Weights and batches over several devices: the same noise, and the same step to rounding."""

import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from bnn_jax import NormalPrior, gaussian, random_array, train

assert len(jax.devices()) == 2
mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,))

def split(axes):
    return NamedSharding(mesh, PartitionSpec(*axes))

kernel = gaussian.init(jax.random.key(0), (6, 4))
head = gaussian.init(jax.random.key(1), (4, 2))
posterior = {"head": head, "kernel": kernel}
x, y = jax.random.normal(jax.random.key(2), (8, 6)), jnp.ones((8, 2))

def network(params, x):
    return jnp.tanh(x @ params["kernel"]) @ params["head"]

def forward(draw, posterior, variables, x):
    out = random_array.apply(network, draw, posterior, x, estimator=ESTIMATOR)
    return out, variables

def loss(out, y):
    return jnp.mean((out - y) ** 2)

optimizer = optax.sgd(0.1)
step = jax.jit(train.build_step(forward, loss, optimizer, NormalPrior(), num_data=8))
sharded = {
    "kernel": jax.device_put(kernel, split((None, "devices"))),
    "head": jax.device_put(head, split(("devices", None))),
}
batch = tuple(jax.device_put(a, split(("devices", None))) for a in (x, y))
draw = jax.jit(gaussian.sample)
for a, b in zip(*(jax.tree.leaves(draw(jax.random.key(3), q)) for q in (posterior, sharded))):
    np.testing.assert_array_equal(a, b)
assert len(draw(jax.random.key(3), sharded)["kernel"].sharding.device_set) == 2
alone, _ = step(train.init(posterior, optimizer), jax.random.key(4), (x, y))
together, _ = step(train.init(sharded, optimizer), jax.random.key(4), batch)
leaves = [jax.tree.leaves(state.posterior) for state in (alone, together)]
for a, b, before in zip(*leaves, jax.tree.leaves(posterior)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.any(np.asarray(a) != np.asarray(before))
print("the same")
"""


def test_a_sharded_step_is_the_same_step() -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    for estimator in ("reparam", "flipout"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("ESTIMATOR", repr(estimator))],
            env={**os.environ, "XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "the same\n", done.stderr
