"""The code of docs/mindspore.md runs."""

import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "mindspore.md"


def test_the_code_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert all(np.isfinite(loss) for loss in names["losses"])
    assert names["losses"][-1] < names["losses"][0]
    assert not np.array_equal(names["sampled"], names["mean"])
    assert names["params"]["conv1.weight_posterior.mean"].shape == (6, 1, 5, 5)
    assert names["params"]["fc1.weight_posterior.mean"].shape == (120, 400)
    assert os.listdir(tmp_path) == ["lenet.npz"]
    assert jax.config.jax_numpy_dtype_promotion == "strict"
