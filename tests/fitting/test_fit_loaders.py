"""`fit` on grain loaders: equal to arrays, resumed bit for bit, and refused where it cannot be."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bnn_jax import Fit, NormalPrior, fit, infer, likelihoods, to_bnn
from bnn_jax.data import DataError
from bnn_jax.fitting import Keys, loop

grain = pytest.importorskip("grain")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype(np.float32)
LABELS = (X.sum(axis=1) > 0).astype(np.int32)
KEYS = Keys(*jax.random.split(jax.random.key(0), 4))


def model(outputs: int = 2) -> Any:
    network = nn.Dense(outputs)
    return to_bnn(network, network.init(jax.random.key(0), X), prior=NormalPrior(std=1.0))


def run(data: Any, **options: Any) -> Fit:
    settings: dict[str, Any] = {
        "method": infer.bayes_by_backprop(learning_rate=0.05),
        "likelihood": likelihoods.Categorical(),
        "epochs": 3,
        "progress": False,
        **options,
    }
    return fit(KEYS, settings.pop("model", model()), data, **settings)


class Examples:
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": X[index], "y": LABELS[index]}

    def __repr__(self) -> str:
        return "Examples()"


def map_dataset(size: int = 16, **options: Any) -> Any:
    shuffled = grain.MapDataset.source(Examples()).shuffle(seed=1)
    return shuffled.batch(size, **{"drop_remainder": True, **options})


def iter_dataset() -> Any:
    return map_dataset().to_iter_dataset()


def data_loader() -> Any:
    sampler = grain.samplers.IndexSampler(
        num_records=len(X),
        shuffle=True,
        seed=1,
        num_epochs=2,
        shard_options=grain.sharding.NoSharding(),
    )
    return grain.DataLoader(
        data_source=Examples(),
        sampler=sampler,
        operations=[grain.transforms.Batch(batch_size=16, drop_remainder=True)],
        worker_count=0,
    )


LOADERS: dict[str, tuple[Callable[[], Any], dict[str, int]]] = {
    "MapDataset": (map_dataset, {}),
    "endless MapDataset": (lambda: map_dataset().repeat(), {"num_data": 64}),
    "IterDataset": (iter_dataset, {"num_data": 64, "steps_per_epoch": 3}),
    "DataLoader": (data_loader, {"num_data": 64}),
}


@pytest.mark.parametrize(
    "method",
    [infer.bayes_by_backprop(learning_rate=0.05), infer.laplace(curvature="diagonal")],
    ids=["bayes_by_backprop", "laplace"],
)
def test_a_loader_of_the_same_batches_gives_the_fit_of_the_arrays(method: Any) -> None:
    orders = [
        np.asarray(jax.random.permutation(jax.random.fold_in(KEYS.order, epoch), 64))
        for epoch in range(3)
    ]
    batches = [(X[rows], LABELS[rows]) for order in orders for rows in order.reshape(4, 16)]
    by_loader = run(grain.MapDataset.source(batches), method=method, num_data=64, steps_per_epoch=4)
    by_arrays = run((X, LABELS), method=method, batch_size=16)
    for a, b in zip(*map(jax.tree.leaves, (by_loader.posterior, by_arrays.posterior)), strict=True):
        # Laplace adds up the curvature in another order, and its precision is optimised.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    losses = [[line["loss"] for line in f.history] for f in (by_loader, by_arrays)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert by_loader.num_data == 64
    assert by_loader.num_steps == 12


@pytest.mark.parametrize("kind", LOADERS)
def test_an_interrupted_fit_resumes_bit_for_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is interrupted within an epoch, before and after the loader's first pass ends."""
    make, sizes = LOADERS[kind]
    advance = loop.Progress.advance
    steps: list[int] = []

    def stop(self: loop.Progress, count: int, numbers: object) -> None:
        steps.append(count)
        if len(steps) in (3, 7):
            signal.raise_signal(signal.SIGINT)
        advance(self, count, None)

    whole = run(make(), epochs=4, **sizes)
    monkeypatch.setattr(loop.Progress, "advance", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(make(), epochs=4, checkpoint=tmp_path, **sizes)
    again = run(make(), epochs=4, checkpoint=tmp_path, **sizes)
    assert len(steps) == whole.num_steps
    jax.tree.map(np.testing.assert_array_equal, again.posterior, whole.posterior)
    assert [line["loss"] for line in again.history] == [line["loss"] for line in whole.history]


def test_each_epoch_of_a_map_dataset_has_its_own_order() -> None:
    seen: list[np.ndarray] = []

    def remember(inputs: np.ndarray) -> np.ndarray:
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), inputs)
        return inputs

    result = run(map_dataset(), model=model().preprocessed(remember), epochs=2)
    jax.effects_barrier()
    assert result.num_data == 64
    epochs = [np.concatenate(seen[start : start + 4]) for start in (0, 4)]
    assert not np.array_equal(*epochs)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch[:, 0]), np.sort(X[:, 0]))


class Normalised(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.last = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.norm(x))


def test_batch_statistics_are_those_of_one_pass() -> None:
    result = run(map_dataset(), model=to_bnn(Normalised(nnx.Rngs(0))), epochs=1)
    statistics = [np.asarray(v) for v in jax.tree.leaves(result.posterior.variables)]
    batches = [batch["x"] for batch in map_dataset()]
    expected = np.mean([batch.mean(axis=0) for batch in batches], axis=0)
    assert any(s.shape == (3,) and np.allclose(s, expected, atol=1e-5) for s in statistics)


def broken(number: int, **changes: Any) -> Any:
    """A loader with an error in one of its batches."""
    batches = [{"x": X[i : i + 16], "y": LABELS[i : i + 16]} for i in range(0, 64, 16)]
    batches[number] = {**batches[number], **changes}
    return grain.MapDataset.source(batches)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "number of examples": (iter_dataset, {}, "num_data must be given for a .*IterDataset"),
    "endless": (lambda: map_dataset().repeat(), {}, "num_data must be given"),
    "of a DataLoader": (data_loader, {}, "num_data must be given for a DataLoader"),
    "num_data of arrays": (lambda: (X, LABELS), {"num_data": 64}, "num_data is for a grain loader"),
    "num_data 0": (iter_dataset, {"num_data": 0}, "num_data must be a whole number"),
    "num_data of less": (iter_dataset, {"num_data": 9}, "at least the 16 examples of a batch"),
    "steps 0": (map_dataset, {"steps_per_epoch": 0}, "steps_per_epoch must be a whole number"),
    "batch size": (map_dataset, {"batch_size": 16}, "a loader yields batches"),
    "standardize": (map_dataset, {"standardize": True}, "scale the examples in the loader"),
    "nuts": (map_dataset, {"method": infer.nuts()}, "takes all examples in each step"),
    "steps of a call": (map_dataset, {"steps_per_call": 5}, "steps_per_call must be 1"),
    "no batches": (lambda: grain.MapDataset.source([]), {}, "yields no batch"),
    "examples": (lambda: grain.MapDataset.source(Examples()), {}, "must yield batches"),
    "remainder": (lambda: map_dataset(48, drop_remainder=False), {}, "batches must agree"),
    "form": (lambda: grain.MapDataset.source([X, X]), {}, "must be .inputs, targets."),
    "names": (lambda: grain.MapDataset.source([{"a": X, "b": X}]), {}, "got dict with a, b"),
    "a generator": (lambda: iter([(X, LABELS)]), {}, "or a grain loader, got"),
    "late NaN": (lambda: broken(2, x=np.full((16, 3), np.nan, "f4")), {}, "NaN or infinite"),
    "late label": (lambda: broken(1, y=np.full(16, 7, "i4")), {}, "below the network's 2 classes"),
    "late shape": (lambda: broken(2, x=np.ones((16, 2), "f4")), {}, "batch 2 of the loader"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_loader_is_one_clear_error(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    make, options, message = WRONG[case]
    with pytest.raises((TypeError, ValueError), match=message):
        run(make(), **options)


def test_the_checkpoint_of_another_loader_is_refused(tmp_path: Path) -> None:
    run(map_dataset(), epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="another fit .different data"):
        run(map_dataset(8), epochs=1, checkpoint=tmp_path)


def test_a_state_that_the_loader_cannot_take_is_refused(tmp_path: Path) -> None:
    first = run(data_loader(), num_data=64, epochs=1, checkpoint=tmp_path)
    assert first.num_steps == 4
    with pytest.raises(DataError, match="cannot continue from the state of the checkpoint"):
        run(iter_dataset(), num_data=64, epochs=1, checkpoint=tmp_path)
