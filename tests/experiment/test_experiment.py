"""The main job: a run folder with its results, the same from the same seed, interrupted or not."""

import dataclasses
import json
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from bnn_jax import config as configs
from bnn_jax import experiment, gaussian
from bnn_jax.experiment import examples as run_data
from bnn_jax.experiment.folder import RunError, RunFolder
from bnn_jax.experiment.run import set_up
from bnn_jax.fitting import loop as loops

CONFIGS = Path(__file__).parents[2] / "configs"
LENET = CONFIGS / "lenet5.yaml"
CURVES = ["blundell_curve", "heteroscedastic_curve"]
SMALL = [
    "model={name: mlp, hidden: [16]}",
    "data.image_size=null",
    "data.train_examples=256",
    "data.test_examples=100",
    "training.batch_size=32",
    "training.epochs=3",
    "optimizer.learning_rate=1.0e-2",
    "training.evaluate_every=1",
    "training.checkpoint_every=1",
    "evaluation.num_samples=4",
    "evaluation.baseline_epochs=2",
]


def small(path: Path, *overrides: str) -> configs.Config:
    return configs.load(LENET, [*SMALL, f"output.dir={path}", *overrides])


def checkpoint_of(config: configs.Config) -> list[np.ndarray]:
    """Every array of the saved state, totals and prior."""
    run = set_up(config)
    like = run.checkpoint(run.state, run.loop.no_totals(run.state))
    saved = RunFolder(config.output.dir).restore(like)
    return [np.asarray(x) for x in jax.tree.leaves(saved)]


def assert_equal(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b) > 10
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def metrics_of(config: configs.Config) -> list[dict[str, object]]:
    lines = (config.output.dir / "metrics.jsonl").read_text().splitlines()
    times = ("seconds", "examples_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in lines]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Press Ctrl-C, once, while that step runs."""
    progress = loops.Progress.advance
    seen = 0

    def advance(self: loops.Progress, count: int, numbers: object) -> None:
        nonlocal seen
        seen += count
        if seen == steps:
            os.kill(os.getpid(), signal.SIGINT)
        progress(self, count, None)

    monkeypatch.setattr(loops.Progress, "advance", advance)


def test_run_folder_holds_the_results(tmp_path: Path) -> None:
    config = small(tmp_path / "run")
    summary = experiment.train(config)
    folder = tmp_path / "run"
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert configs.load(folder / "config.yaml") == config
    for scores in (summary, summary["deterministic"]):
        assert 0.2 < scores["accuracy"] <= 1.0  # a tenth is chance
        assert 0.0 < scores["nll"] < math.log(10.0)
        assert 0.0 <= scores["ece"] <= 1.0
    assert summary["num_train"] == 256
    assert summary["steps"] == 3 * 8
    lines = metrics_of(config)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] < lines[0]["loss"]
    for line in lines:
        layers = line["kl_by_layer"]
        assert set(layers) == {"fc1", "fc2"}
        assert math.isclose(sum(layers.values()), line["kl"], rel_tol=1e-5)
        total = line["dnn_factor"] * line["nll"] + line["bnn_factor"] * line["kl"]
        assert math.isclose(total, line["loss"], rel_tol=1e-5)
        assert math.isclose(line["bnn_factor"], 1 / 256, rel_tol=1e-6)


def test_one_seed_gives_one_run(tmp_path: Path) -> None:
    a, b = small(tmp_path / "a"), small(tmp_path / "b")
    first, second = experiment.train(a), experiment.train(b)
    assert_equal(checkpoint_of(a), checkpoint_of(b))
    assert metrics_of(a) == metrics_of(b)
    for name in ("accuracy", "nll", "ece"):
        assert first[name] == second[name]
        assert first["deterministic"][name] == second["deterministic"][name]
    other = experiment.train(small(tmp_path / "c", "seed=1"))
    assert other["nll"] != first["nll"]


@pytest.mark.parametrize("steps", [5, 16], ids=["within an epoch", "at an epoch's end"])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole, parts = small(tmp_path / "whole"), small(tmp_path / "parts")
    expected = experiment.train(whole)
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(KeyboardInterrupt):
            experiment.train(parts)
    status = json.loads((tmp_path / "parts" / "summary.json").read_text())
    assert status == {"status": "interrupted", "steps": steps}
    summary = experiment.train(parts, resume=True)
    assert_equal(checkpoint_of(whole), checkpoint_of(parts))
    assert metrics_of(whole) == metrics_of(parts)
    for name in ("accuracy", "nll", "ece", "kl"):
        assert summary[name] == expected[name]


def test_a_resumed_run_repeats_the_epochs_after_its_checkpoint(tmp_path: Path) -> None:
    """As after a crash: the checkpoint is older than the last line of metrics."""
    config = small(tmp_path / "run", "training.checkpoint_every=2")
    experiment.train(config)
    final, lines = checkpoint_of(config), metrics_of(config)
    run = set_up(config)
    start = run.checkpoint(run.state, run.loop.no_totals(run.state))
    older = RunFolder(tmp_path / "older")
    older.create(config)
    (older.path / "metrics.jsonl").write_bytes((tmp_path / "run" / "metrics.jsonl").read_bytes())
    older.save(0, start)
    again = small(tmp_path / "older", "training.checkpoint_every=2")
    experiment.train(again, resume=True)
    assert_equal(checkpoint_of(again), final)
    assert metrics_of(again) == lines


def test_many_steps_in_one_call_are_the_same_steps(tmp_path: Path) -> None:
    run = set_up(small(tmp_path / "run"))
    ends = []
    for count in (1, 3):
        loop = dataclasses.replace(run.loop, steps_per_call=count)
        state = jax.tree.map(lambda x: x.copy(), run.state)
        state, _ = loop.run(
            state,
            loop.no_totals(state),
            name="epoch",
            at_epoch_end=lambda *_: None,
            interrupted=lambda: False,
        )
        ends.append(state)
        assert loop.call._cache_size() == (1 if count == 1 else 2)  # 8 steps: 3, 3 and 2
    for a, b in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_the_kl_is_valued_in_some_steps_and_acts_in_all(tmp_path: Path) -> None:
    """Of 8 steps an epoch, each third from the first: 0, 3, 6; 9, 12, 15; 18, 21."""
    always, sometimes = (set_up(small(tmp_path, f"objective.kl_every={n}")) for n in (1, 3))
    infos = []
    state = jax.tree.map(lambda x: x.copy(), always.state)
    for step in range(24):
        if step % 8 == 0:
            order = always.loop.order(step // 8)
        totals = always.loop.no_totals(state)
        state, info = always.loop.call(
            state, totals, order, always.loop.examples, always.loop.run_key, count=1
        )
        infos.append(jax.device_get(info))
    lines: list[dict[str, Any]] = []
    loop = dataclasses.replace(sometimes.loop, steps_per_call=5)
    end = jax.tree.map(lambda x: x.copy(), sometimes.state)
    sums = loop.no_totals(end)
    for stop in (True, False):  # after the first 5 steps, and not again
        end, sums = loop.run(
            end,
            sums,
            name="epoch",
            at_epoch_end=lambda *a: lines.append(a[2]),
            interrupted=lambda stop=stop: stop,
        )
    # Before its first value of the KL an epoch has none to show.
    ones = jax.tree.map(np.ones_like, sums)
    shown = loop.headline(dataclasses.replace(ones, kl_steps=np.zeros_like(ones.kl_steps)))
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
    loop = set_up(small(tmp_path / "run")).loop
    first, second = np.asarray(loop.order(0)), np.asarray(loop.order(1))
    assert sorted(first) == sorted(second) == list(range(256))
    assert (first != second).any()


def test_evaluate_gives_the_results_of_training_again(tmp_path: Path) -> None:
    config = small(tmp_path / "run")
    summary = experiment.train(config)
    again = experiment.evaluate(tmp_path / "run")
    assert again == summary
    more = experiment.evaluate(tmp_path / "run", ["evaluation.num_samples=64"])
    assert more["num_samples"] == 64
    assert more["nll"] != summary["nll"]
    assert abs(more["nll"] - summary["nll"]) < 0.2
    assert more["deterministic"] == summary["deterministic"]


def test_validation_examples_are_held_out_of_training(tmp_path: Path) -> None:
    run = set_up(small(tmp_path / "run", "data.validation=56"))
    assert run.images.held_out_name == "validation"
    assert run.images.num_train == 200
    assert len(run.images.held_out[0]) == 56


def slowly(*overrides: str) -> Any:
    """A case that runs on request: what it sets has tests of its own elsewhere."""
    return pytest.param(list(overrides), marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "overrides",
    [
        ["estimator=flipout"],
        slowly("estimator={'fc1/*': local_reparam, '*': reparam}"),
        slowly("prior={name: scale_mixture, pi: 0.5, std1: 1.0, std2: 0.05}"),
        slowly("prior={name: laplace, scale: 0.1}", "objective.kl_schedule={name: blundell}"),
        ["prior={name: student_t, df: 4, scale: 0.1}", "objective.reverse_kl=true"],
        ["objective.num_samples=2", "objective.antithetic=true", "training.dtype=bfloat16"],
        ["posterior.where=['fc2/*']", "optimizer.average=0.9"],
        [
            "objective={dnn_factor: 256, bnn_factor: 1.0e-6}",
            "optimizer={name: adam_weight_decay, learning_rate: 1.0e-3}",
            "posterior={mean_init: normal}",
        ],
        ["objective.kl_schedule={name: cyclical, cycles: 2}", "optimizer.warmup_epochs=1"],
    ],
    ids=lambda overrides: overrides[0][:40],
)
def test_every_setting_trains(tmp_path: Path, overrides: list[str]) -> None:
    short = ["training.epochs=2", "evaluation={num_samples: 4, deterministic_baseline: false}"]
    config = small(tmp_path / "run", *short, *overrides)
    summary = experiment.train(config)
    lines = metrics_of(config)
    assert lines[1]["nll"] < lines[0]["nll"]
    assert all(math.isfinite(summary[name]) for name in ("accuracy", "nll", "ece", "kl"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.batch_size=300"], "batch_size"),
        (["data.train_examples=null", "data.validation=1340"], "batch_size"),
        (["data.mean=[0.1, 0.2]"], "data.mean has 2 values but the images have 1 channels"),
        (["model={name: lenet5}"], "lenet5 needs images of at least 16x16"),
        (["posterior.where=['conv9/*']"], "matches no weight"),
        (["objective.kl_every=9"], "is more than the 8 steps of an epoch"),
        (["estimator={'conv9/*': flipout, '*': reparam}"], "matches no random weight"),
    ],
    ids=lambda x: x[0][:40] if isinstance(x, list) else "",
)
def test_settings_that_do_not_fit_the_data(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises((RunError, configs.ConfigError), match=message):
        experiment.train(small(tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_learnt_and_held_against_its_law(tmp_path: Path, name: str) -> None:
    overrides = [
        "training.epochs=1",
        "objective.kl_schedule={name: constant}",
        "evaluation.num_samples=4",
        "evaluation.baseline_epochs=1",
        f"output.dir={tmp_path / 'run'}",
    ]
    config = configs.load(CONFIGS / f"{name}.yaml", overrides)
    summary = experiment.train(config)
    for scores in (summary, summary["deterministic"]):
        assert 0.0 <= scores["coverage_of_90_percent"] <= 1.0
        assert math.isfinite(scores["nll"])
        assert scores["rmse"] > 0.0
    for place in ("inside", "outside"):
        assert summary[place]["epistemic_std"] > 0.0
        assert summary[place]["aleatoric_std"] > 0.0
    assert ("noise_correlation" in summary["inside"]) == (name == "heteroscedastic_curve")
    assert all(line["rmse"] > 0.0 for line in metrics_of(config))
    assert experiment.evaluate(tmp_path / "run") == summary


def test_the_generator_of_the_noise_is_the_configs(tmp_path: Path) -> None:
    short = ["training.epochs=1", "evaluation={num_samples: 4, deterministic_baseline: false}"]
    nll = {}
    for name in ("null", "hash"):
        config = small(tmp_path / name, f"training.generator={name}", *short)
        nll[name] = experiment.train(config)["nll"]
    assert experiment.evaluate(tmp_path / "hash")["nll"] == nll["hash"]
    assert nll["null"] != nll["hash"]


@pytest.mark.parametrize("count", ["3", "4"])
def test_an_odd_number_of_samples_has_no_pairs(tmp_path: Path, count: str) -> None:
    config = small(tmp_path / "run", "training.epochs=1", f"evaluation.num_samples={count}")
    assert experiment.train(config)["num_samples"] == int(count)


def test_the_baseline_is_kept(tmp_path: Path) -> None:
    config = small(tmp_path / "run", "training.epochs=1")
    experiment.train(config)
    run = experiment.load(tmp_path / "run")
    like = gaussian.mean(run.state.posterior)
    baseline = RunFolder(tmp_path / "run").restore_baseline(like)
    assert jax.tree.structure(baseline) == jax.tree.structure(like)
    means, weights = jax.tree.leaves(like), jax.tree.leaves(baseline)
    assert all((a != b).any() for a, b in zip(means, weights, strict=True))
    assert RunFolder(tmp_path / "none").restore_baseline(like) is None
    (tmp_path / "run" / "baseline" / "_METADATA").write_text("{")
    with pytest.raises(RunError, match=r"The deterministic baseline .* cannot be read"):
        RunFolder(tmp_path / "run").restore_baseline(like)


def test_a_temperature_is_for_the_evaluation_of_weight_samples_alone(tmp_path: Path) -> None:
    config = small(tmp_path / "run", "training.epochs=1")
    before = experiment.train(config)
    baseline = before.pop("deterministic")
    sure = experiment.evaluate(tmp_path / "run", ["evaluation.temperature=0.01"])
    assert sure["deterministic"] == baseline
    assert sure["nll"] > 2 * before["nll"]  # after one epoch it is not right so often
    run = experiment.load(tmp_path / "run", ["evaluation.temperature=0.01"])
    images, _ = run.images.held_out
    means = gaussian.mean(run.state.posterior)
    drawn, at_mean = (run.predict(q, images) for q in (run.state.posterior, means))
    assert drawn.expected_entropy.mean() < 0.1 * at_mean.expected_entropy.mean()


def test_images_are_padded_with_black(tmp_path: Path) -> None:
    settings = ["data.padding=2", "data.mean=0.5", "data.std=0.25"]
    images = run_data.load(small(tmp_path / "run", *settings))
    batch = images.train[0][:3]
    expected = np.pad(np.asarray(batch) / 255.0, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_allclose(images.as_inputs(batch), (expected - 0.5) / 0.25, atol=1e-6)


def test_padding_makes_room_for_the_convolutions(tmp_path: Path) -> None:
    short = ["training.epochs=1", "evaluation={num_samples: 2, deterministic_baseline: false}"]
    config = small(tmp_path / "run", "model={name: lenet5}", "data.padding=4", *short)
    assert experiment.train(config)["num_random_weights"] > 0


def test_a_second_run_takes_the_next_folder(tmp_path: Path) -> None:
    first = RunFolder.new(tmp_path / "run")
    assert first.path == tmp_path / "run"
    first.create(small(tmp_path / "run"))
    RunFolder(tmp_path / "run-2").create(small(tmp_path / "run"))
    assert RunFolder.new(tmp_path / "run").path == tmp_path / "run-3"
    assert not (tmp_path / "run-3").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot be made"):
            experiment.train(small(path))


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    config = small(tmp_path / "run", "training.epochs=1")
    experiment.train(config)
    for file in (tmp_path / "run" / "checkpoint").rglob("_METADATA"):
        file.write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        experiment.evaluate(tmp_path / "run")


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        experiment.train(small(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_resume_needs_the_same_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.yaml"):
        experiment.train(small(tmp_path / "none"), resume=True)
    folder = RunFolder(tmp_path / "run")
    folder.create(small(tmp_path / "run"))
    with pytest.raises(RunError, match="no checkpoint"):
        experiment.train(small(tmp_path / "run"), resume=True)
    with pytest.raises(RunError, match="training.epochs"):
        experiment.train(small(tmp_path / "run", "training.epochs=4"), resume=True)
    with pytest.raises(RunError, match="seed"):
        experiment.train(small(tmp_path / "run", "seed=3"), resume=True)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.yaml"]
    assert not (tmp_path / "none").exists()


def test_the_second_ctrl_c_interrupts_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with loops.interruptible() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_interruptible_works_outside_the_main_thread() -> None:
    answers = []

    def work() -> None:
        with loops.interruptible() as interrupted:
            answers.append(interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
