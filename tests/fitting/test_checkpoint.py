"""Checkpoints: what is saved is read back exactly, and only by the fit that it belongs to."""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from bnn_jax.fitting import files, sealed
from bnn_jax.fitting.checkpoint import CheckpointError, CheckpointWarning, Folder, hash_of

IDENTITY = {"data": "d", "settings": "s"}


def tree(value: float = 1.0) -> dict[str, Any]:
    return {
        "weights": jnp.full((3, 2), value, jnp.float32),
        "low": jnp.full((2,), value, jnp.bfloat16),
        "step": jnp.asarray(7, jnp.int32),
        "none": jnp.zeros((0, 4)),
        "key": jax.random.key(3),
    }


def same(one: Any, other: Any) -> None:
    def values(leaf: jax.Array) -> Any:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(values(a), values(b)), one, other)


def test_arrays_keys_and_the_record_are_read_back_exactly(tmp_path: Path) -> None:
    record = {"history": [{"nll": 0.1 + 0.2, "bad": float("inf")}], "stopped": False}
    folder = Folder(tmp_path / "fit", IDENTITY)
    assert folder.restore(tree()) is None
    assert not (tmp_path / "fit").exists()
    folder.save(5, tree(np.pi), record)
    found = Folder(tmp_path / "fit", IDENTITY).restore(tree(0.0))
    assert found is not None
    same(found[0], tree(np.pi))
    assert found[0]["none"].shape == (0, 4)
    assert found[1] == record


def test_the_sharding_is_that_of_the_given_state(tmp_path: Path) -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    state = {"w": jax.device_put(jnp.arange(4.0), sharding)}
    folder = Folder(tmp_path, IDENTITY)
    folder.save(0, state, {})
    found = folder.restore(state)
    assert found is not None
    same(found[0], state)
    assert found[0]["w"].sharding == sharding


def test_the_newest_three_are_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path, IDENTITY)
    for step in range(5):
        folder.save(step, tree(step), {})
    assert [p.name for p in folder.checkpoints()] == [f"{i:06}-step-{i}" for i in (2, 3, 4)]
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in folder.checkpoints()}


def test_a_damaged_checkpoint_is_named_once_and_the_one_before_is_used(tmp_path: Path) -> None:
    folder = Folder(tmp_path, IDENTITY)
    for step in range(3):
        folder.save(step, tree(step), {"step": step})
    broken = folder.checkpoints()[-1] / "contents.json"
    broken.write_bytes(broken.read_bytes()[:-30])
    with pytest.warns(CheckpointWarning, match="000002-step-2/contents.json is damaged") as seen:
        found = folder.restore(tree())
    assert len(seen) == 1
    assert found is not None
    same(found[0], tree(1.0))
    assert found[1] == {"step": 1}
    folder.save(2, tree(2.0), {"step": 2})
    assert [p.name for p in folder.checkpoints()] == [
        "000000-step-0",
        "000001-step-1",
        "000003-step-2",
    ]
    assert Folder(tmp_path, IDENTITY).restore(tree())[1] == {"step": 2}  # type: ignore[index]


def test_no_whole_checkpoint_is_one_error(tmp_path: Path) -> None:
    folder = Folder(tmp_path, IDENTITY)
    for step in range(2):
        folder.save(step, tree(step), {})
    for path in folder.checkpoints():
        (path / "contents.json").unlink()
    with pytest.raises(CheckpointError, match="No checkpoint in .* is whole: .*cannot be read"):
        folder.restore(tree())


def test_another_fit_or_another_structure_is_refused(tmp_path: Path) -> None:
    Folder(tmp_path, IDENTITY).save(0, tree(), {})
    with pytest.raises(CheckpointError, match=r"another fit \(different data\)"):
        Folder(tmp_path, {**IDENTITY, "data": "e"}).restore(tree())
    with pytest.raises(CheckpointError, match="another version .*the array low is"):
        Folder(tmp_path, IDENTITY).restore({**tree(), "low": jnp.zeros(2)})


def test_an_array_that_orbax_returns_changed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed.write(tmp_path / "s", {"w": jnp.ones(3)}, {})
    restore = sealed.ocp.Checkpointer.restore

    def changed(*args: Any, **kwargs: Any) -> Any:
        return jax.tree.map(lambda a: a.at[1].add(1e-6), restore(*args, **kwargs))

    monkeypatch.setattr(sealed.ocp.Checkpointer, "restore", changed)
    with pytest.raises(sealed.BrokenError, match="the array w in .* is not the one"):
        sealed.read(tmp_path / "s", {"w": jnp.zeros(3)})


def test_a_failed_save_leaves_nothing_and_keeps_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path, IDENTITY)
    folder.save(0, tree(), {"step": 0})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            folder.save(1, tree(2.0), {"step": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["000000-step-0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert folder.restore(tree()) is not None


def test_hashes_differ_by_names_shapes_dtypes_and_values() -> None:
    x = np.arange(6.0, dtype=np.float32)
    changed = x.copy()
    changed[3] += 1e-6
    variants = [x, x.reshape(2, 3), x.astype(np.float64), changed, {"a": x}, {"b": x}, (x, x)]
    assert len({hash_of(v) for v in variants}) == len(variants)
    assert hash_of(jnp.asarray(x)) == hash_of(x.copy())
    assert hash_of(jax.random.key(1)) != hash_of(jax.random.key(2))


def test_atomic_write_never_follows_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "link").symlink_to(victim)
    files.write_json(tmp_path / "link", {"a": float("nan"), "b": [1, float("inf")]})
    assert victim.read_text() == "untouched"
    assert json.loads((tmp_path / "link").read_text()) == {"a": None, "b": [1, None]}
