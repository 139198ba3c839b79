"""Timing in turns, and the benchmark's command on the smallest workload."""

import json
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from bnn_jax import cli
from bnn_jax.benchmark import cases, results, roofline, run, timing
from bnn_jax.benchmark.workloads import WORKLOADS


def test_calls_are_timed_in_turns() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> Any:
        def work() -> None:
            order.append(name)
            time.sleep(seconds)

        return work

    times = timing.in_turns({"a": call("a", 0.004), "b": call("b", 0.012)}, rounds=5, warmup=1)
    assert order == ["a", "b"] * 6
    assert len(times["a"].seconds) == 5
    assert 0.004 <= times["a"].median < 0.012 <= times["b"].median
    assert 1.2 < timing.ratio(times["b"], times["a"]) < 6.0
    assert times["a"].spread >= 0.0


def test_the_ratio_is_of_the_same_round() -> None:
    slow, fast = timing.Times((2.0, 20.0, 200.0)), timing.Times((1.0, 10.0, 100.0))
    assert timing.ratio(slow, fast) == 2.0
    assert timing.Times((1.0, 2.0, 3.0)).spread == pytest.approx(0.25)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in ("W4", "W5") else []) for n in WORKLOADS],
)
def test_every_workload_has_the_documented_size(name: str) -> None:
    workload = WORKLOADS[name]
    model = cases._model(workload, None, jnp.float32)
    size = sum(q.size for q in run_leaves(model.posterior))
    weights = {"W1": 478_410, "W2": 2_395_210, "W3": 61_684, "W4": 270_906, "W5": 3_220_736}
    assert size == pytest.approx(weights[name], rel=1e-3)


def test_the_roofline_is_the_larger_of_both_bounds() -> None:
    machine = roofline.Machine(flops_per_second=100.0, bytes_per_second=10.0)
    assert machine.least_seconds({"flops": 200.0, "bytes": 5.0}) == 2.0
    assert machine.least_seconds({"flops": 200.0, "bytes": 50.0}) == 5.0
    assert machine.least_seconds({}) == 0.0


def run_leaves(posterior: Any) -> list[Any]:
    from bnn_jax import gaussian

    return list(gaussian.random_leaves(posterior).values())


def test_the_command_writes_lines_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "new" / "times.jsonl"
    words = ["benchmark", "W1", "--rounds", "2", "--samples", "2", "--output", str(output)]
    monkeypatch.setattr(run, "STEPS_OF_AN_EPOCH", 3)
    assert cli.main(words) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    variants = ["plain", "reparam", "local_reparam", "flipout", "reparam, 4 samples"]
    assert [line["variant"] for line in lines] == [
        *variants,
        *("plain", "plain, in one call", "reparam", "reparam, in one call"),
        "plain",
        "predict",
        "predict, antithetic",
    ]
    for line in lines:
        assert line["median_ms"] > 0
        assert line["ratio"] == 1.0 or line["variant"] != "plain"
        assert {"device", "jax", "flags", "generator", "precision", "rounds"} <= set(line)
        assert line["flops_per_second"] > 1e8
        assert line["samples"] == (4 if "4 samples" in line["variant"] else 1) + (
            line["kind"] == "predict"
        )
        assert line["examples"] == {"train": 128, "epoch": 3 * 128, "predict": 1000}[line["kind"]]
    plain, step = lines[0], lines[1]
    assert step["flops"] > plain["flops"] > 1e8
    assert step["argument_bytes"] > 1.9 * plain["argument_bytes"] > 5e6
    shown = capsys.readouterr().out
    assert all(variant in shown for variant in variants)
    assert cli.main([*words, "--kind", "predict", "--compare", str(output)]) == 0
    assert "ms here / there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["W9"], "Unknown workload 'W9'"),
        (["W1", "--kind", "trian"], "did you mean 'train'"),
        (["W1", "--precision", "float16"], "choose from float32, bfloat16"),
        (["W1", "--rounds", "0"], "rounds must be at least 1, got 0"),
        (["W1", "--rounds", "many"], "many"),
        (["W1", "--generator", "hsah"], "Did you mean 'hash'"),
        (["W1", "--compare", "README.md"], "README.md"),
    ],
)
def test_bad_calls_give_an_error_of_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["benchmark", *words]) == 2
    message_shown = capsys.readouterr().err
    assert message in message_shown
    assert message_shown.count("\n") == 1


def test_a_file_without_results_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="must have the JSON lines of a benchmark"):
        results.read(tmp_path / "x.jsonl")
