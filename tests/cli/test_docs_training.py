"""The examples of docs/training.md run as they are written, with fewer epochs, on small data."""

import csv
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import cli_helpers as helpers
import numpy as np
import pytest
from PIL import Image

from bnn_jax import cli

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
SHORT = ["training.epochs=6", "evaluation.num_samples=2"]


def section(title: str) -> str:
    """Returns the text of the section with this title."""
    return PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def write_files(text: str, folder: Path) -> None:
    """Writes the code blocks of a section to the files that their first lines name."""
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        first, _, content = block.partition("\n")
        (folder / first.removeprefix("# ")).write_text(content)


def run_commands(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the indented commands of a section in turn."""
    lines = re.findall(r"^    ((?:bnn-jax|python) .*)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        program, *words = shlex.split(line, comments=True)
        if program == "python":
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")
            continue
        short = SHORT if words[0] == "train" else []
        assert cli.main([*words, *short]) == 0, line


@pytest.mark.slow
def test_a_resnet_on_a_folder_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(24):
            pixels = rng.normal(level, 20, (40, 36, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "unsorted").mkdir()
    for i in range(3):
        shutil.copy(tmp_path / "photos" / "dark" / f"{i}.png", tmp_path / "unsorted")
    text = section("Example: your ResNet on a folder of images")
    write_files(text, tmp_path)
    run_commands(text, monkeypatch)
    printed = capsys.readouterr().out
    assert "photos-swag" in printed
    assert "photos-ensemble" in printed
    assert (tmp_path / "photos.png").is_file()
    assert (tmp_path / "runs" / "photos-swag" / "report" / "index.html").is_file()
    assert helpers.read_csv(tmp_path / "photos.csv")["file"] == ["0.png", "1.png", "2.png"]


@pytest.mark.slow
def test_a_transformer_on_a_table_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [
        (f"the {rng.choice(['plot', 'cast'])} was {word}", label)
        for word, label in [("good", "yes"), ("bad", "no"), ("great", "yes"), ("dull", "no")] * 12
    ]
    for name, chosen in (("reviews.csv", rows), ("new.csv", rows[:5])):
        with (tmp_path / name).open("w", newline="") as table:
            csv.writer(table).writerows([("text", "label"), *chosen])
    text = section("Example: your transformer on a table of texts")
    write_files(text, tmp_path)
    run_commands(text, monkeypatch)
    printed = capsys.readouterr().out
    assert "reviews-bayes" in printed
    assert "reviews-laplace" in printed
    found = helpers.read_csv(tmp_path / "predictions.csv")
    assert len(found["class"]) == 5
    assert set(found["class"]) <= {"yes", "no"}
