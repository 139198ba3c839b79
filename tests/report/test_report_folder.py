"""The report of a run: the files that it writes, and errors before anything is written."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from report_helpers import classifier, drawn_texts, regression_findings
from test_report_page import assert_self_contained

from bnn_jax import config as configs
from bnn_jax import data, experiment, gaussian, report
from bnn_jax.experiment.folder import RunError, RunFolder
from bnn_jax.gaussian import random_leaves
from bnn_jax.likelihoods import Normal
from bnn_jax.predictive.posterior_predictive import predict
from bnn_jax.report import classifier_gather, folder, regression_gather
from bnn_jax.report import of_run as run_report

LENET = Path(__file__).parents[2] / "configs" / "lenet5.yaml"
PICTURES = [
    "images",
    "posterior_width",
    "reliability",
    "risk_coverage",
    "rotation",
    "signal_to_noise",
    "training",
    "uncertainty",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network."""
    run_folder = tmp_path_factory.mktemp("report") / "small"
    overrides = [
        "model={name: mlp, hidden: [16]}",
        "data.image_size=null",
        "data.train_examples=256",
        "data.test_examples=60",
        "training.batch_size=32",
        "training.epochs=3",
        "training.evaluate_every=1",
        "optimizer.learning_rate=1.0e-2",
        "evaluation.num_samples=4",
        "evaluation.baseline_epochs=1",
        "evaluation.ood_temperature=3.0",
        f"output.dir={run_folder}",
    ]
    experiment.train(configs.load(LENET, overrides))
    return run_folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may change."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set but digits is one of noise."""
    load = data.load

    def fake(name: str, **arguments: Any) -> data.ImageDataset:
        if name == "digits":
            return load(name, **arguments)
        images = np.random.default_rng(0).integers(0, 256, (70, 5, 5, 3), np.uint8)
        labels = np.arange(70) % 2
        names = ["<noise>", "$noise$"]
        return data.from_arrays(images, labels, images, labels, name=name, label_names=names)

    monkeypatch.setattr(data, "load", fake)


def test_summary_and_report_predict_the_held_out_examples_once(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    predict_of = experiment.Run.predict

    def counted(self: Any, posterior: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        if random_leaves(posterior):
            drawn.append(len(inputs))
        return predict_of(self, posterior, inputs, *args, **options)

    monkeypatch.setattr(experiment.Run, "predict", counted)
    loaded = experiment.load(run)
    experiment.summarise(loaded, run)
    report.write(run, loaded)
    assert drawn.count(60) == 1


@pytest.mark.parametrize("baseline", [True, False])
def test_report_of_a_run(
    run: Path, others: None, baseline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not baseline:
        shutil.rmtree(run / "baseline")
    gathered: list[report.ClassifierFindings] = []

    def gather(*arguments: Any) -> report.ClassifierFindings:
        gathered.append(classifier_gather.gather_classifier(*arguments))
        return gathered[0]

    monkeypatch.setattr(folder, "gather_classifier", gather)
    summary = json.loads((run / "summary.json").read_text())
    numbers = report.write(run, experiment.load(run), ood=["mnist", "emnist/letters"])
    target = run / "report"
    assert json.loads((target / "metrics.json").read_text()) == numbers
    html = (target / "index.html").read_text(encoding="utf-8")
    reader = assert_self_contained(html)
    stems = [*PICTURES, "images_emnist-letters", "images_mnist"]
    files = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert {p.name for p in target.iterdir()} == files | {"index.html", "metrics.json"}
    assert sum(tag == "img" for tag, _ in reader.tags) == len(stems)
    assert len(html) < 3e6
    # The same posterior and samples as the run's own evaluation, by another path.
    predictive = numbers["posterior_predictive"]
    assert predictive["num_samples"] == 4
    assert predictive["accuracy"] > 0.2
    assert abs(predictive["accuracy"] - summary["accuracy"]) < 0.1
    accuracy = numbers["deterministic_baseline"]["accuracy"]
    assert accuracy == pytest.approx(summary["deterministic"]["accuracy"], abs=1e-6)
    for name in ("mnist", "emnist/letters"):
        found = numbers["out_of_distribution"][name]
        assert found["changes"] == "converted to gray, resized from 5x5 to 8x8"
        assert found["num_images"] == 60
        assert found["mutual_information"]["num_samples"] == 4
        assert 0.0 <= found["mutual_information"]["auroc"] <= 1.0
        assert found["tempered_mutual_information"]["num_samples"] == 4
        assert ("baseline_entropy" in found) == ("tempered_baseline_entropy" in found) == baseline
    assert "Tempered: logits divided by 3." in html
    assert not [p for p in run.iterdir() if p.name.startswith(".report")]
    assert_tempered(gathered[0], run)
    assert_turned_image_is_recognised(gathered[0])


def assert_tempered(findings: report.ClassifierFindings, run: Path) -> None:
    loaded = experiment.load(run)
    posterior = loaded.weights
    baseline = RunFolder(run).restore_baseline(gaussian.mean(posterior))
    for group in (findings.held_out, *findings.others):
        for weights, tempered in ((posterior, group.tempered), (baseline, group.baseline_tempered)):
            assert (weights is None) == (tempered is None)
            if weights is not None:
                logits = loaded.predict(weights, group.images, keep_samples=True).samples
                probabilities = np.asarray(jax.nn.softmax(logits / 3.0)).mean(axis=0)
                assert tempered is not None
                np.testing.assert_allclose(tempered.probabilities, probabilities, rtol=1e-4)


def assert_turned_image_is_recognised(findings: report.ClassifierFindings) -> None:
    assert findings.rotation is not None
    assert findings.rotation.label_name == "1"
    assert findings.rotation.predictive.num_samples == classifier_gather.ROTATION_SAMPLES
    own = findings.held_out
    assert own.labels is not None
    index = int(np.argmax((own.images == findings.rotation.images[0]).all(axis=(1, 2, 3))))
    assert own.labels[index] == own.predictive.probabilities[index].argmax() == 1


def small(**changes: Any) -> report.RegressionFindings:
    """Findings that make a short report."""
    findings = regression_findings(one_input=False)
    return dataclasses.replace(findings, **{"weights": {}, "epochs": [], **changes})


def test_a_new_report_replaces_the_old_one(tmp_path: Path) -> None:
    numbers = report.write_findings(tmp_path, regression_findings())
    target = tmp_path / "report"
    assert json.loads((target / "metrics.json").read_text()) == numbers
    assert_self_contained((target / "index.html").read_text("utf-8"))
    names = {p.stem for p in target.glob("*.svg")}
    every = {"observed", "residuals", "intervals"}
    assert names == {"function", "training", "posterior_width", "signal_to_noise"} | every
    report.write_findings(tmp_path, small())
    assert {p.stem for p in target.glob("*.png")} == every
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_a_report_that_fails_keeps_the_old_one(tmp_path: Path) -> None:
    report.write_findings(tmp_path, small())
    before = (tmp_path / "report" / "index.html").read_bytes()
    with pytest.raises(TypeError):
        report.write_findings(tmp_path, small(summary={"deterministic": {"rmse": "bad"}}))
    assert (tmp_path / "report" / "index.html").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_names_are_escaped_and_file_names_plain(tmp_path: Path) -> None:
    nasty = "<b>&\"'/../$x$"
    report.write_findings(
        tmp_path, small(run=nasty, data=nasty, target_name=nasty, settings={nasty: nasty})
    )
    reader = assert_self_contained((tmp_path / "report" / "index.html").read_text("utf-8"))
    assert "b" not in {tag for tag, _ in reader.tags}
    assert any(nasty in text for text in reader.texts)
    assert folder.file_name("emnist/letters:1.0") == "emnist-letters-1.0"
    assert "/" not in folder.file_name(nasty)


def test_gathering_a_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function w * x with w ~ N(2, 0.5): the epistemic variance is (0.5 x)^2."""
    monkeypatch.setattr(regression_gather, "LINE_POINTS", 50)
    posterior = {"w": gaussian.centred(np.full((1, 1), 2.0, np.float32), 0.5)}
    x = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]

    def predictor(posterior: Any, inputs: Any, targets: Any, levels: Any) -> Any:
        return predict(
            jax.random.key(0),
            lambda params, x: x @ params["w"],
            inputs,
            likelihood=Normal(std=0.1),
            posterior=posterior,
            targets=None if targets is None else targets[:, None],
            levels=levels,
            **({"num_samples": 400, "antithetic": True} if random_leaves(posterior) else {}),
        )

    findings = report.gather_regression(
        tmp_path,
        predictor,
        posterior,
        train=(x, 2 * x[:, 0]),
        held_out=(x, 2 * x[:, 0]),
        data="line",
        evaluated_on="test",
        settings={},
        true_mean=lambda x: 2 * x,
    )
    assert findings.line is not None
    places, along = findings.line
    assert places.min() == pytest.approx(-1.6)
    np.testing.assert_allclose(along.mean, 2 * places, atol=1e-5)
    np.testing.assert_array_equal(findings.true_mean, 2 * places)
    # 200 independent pairs: the variance has a relative standard error of sqrt(2 / 200).
    wide = np.abs(places) > 0.1
    ratio = along.epistemic_variance[wide] / (0.5 * places[wide]) ** 2
    np.testing.assert_allclose(ratio, 1.0, atol=5 * np.sqrt(2 / 200))
    np.testing.assert_allclose(findings.at_mean.epistemic_variance, 0.0, atol=1e-9)
    assert findings.train_inputs is not None
    assert findings.predictive.mean.shape == findings.targets.shape == (20,)


def test_missing_matplotlib_is_an_error_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # there is no run yet
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    for call in (lambda: report.require(tmp_path), lambda: report.write(tmp_path, None)):
        with pytest.raises(RunError, match=r"pip install 'bnn-jax\[plot\]'") as error:
            call()
        assert "\n" not in str(error.value)


def test_a_folder_that_is_not_a_report_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="is not a report"):
        report.require(tmp_path)


def test_importing_the_package_does_not_import_matplotlib() -> None:
    code = "import sys, bnn_jax.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pictures_name_the_data_sets() -> None:
    from bnn_jax.report.classifier_contents import classifier_contents
    from bnn_jax.report.classifier_scores import classifier_scores
    from bnn_jax.report.shared_contents import Picture

    findings = classifier(others=0)
    parts = classifier_contents(findings, classifier_scores(findings, bins=15))
    pictures = (part for part in parts if isinstance(part, Picture))
    drawn = next(picture for picture in pictures if picture.name == "uncertainty")
    texts = [text for text, _ in drawn_texts(drawn.figure)]
    assert any(text.startswith("own, correct (") for text in texts)
    assert any(text.startswith("own, wrong (") for text in texts)


def test_the_report_of_a_classifier_of_numbers_has_no_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    np.savez(tmp_path / "data.npz", x=x, y=(x.sum(axis=1) > 0).astype(np.int64))
    text = f"""
data: {{format: npz, path: {tmp_path / "data.npz"}, test: 0.5}}
model: {{name: mlp, hidden: [8]}}
prior: {{name: normal, std: 1.0}}
inference: {{name: ensemble, method: {{name: map, learning_rate: 0.01}}, size: 2}}
training: {{epochs: 4, batch_size: 10}}
output: {{dir: {tmp_path / "run"}}}
"""
    (tmp_path / "config.yaml").write_text(text)
    experiment.train(configs.load(tmp_path / "config.yaml"))
    loaded = experiment.load(tmp_path / "run")
    assert run_report.shows(loaded)
    numbers = run_report.write(tmp_path / "run", loaded)
    assert 0.0 <= numbers["posterior_predictive"]["ece"] <= 1.0
    names = {file.stem for file in (tmp_path / "run" / "report").glob("*.png")}
    assert names == {
        "reliability",
        "risk_coverage",
        "uncertainty",
        "training",
        "partial_dependence",
    }
    assert set(numbers["importance_of_inputs"]) == {"input 0", "input 1", "input 2"}
