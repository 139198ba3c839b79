"""The code of docs/evaluation.md runs and gives the results that the page states."""

import math
from pathlib import Path

import numpy as np

from bnn_jax.toolbox import metrics
from test_docs import run_blocks

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_page() -> None:
    names = run_blocks(PAGE)
    p, labels = names["p"], names["labels"]
    assert p.shape == (len(labels), 8)
    assert float(metrics.accuracy(p, labels)) > 0.9
    assert names["bins"].counts.sum() == len(labels)
    assert float(metrics.nll(names["scaled"], labels)) < float(metrics.nll(p, labels)) + 0.01
    assert float(metrics.accuracy(names["scaled"], labels)) == float(metrics.accuracy(p, labels))
    assert 0 <= float(names["area"]) < names["wrong"].mean()
    assert float(names["auroc"]) > 0.8
    assert float(names["alarms"]) < 1
    # 5 standard deviations of the coverage, given 354 examples to calibrate and as many to test.
    tolerance = 5 * np.sqrt(2 * 0.09 / 354)
    assert float(names["held"]) > 0.9 - tolerance
    assert 1 <= float(names["size"]) < 8
    assert float(names["inside"]) < 0.7
    assert abs(float(names["corrected"]) - 0.9) < tolerance
    assert float(names["gap"]) > 0.05
    assert abs(float(names["estimate"]) - float(names["crps"])) < 0.1
    assert 0.9 < float(names["same_class"]) <= 1
    assert 0 < float(names["distance"]) < 0.2
    assert abs(float(names["shift"]) - math.erf(0.5 / math.sqrt(8))) < 1e-4
    assert abs(float(names["moved"]) - 0.5) < 1e-4


def test_the_table_names_what_there_is() -> None:
    rows = [line.split("|")[2:4] for line in PAGE.read_text().splitlines() if "` |" in line]
    assert len(rows) == 9
    for file, functions in rows:
        module = __import__(f"bnn_jax.toolbox.{file.strip(' `')}", fromlist=["*"])
        for name in functions.split("`")[1::2]:
            assert callable(getattr(module, name)), name
