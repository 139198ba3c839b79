"""Timing of workloads: ratios to the plain network in the same rounds, and times.

results = run(["W1", "W3"], rounds=30)
"""

import dataclasses
import os
import platform
from collections.abc import Iterable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from bnn_jax import noise
from bnn_jax._compiler import compiler_options
from bnn_jax.benchmark import cases, roofline, timing
from bnn_jax.benchmark.results import Result
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
) -> Iterable[Result]:
    """Times the workloads in order; yields a result for each variant.

    Args:
        names: names of `WORKLOADS`.
        kinds: "train" for a training step, "epoch" for several steps whose batches are gathered
            from data on the device, "predict" for a prediction.
        precision: the dtype of the computation, "float32" or "bfloat16".
        rounds: the number of timed rounds.
        samples: the number of weight samples of a prediction.
        examples: the number of examples of a prediction.
        kl_every: the number of steps between values of the KL; its gradient is used in every step.

    Raises:
        ValueError: a name is unknown or a number is below 1. Raised before anything is timed.
    """
    numbers = {"rounds": rounds, "samples": samples, "examples": examples, "kl_every": kl_every}
    for what, value in numbers.items():
        if value < 1:
            raise ValueError(f"{what} must be at least 1, got {value}.")
    for what, given, known in (
        ("workload", names, WORKLOADS),
        ("kind", kinds, KINDS),
        ("precision", [precision], DTYPES),
    ):
        for name in given:
            if name not in known:
                raise ValueError(
                    f"Unknown {what} {name!r}{nearest(name, known)}: "
                    f"choose from {', '.join(known)}."
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
) -> Iterable[Result]:
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
                # A step with four samples is compared with four plain steps.
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


def _train_steps(workload: Workload, dtype: DTypeLike, kl_every: int) -> dict[str, cases.Case]:
    fast = workload.in_fast_form()
    step = partial(cases.train_step, dtype=dtype, kl_every=kl_every)
    return {
        **{name: cases.train_step(w, None, dtype=dtype) for name, w in _plain(workload).items()},
        **{name: step(fast, name) for name in workload.estimators},
        "reparam, 4 samples": step(fast, "reparam", samples=4),
    }


def _epochs(workload: Workload, dtype: DTypeLike, kl_every: int) -> dict[str, cases.Case]:
    """Epochs with one call from Python per step, and with one call for all steps."""
    fast = workload.in_fast_form()
    steps = STEPS_OF_AN_EPOCH
    epoch = partial(cases.epoch, dtype=dtype, steps=steps, kl_every=kl_every)
    return {
        "plain": epoch(workload, None, steps_per_call=1),
        "plain, in one call": epoch(workload, None, steps_per_call=steps),
        "reparam": epoch(fast, "reparam", steps_per_call=1),
        "reparam, in one call": epoch(fast, "reparam", steps_per_call=steps),
    }


def _predictions(
    workload: Workload, dtype: DTypeLike, samples: int, examples: int
) -> dict[str, cases.Case]:
    fast = workload.in_fast_form()
    plain = partial(cases.plain_passes, dtype=dtype, passes=samples, examples=examples)
    predict = partial(cases.prediction, fast, dtype=dtype, samples=samples, examples=examples)
    return {
        **{name: plain(w) for name, w in _plain(workload).items()},
        "predict": predict(),
        "predict, antithetic": predict(antithetic=True),
    }


def _plain(workload: Workload) -> dict[str, Workload]:
    """Returns the plain network with Flax's layers, the base of ratios, and any faster form."""
    fast = workload.in_fast_form()
    if fast is workload:
        return {"plain": workload}
    assert workload.faster is not None
    return {"plain": workload, f"plain, {workload.faster[0]}": fast}


def machine() -> Result:
    """Returns the device, the versions and the settings of this process."""
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
