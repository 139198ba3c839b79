"""The shapes of a fit's inputs, and their form in JSON."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from bnn_jax.fitting import shapes

ARRAYS = jnp.zeros((7, 3)), jnp.zeros((7, 2, 5), jnp.int32)
TREES: dict[str, Any] = {
    "array": ARRAYS[0],
    "tuple": ARRAYS,
    "list": list(ARRAYS),
    "nested": ({"shape": ARRAYS[0], "dict": [ARRAYS[1]]}, ARRAYS[1]),
}


@pytest.mark.parametrize("name", TREES)
def test_they_survive_json(name: str) -> None:
    of_batch = shapes.of(TREES[name], 4)
    assert all(leaf.shape[0] == 4 for leaf in jax.tree.leaves(of_batch))
    assert shapes.from_json(json.loads(json.dumps(shapes.to_json(of_batch)))) == of_batch


def test_other_trees_have_no_form_in_json() -> None:
    assert shapes.to_json(({"x": None},)) is None
    assert shapes.from_json(None) is None
