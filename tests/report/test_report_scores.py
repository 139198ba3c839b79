"""The scores of a report, compared with scikit-learn and with direct counts."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics
from report_helpers import classifier, regression_findings

from bnn_jax.report.classifier_scores import NAMES, classifier_scores, uncertainties
from bnn_jax.report.findings import Group
from bnn_jax.report.regression_scores import INTERVALS, covered, regression_scores


def scores_of(group: Group) -> dict[str, np.ndarray]:
    """Returns the expected scores."""
    assert group.baseline is not None
    assert group.tempered is not None
    assert group.baseline_tempered is not None
    of = {
        "": group.predictive,
        "posterior_mean_": group.at_mean,
        "baseline_": group.baseline,
        "tempered_": group.tempered,
        "tempered_baseline_": group.baseline_tempered,
    }
    scores = {}
    for prefix, said in of.items():
        entropy = "predictive_entropy" if prefix in ("", "tempered_") else "entropy"
        scores[prefix + entropy] = said.expected_entropy + said.mutual_information
        scores[prefix + "mutual_information"] = said.mutual_information
        scores[prefix + "max_probability"] = 1.0 - said.probabilities.max(axis=1)
    return scores


@pytest.mark.parametrize("classes", [2, 4])
def test_detection_agrees_with_scikit_learn(classes: int) -> None:
    findings = classifier(classes, others=2)
    numbers = classifier_scores(findings, bins=15)
    assert list(numbers["out_of_distribution"]) == ["other0", "other1"]
    for other in findings.others:
        found = numbers["out_of_distribution"][other.name]
        is_out = np.r_[np.zeros(60), np.ones(60)]
        for name in NAMES:
            score = np.r_[scores_of(findings.held_out)[name], scores_of(other)[name]]
            exact = {
                "auroc": sklearn.metrics.roc_auc_score(is_out, score),
                "aupr": sklearn.metrics.average_precision_score(is_out, score),
            }
            fpr, tpr, _ = sklearn.metrics.roc_curve(is_out, score, drop_intermediate=False)
            exact["fpr_at_95_tpr"] = fpr[tpr >= 0.95].min()
            for key, value in exact.items():
                assert found[name][key] == pytest.approx(value, abs=1e-5), (name, key)


def test_scores_have_their_number_of_samples() -> None:
    numbers = classifier_scores(classifier(), bins=15)
    assert numbers["posterior_predictive"]["num_samples"] == 8
    assert numbers["posterior_mean"]["num_samples"] == 1
    found = numbers["out_of_distribution"]["other0"]
    samples = {name: found[name]["num_samples"] for name in NAMES}
    single = ("posterior_mean", "baseline", "tempered_baseline")
    assert samples == {n: 1 if n.startswith(single) else 8 for n in NAMES}


def test_each_predictor_has_its_own_scores() -> None:
    findings = classifier()
    numbers = classifier_scores(findings, bins=15)
    own = findings.held_out
    for name, said in (
        ("posterior_predictive", own.predictive),
        ("posterior_mean", own.at_mean),
        ("deterministic_baseline", own.baseline),
    ):
        p, labels = said.probabilities, own.labels
        wrong = p.argmax(axis=1) != labels
        assert numbers[name]["accuracy"] == pytest.approx(1 - wrong.mean(), abs=1e-6)
        nll = -np.log(p[np.arange(60), labels]).mean()
        assert numbers[name]["nll"] == pytest.approx(nll, rel=1e-4)
        for score, area in numbers[name]["aurc"].items():
            order = np.argsort(uncertainties(own)[score], kind="stable")
            risk = np.cumsum(wrong[order]) / np.arange(1, 61)
            assert area == pytest.approx(risk.mean(), abs=1e-5), score


def test_conformal_sets_hold_the_labels() -> None:
    """Labels drawn from the probabilities themselves, so scores of both halves are alike."""
    findings = classifier(n=4000)
    own = findings.held_out
    rng = np.random.default_rng(0)
    labels = (own.predictive.probabilities.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    own = dataclasses.replace(own, labels=labels.clip(0, 3).astype(np.int32))
    numbers = classifier_scores(dataclasses.replace(findings, held_out=own), bins=15)
    sets = numbers["posterior_predictive"]["conformal_sets_of_95_percent"]
    # 5 standard errors of a coverage with 2000 images to calibrate and 2000 to test.
    assert abs(sets["coverage"] - 0.95) < 5 * np.sqrt(2 * 0.0475 / 2000)
    assert 1.0 < sets["mean_size"] < 4.0


def test_the_shares_of_weights_below_and_above_the_noise() -> None:
    findings = classifier()
    posterior = classifier_scores(findings, bins=15)["posterior"]
    assert posterior["kl"] == 123.0
    assert posterior["num_random_weights"] == 150
    ratios = {path: np.abs(w.mean) / w.std for path, w in findings.weights.items()}
    everything = np.concatenate(list(ratios.values()))
    assert posterior["signal_to_noise_share_below_1"] == np.mean(everything < 1)
    for path, layer in posterior["layers"].items():
        assert layer["size"] == 50
        assert layer["signal_to_noise_median"] == pytest.approx(np.median(ratios[path]))
        assert layer["std_median"] == pytest.approx(np.median(findings.weights[path].std))
        assert layer["std_5_percent"] < layer["std_median"] < layer["std_95_percent"]


def test_a_network_without_random_weights_has_scores() -> None:
    findings = dataclasses.replace(classifier(others=0), weights={}, summary={})
    numbers = classifier_scores(findings, bins=15)
    assert numbers["posterior"] == {"kl": None, "num_random_weights": 0, "layers": {}}
    assert numbers["out_of_distribution"] == {}
    baseline = numbers["deterministic_baseline"]
    assert baseline["num_samples"] == 1
    alone = dataclasses.replace(
        findings, held_out=dataclasses.replace(findings.held_out, baseline=None)
    )
    assert classifier_scores(alone, bins=15)["deterministic_baseline"] is None


def test_regression_numbers() -> None:
    findings = regression_findings(400)
    numbers = regression_scores(findings)
    y, said = findings.targets, findings.predictive
    rmse = np.sqrt(np.mean((y - said.mean) ** 2))
    z = np.abs(y - said.mean) / said.std
    assert numbers["posterior_predictive"]["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert numbers["posterior_predictive"]["coverage_of_90_percent"] == pytest.approx(
        np.mean(z <= 1.6448536), abs=1e-6
    )
    assert numbers["posterior_predictive"]["width_of_90_percent"] == pytest.approx(
        2 * 1.6448536 * said.std.mean(), rel=1e-5
    )
    assert numbers["posterior_mean"]["epistemic_std"] == 0.0
    shares = covered(said, y)
    assert shares.shape == (len(INTERVALS),)
    assert np.all(np.diff(shares) >= 0)
    # z is N(0, 1) / 1.118, as the predictive is a little too wide.
    assert shares[4] > 0.5


def test_scores_are_plain_numbers() -> None:
    for numbers in (
        classifier_scores(classifier(), bins=15),
        regression_scores(regression_findings(400)),
    ):
        assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
