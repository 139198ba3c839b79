"""AdamWeightDecay against its formula in NumPy; MindSpore's own trace is in test_golden.py."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnn_jax.optimizers import adam_weight_decay


@pytest.mark.parametrize("mask", [None, {"w": True, "b": False}])
def test_six_steps_with_decay_and_schedule(mask: Any) -> None:
    rates = [0.1, 0.1, 0.1, 0.05, 0.05, 0.05]
    optimizer = adam_weight_decay(
        lambda count: jnp.where(count < 3, 0.1, 0.05), 0.8, 0.95, 1e-3, weight_decay=0.02, mask=mask
    )
    random = np.random.default_rng(0)
    p = {"w": random.normal(size=3), "b": random.normal(size=2)}
    ours = {name: jnp.asarray(value, jnp.float32) for name, value in p.items()}
    mu, nu = ({name: np.zeros_like(value) for name, value in p.items()} for _ in range(2))
    state = optimizer.init(ours)
    for rate in rates:
        g = {name: random.normal(size=value.shape) for name, value in p.items()}
        for name in p:
            mu[name] = 0.8 * mu[name] + 0.2 * g[name]
            nu[name] = 0.95 * nu[name] + 0.05 * g[name] ** 2
            decay = 0.02 if mask is None or mask[name] else 0.0
            p[name] -= rate * (mu[name] / (np.sqrt(nu[name]) + 1e-3) + decay * p[name])
        grads = {name: jnp.asarray(value, jnp.float32) for name, value in g.items()}
        updates, state = optimizer.update(grads, state, ours)
        ours = optax.apply_updates(ours, updates)
    for name in p:
        np.testing.assert_allclose(ours[name], p[name], rtol=1e-5)
