"""The training loop of a run: its steps, its epochs, its mean numbers."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from experiment_helpers import loop_of, small

from trace_helpers import Counted


def test_many_steps_in_one_call_are_the_same_steps(tmp_path: Path) -> None:
    ends = []
    for count in (1, 3):
        loop, state = loop_of(small(tmp_path / "run"), count)
        step = Counted(loop.step)
        loop = dataclasses.replace(loop, step=step)
        state, _ = loop.run(
            state,
            loop.no_totals(state),
            name="epoch",
            at_epoch_end=lambda *_: None,
            interrupted=lambda: False,
        )
        ends.append(state)
        # Once for the totals, and once for each number of steps in a call: 1, or 3 and 2 of 8.
        assert step.traces == (2 if count == 1 else 3)
    for a, b in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_the_value_of_the_kl_is_computed_in_some_steps_and_its_gradient_in_all(
    tmp_path: Path,
) -> None:
    """An epoch has 8 steps; every third one from its first has a value: 0, 3, 6; 9, 12, 15; ..."""
    always, state = loop_of(small(tmp_path, "objective.kl_every=1"), 1)
    loop, end = loop_of(small(tmp_path, "objective.kl_every=3"), 5)
    infos = []
    for step in range(24):
        if step % 8 == 0:
            order = always.order(step // 8)
        totals = always.no_totals(state)
        state, totals = always.call(state, totals, order, always.examples, always.run_key, count=1)
        infos.append(jax.device_get(totals.info))
    lines: list[dict[str, Any]] = []
    sums = loop.no_totals(end)
    for stop in (True, False):  # after the first 5 steps, and not again
        end, sums = loop.run(
            end,
            sums,
            name="epoch",
            at_epoch_end=lambda *a: lines.append(a[2]),
            interrupted=lambda stop=stop: stop,
        )
    # Before the first value of the KL in an epoch there is none to show.
    ones = jax.tree.map(np.ones_like, sums)
    none = dataclasses.replace(ones.info, kl_steps=np.zeros_like(ones.info.kl_steps))
    shown = loop.headline(dataclasses.replace(ones, info=none))
    assert sorted(shown) == ["accuracy", "nll"]
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)
    for line, epoch, valued in zip(
        lines, (0, 8, 16), ((0, 3, 6), (9, 12, 15), (18, 21)), strict=True
    ):
        kl = np.mean([infos[i].kl for i in valued])
        assert line["kl"] == pytest.approx(kl, rel=1e-4)
        layer = np.mean([infos[i].kl_by_layer["fc1"] for i in valued])
        assert line["kl_by_layer"]["fc1"] == pytest.approx(layer, rel=1e-4)
        nll = np.mean([infos[i].nll for i in range(epoch, epoch + 8)])
        assert line["nll"] == pytest.approx(nll, rel=1e-4)
        weight = np.mean([infos[i].bnn_factor for i in range(epoch, epoch + 8)])
        assert line["loss"] == pytest.approx(nll + weight * kl, rel=1e-4)


def test_every_epoch_sees_every_example_once(tmp_path: Path) -> None:
    loop, _ = loop_of(small(tmp_path / "run"), 1)
    first, second = np.asarray(loop.order(0)), np.asarray(loop.order(1))
    assert sorted(first) == sorted(second) == list(range(256))
    assert (first != second).any()
