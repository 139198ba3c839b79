"""The memory of training a text transformer with flipout, beside that with reparam."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import text_transformer
from distribution_helpers import quick_compilation

from bnn_jax import gaussian

LIMIT = 1.5


def plans(sizes: dict[str, int], examples: int, where: str = "layers") -> dict[str, dict[str, int]]:
    found = {}
    variables = text_transformer.weights(sizes)
    batch = text_transformer.batch_of(sizes, examples)
    for estimator in ("reparam", "flipout"):
        model = text_transformer.converted(sizes, variables, estimator, where)
        state, step = text_transformer.start(model)
        found[estimator] = text_transformer.compiled_memory(step, state, batch)
    print(found, "ratio", found["flipout"]["peak"] / found["reparam"]["peak"])
    return found


def test_what_is_random_in_a_text_transformer() -> None:
    with quick_compilation():
        sizes = text_transformer.SMALL
        variables = text_transformer.weights(sizes)
        model = text_transformer.converted(sizes, variables, "flipout")
        report: dict[str, list[str]] = {}
        tokens, _ = text_transformer.batch_of(sizes, 2)
        jax.eval_shape(
            lambda k: model.apply(k, model.posterior, tokens, rules_used=report), jax.random.key(0)
        )
    random = gaussian.random_leaves(model.posterior)
    assert len(random) == 12  # six layers, kernel and bias
    assert not any("tokens" in path or "Norm" in path for path in random)
    assert all(rules == ["flipout"] for rules in report.values())


def test_planned_memory_of_a_small_text_transformer() -> None:
    # The biases take little memory, and half of the time to compile.
    found = plans(text_transformer.SMALL, examples=8, where="kernels")
    assert found["flipout"]["peak"] <= LIMIT * found["reparam"]["peak"]


@pytest.mark.slow
def test_planned_memory_of_a_text_transformer() -> None:
    shapes = jax.eval_shape(lambda: text_transformer.weights(text_transformer.LARGE))
    size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    print("parameters", size)
    assert 9.5e6 < size < 10.5e6
    found = plans(text_transformer.LARGE, examples=8)
    assert found["flipout"]["peak"] <= LIMIT * found["reparam"]["peak"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_real_memory_of_a_text_transformer() -> None:
    """The peak of a process that trains, without what its imports took."""
    used = {}
    for estimator in ("reparam", "flipout"):
        command = [sys.executable, text_transformer.__file__, estimator]
        out = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        found = json.loads(out.stdout.splitlines()[-1])
        print(estimator, found)
        assert found["nll"][-1] < found["nll"][0]
        used[estimator] = found["peak"] - found["before"]
    print("ratio", used["flipout"] / used["reparam"])
    assert used["flipout"] <= LIMIT * used["reparam"]
