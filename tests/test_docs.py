"""The code blocks in README.md and in the documents run without changes."""

import re
from pathlib import Path
from typing import Any

import jax
import pytest

ROOT = Path(__file__).parents[1]


def run_blocks(page: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    # The settings of users, not the strict settings of the tests.
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_key_reuse(False),
    ):
        for block in blocks:
            exec(compile(block, str(page), "exec"), names)
    return names


def test_readme() -> None:
    names = run_blocks(ROOT / "README.md")
    x, y, p = (names[k] for k in ("x", "y", "p"))
    std = p.epistemic_variance**0.5
    assert p.mean.shape == std.shape == x.shape
    assert abs(p.mean - y).max() < 0.3
    assert 0.0 < std.min() < std.max() < 0.5


def test_quickstart(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_blocks(ROOT / "docs" / "quickstart.md")
    assert int(names["state"].step) == 3
    assert float(names["loss"]) > 0.0


def test_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_blocks(ROOT / "docs" / "prediction.md")
    p, curve, one, few, masks = (names[k] for k in ("p", "curve", "one", "few", "masks"))
    assert p.probabilities.shape == (200, 2)
    assert curve.num_samples == 100
    assert one.mutual_information.max() < 1e-6 < few.mutual_information.max()
    assert masks.mutual_information.shape == (200,)
    assert names["candidate"].shape == (1,)
    assert abs(names["slope"]).max() > 0


def test_inference() -> None:
    names = run_blocks(ROOT / "docs" / "inference.md")
    assert names["result"].evaluate(names["x"], names["y"])["rmse"] < 0.2
    assert int(names["state"].step) == 100
    assert names["posterior"].size == 10


@pytest.mark.slow
def test_networks(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "networks.md"
    run_blocks(page)
    printed = capsys.readouterr().out.strip().splitlines()
    shown = [line.strip() for line in page.read_text().splitlines() if line.startswith("    ")]
    table = [line for line in shown if line[:1] in "┏┃┡│├└"]
    assert printed == table


def test_uncertainty_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_blocks(ROOT / "docs" / "uncertainty_evaluation.md")
    x, epistemic, aleatoric = (names[k] for k in ("x", "epistemic", "aleatoric"))
    assert epistemic.shape == (600, 2)
    assert 0.0 <= epistemic.min() <= epistemic.max() <= 0.25
    assert aleatoric[x[:, 1] > 0].mean() > aleatoric[x[:, 1] < 0].mean()
    assert capsys.readouterr().out.strip() == "('layers_0', 'layers_2')"
    assert names["p"].mutual_information.min() >= 0.0


def test_vae(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_blocks(ROOT / "docs" / "vae.md")
    assert names["new"].shape == names["threes"].shape == (16, 8, 8, 1)
    assert names["scores"].shape == names["found"].shape
    normal = names["detector"].predict_outlier_score(names["normal"][:200])
    # The fraction of pairs of a 7 and another digit that are in the correct order.
    assert (names["scores"][:, None] > normal[None]).mean() > 0.7
    assert (names["found"] == (names["scores"] >= names["detector"].threshold)).all()


@pytest.mark.slow
def test_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flatbuffers")
    monkeypatch.chdir(tmp_path)
    names = run_blocks(ROOT / "docs" / "export.md")
    assert len(names["best"]) == 100
    assert len(names["answers"]) == 10
    assert abs(names["pruned"].fraction - 0.75) < 0.01
    assert names["size"] == (tmp_path / "posterior.npz").stat().st_size


def test_links_between_documents_exist() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
