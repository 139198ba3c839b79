"""The tables of a report."""

from collections.abc import Mapping

from bnn_jax.experiment.folder import Record
from bnn_jax.report.classifier_scores import NAMES
from bnn_jax.report.page import Table

_Forms = Mapping[str, tuple[str, float, str]]  # key: name, factor, format
_QUALITY: _Forms = {
    "accuracy": ("accuracy, %", 100.0, ".2f"),
    "nll": ("negative log likelihood, nats", 1.0, ".4f"),
    "brier": ("Brier score, 0 to 2", 1.0, ".4f"),
    "ece": ("expected calibration error, %", 100.0, ".2f"),
    "adaptive_ece": ("the same, with bins of equal mass, %", 100.0, ".2f"),
    "classwise_ece": ("class-wise calibration error, %", 100.0, ".3f"),
}
_REGRESSION: _Forms = {
    "rmse": ("root mean squared error", 1.0, ".4g"),
    "nll": ("negative log likelihood, nats", 1.0, ".4f"),
    "crps_of_gaussian": ("CRPS of a Gaussian of the same mean and std", 1.0, ".4g"),
    "coverage_of_90_percent": ("targets in their 90 % interval, %", 100.0, ".1f"),
    "width_of_90_percent": ("mean width of 90 % intervals", 1.0, ".4g"),
    "quantile_calibration_error": ("calibration error of quantiles, %", 100.0, ".2f"),
    "aleatoric_std": ("root mean aleatoric variance", 1.0, ".4g"),
    "epistemic_std": ("root mean epistemic variance", 1.0, ".4g"),
}
_LAYERS_SHOWN = 60


def quality_table(numbers: Record) -> Table:
    """Returns the scores of a classifier's predictive, posterior mean and baseline."""
    columns = _predictors(numbers)
    rows = _rows(columns, _QUALITY)
    by_entropy = ("predictive_entropy", "posterior_mean_entropy", "baseline_entropy")
    aurc = [
        column.get("aurc", {}).get(name)
        for column, name in zip(columns.values(), by_entropy, strict=False)
    ]
    rows.append(["AURC by entropy, %", *(_number(value, 100.0, ".3g") for value in aurc)])
    sets = [column.get("conformal_sets_of_95_percent", {}) for column in columns.values()]
    for name, key, factor, form in (
        ("labels in their conformal set of 95 %, %", "coverage", 100.0, ".1f"),
        ("mean number of classes in it", "mean_size", 1.0, ".3g"),
    ):
        rows.append([name, *(_number(found.get(key), factor, form) for found in sets)])
    return Table(
        "Higher is better for accuracy, closer to 95 for conformal sets, lower for all others. "
        + _explanation(numbers)
        + f" Calibration errors have {numbers['ece_bins']} bins. The threshold of the conformal "
        "sets of each half of the examples is computed from the other half.",
        ["", *columns],
        rows,
    )


def regression_table(numbers: Record) -> Table:
    """Returns the scores of a regression's predictive, posterior mean and baseline."""
    columns = _predictors(numbers)
    return Table(
        "Lower is better for errors, negative log likelihood and CRPS; narrower is better for "
        "intervals with the right coverage. Values without % or nats are in the unit of the "
        "target. " + _explanation(numbers),
        ["", *columns],
        _rows(columns, _REGRESSION),
    )


def _predictors(numbers: Record) -> dict[str, Record]:
    predictive = numbers["posterior_predictive"]
    columns = {
        f"{predictive['num_samples']} samples": predictive,
        "posterior mean": numbers["posterior_mean"],
    }
    baseline = numbers["deterministic_baseline"]
    return columns | ({"deterministic baseline": baseline} if baseline else {})


def _rows(columns: Mapping[str, Record], forms: _Forms) -> list[list[str]]:
    return [
        [name, *(_number(column.get(key), factor, form) for column in columns.values())]
        for key, (name, factor, form) in forms.items()
    ]


def _explanation(numbers: Record) -> str:
    baseline = numbers["deterministic_baseline"]
    return "The posterior mean is one network with the weights at their mean" + (
        "; the baseline is the same network trained with ordinary weights." if baseline else "."
    )


def detection_table(numbers: Record) -> Table:
    """Returns how well each score separates each other data set from the run's own."""
    rows = []
    sets = numbers["out_of_distribution"]
    for name, found in sets.items():
        for key, words in NAMES.items():
            if key not in found:
                continue
            score = found[key]
            rows.append(
                [
                    name,
                    words,
                    str(score["num_samples"]),
                    _number(score["auroc"], 1.0, ".4f"),
                    _number(score["aupr"], 1.0, ".4f"),
                    _number(score["fpr_at_95_tpr"], 100.0, ".1f"),
                ]
            )
    temperature = numbers["ood_temperature"]
    tempered = "" if temperature == 1 else f"Tempered: logits divided by {temperature:g}. "
    images = "; ".join(
        f"{name}: {found['num_images']:,} images"
        + (f", {found['changes']}" if found["changes"] else "")
        + f", chance AUPR {found['share_of_all']:.2f}"
        for name, found in sets.items()
    )
    return Table(
        f"Detection of images not from {numbers['data']}. AUROC and AUPR: higher is better, "
        "the other set is the positive class; chance AUROC is 0.5. False alarms: the share of "
        f"{numbers['data']} images that are flagged when 95 % of the others are. "
        f"{tempered}{images}.",
        ["other set", "score", "samples", "AUROC", "AUPR", "false alarms, %"],
        rows,
    )


def layer_table(numbers: Record) -> Table:
    """Returns the posterior statistics of each random weight array."""
    posterior = numbers["posterior"]
    layers = posterior["layers"]
    rows = [
        [
            path,
            f"{layer['size']:,}",
            _number(layer["rms_mean"], 1.0, ".3g"),
            _number(layer["std_median"], 1.0, ".3g"),
            _number(layer["signal_to_noise_median"], 1.0, ".3g"),
            _number(layer["signal_to_noise_share_below_1"], 100.0, ".1f"),
        ]
        for path, layer in list(layers.items())[:_LAYERS_SHOWN]
    ]
    kl = posterior["kl"]
    left_out = len(layers) - len(rows)
    return Table(
        f"{posterior['num_random_weights']:,} random weights"
        + ("" if kl is None else f", KL(posterior || prior) {kl:,.0f} nats")
        + ". The signal-to-noise ratio of a weight is |mean| / std."
        + (f" {left_out} more arrays are in metrics.json." if left_out else ""),
        ["weights", "number", "rms of means", "median std", "median |mean| / std", "below 1, %"],
        rows,
    )


def _number(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else format(factor * value, form)
