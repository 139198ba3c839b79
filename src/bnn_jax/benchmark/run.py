"""Time workloads, write one JSON line each, print a table.

    results = run(["W1", "W3"], rounds=30)

Every number is a ratio to the plain network of the same rounds, or seconds beside it.
"""

import dataclasses
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.table import Table

from bnn_jax import noise
from bnn_jax._compiler import compiler_options
from bnn_jax.benchmark import cases, roofline, timing
from bnn_jax.benchmark.workloads import WORKLOADS, Workload
from bnn_jax.config.errors import nearest

NAMES = tuple(WORKLOADS)
KINDS = ("train", "epoch", "predict")
STEPS_OF_AN_EPOCH = 10
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
FLAGS = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
)


def run(
    names: Sequence[str] = NAMES,
    *,
    kinds: Sequence[str] = KINDS,
    precision: str = "float32",
    rounds: int = 30,
    samples: int = 32,
    examples: int = 1000,
    kl_every: int = 10,
) -> Iterable[dict[str, Any]]:
    """Time the workloads one after the other; yields a result for each variant as it is known.

    Args:
        names: of `WORKLOADS`.
        kinds: "train" for training steps, "epoch" for several with their batches gathered from data
            on the device, "predict" for predictions.
        precision: the dtype of the computation, "float32" or "bfloat16".
        rounds: timed rounds of each workload.
        samples: weight samples of a prediction.
        examples: examples of a prediction.
        kl_every: steps from one value of the KL to the next; its gradient acts in every step.

    Raises:
        ValueError: an unknown name, or a number below 1; before anything is timed.
    """
    numbers = {"rounds": rounds, "samples": samples, "examples": examples, "kl_every": kl_every}
    for what, value in numbers.items():
        if value < 1:
            raise ValueError(f"{what} has to be >= 1, got {value}.")
    for what, given, known in (
        ("workload", names, WORKLOADS),
        ("kind", kinds, KINDS),
        ("precision", [precision], DTYPES),
    ):
        for name in given:
            if name not in known:
                raise ValueError(
                    f"Unknown {what} {name!r}{nearest(name, known)}: they are {', '.join(known)}."
                )
    return _results(names, kinds, precision, rounds, samples, examples, kl_every)


def _results(
    names: Sequence[str],
    kinds: Sequence[str],
    precision: str,
    rounds: int,
    samples: int,
    examples: int,
    kl_every: int,
) -> Iterable[dict[str, Any]]:
    dtype = DTYPES[precision]
    reached = roofline.measure(dtype)
    for name in names:
        workload = WORKLOADS[name]
        for kind in kinds:
            if kind == "train":
                made = _train_steps(workload, dtype, kl_every)
            elif kind == "epoch":
                made = _epochs(workload, dtype, kl_every)
            else:
                made = _predictions(workload, dtype, samples, examples)
            times = timing.in_turns({k: case.call for k, case in made.items()}, rounds=rounds)
            for variant, case in made.items():
                # Four samples a step do the work of four plain steps.
                steps = case.facts["samples"] if kind == "train" else 1
                yield {
                    "workload": name,
                    "kind": kind,
                    "variant": variant,
                    "ratio": timing.ratio(times[variant], times["plain"]) / steps,
                    "median_ms": 1e3 * times[variant].median,
                    "spread": times[variant].spread,
                    "compile_seconds": case.compile_seconds,
                    **case.cost,
                    "roofline": reached.least_seconds(case.cost) / times[variant].median,
                    **dataclasses.asdict(reached),
                    "precision": precision,
                    "rounds": rounds,
                    "generator": noise.generator_in_use(),
                    **case.facts,
                    **machine(),
                }


def _train_steps(workload: Workload, dtype: Any, kl_every: int) -> dict[str, cases.Case]:
    fast = workload.in_fast_form()
    every: dict[str, Any] = {"dtype": dtype, "kl_every": kl_every}
    return {
        **{name: cases.train_step(w, None, dtype=dtype) for name, w in _plain(workload).items()},
        **{name: cases.train_step(fast, name, **every) for name in workload.estimators},
        "reparam, 4 samples": cases.train_step(fast, "reparam", samples=4, **every),
    }


def _epochs(workload: Workload, dtype: Any, kl_every: int) -> dict[str, cases.Case]:
    """Each step a call from Python, and all of them in one call."""
    fast = workload.in_fast_form()
    options: dict[str, Any] = {
        "dtype": dtype,
        "steps": STEPS_OF_AN_EPOCH,
        "kl_every": kl_every,
    }
    return {
        "plain": cases.epoch(workload, None, steps_per_call=1, **options),
        "plain, in one call": cases.epoch(
            workload, None, steps_per_call=STEPS_OF_AN_EPOCH, **options
        ),
        "reparam": cases.epoch(fast, "reparam", steps_per_call=1, **options),
        "reparam, in one call": cases.epoch(
            fast, "reparam", steps_per_call=STEPS_OF_AN_EPOCH, **options
        ),
    }


def _predictions(
    workload: Workload, dtype: Any, samples: int, examples: int
) -> dict[str, cases.Case]:
    fast = workload.in_fast_form()
    options: dict[str, Any] = {"dtype": dtype, "examples": examples}
    drawn: dict[str, Any] = {"samples": samples, **options}
    return {
        **{
            name: cases.plain_passes(w, passes=samples, **options)
            for name, w in _plain(workload).items()
        },
        "predict": cases.prediction(fast, **drawn),
        "predict, antithetic": cases.prediction(fast, antithetic=True, **drawn),
    }


def _plain(workload: Workload) -> dict[str, Workload]:
    """The network as Flax has it, to which ratios are; and its faster form, if it has one."""
    fast = workload.in_fast_form()
    if fast is workload:
        return {"plain": workload}
    assert workload.faster is not None
    return {"plain": workload, f"plain, {workload.faster[0]}": fast}


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
        "compiler_options": compiler_options(),
    }


def table(results: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]] = ()) -> str:
    """The results as text; with those of another run, their ratios beside them."""
    before = {_name(r): r for r in other}
    columns = ["workload", "kind", "variant", "ratio to plain", "ms", "spread", "compile, s"]
    columns.append("roofline")
    grid = Table(box=box.SIMPLE_HEAD)
    for column in [*columns, *(["ms here / there"] if before else [])]:
        grid.add_column(column, justify="left" if column in columns[:3] else "right")
    for result in results:
        cells = [result["workload"], result["kind"], result["variant"]]
        cells += [f"{result['ratio']:.2f}", f"{result['median_ms']:.2f}"]
        cells += [f"{100 * result['spread']:.0f} %", f"{result['compile_seconds']:.1f}"]
        share = result.get("roofline", 0.0)
        cells.append(f"{100 * share:.0f} %" if share else "")
        if before:
            there = before.get(_name(result))
            cells.append(f"{result['median_ms'] / there['median_ms']:.2f}" if there else "")
        grid.add_row(*cells)
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def collect(results: Iterable[dict[str, Any]], path: Path | None) -> list[dict[str, Any]]:
    """The results as a list; each is added to the file, if there is one, as soon as it is known."""
    kept = []
    for result in results:
        kept.append(result)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(result) + "\n")
    return kept


def read(path: Path) -> list[dict[str, Any]]:
    """The results of a file that `collect` has written.

    Raises:
        ValueError: it holds something else.
    """
    try:
        results = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        for result in results:
            _name(result), result["median_ms"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold the JSON lines of a benchmark.") from error
    return results


def _name(result: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(result[k] for k in ("workload", "kind", "variant", "precision"))
