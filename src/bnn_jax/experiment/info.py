"""What a run folder holds, read from its files alone: no data are loaded and no code is run."""

from pathlib import Path

from bnn_jax.config import own
from bnn_jax.config.schema import Config
from bnn_jax.experiment.folder import POSTERIOR, Record, RunFolder

SCORES = (
    "accuracy",
    "nll",
    "ece",
    "brier",
    "rmse",
    "coverage_of_90_percent",
    "width_of_90_percent",
    "kl",
)


def describe(path: Path) -> Record:
    """Returns a description of a run, as a JSON object.

    Args:
        path: the run folder.

    Returns:
        run, status, method, data, model (with the numbers of weights), training, scores (with the
        set they belong to), diagnosis, settings (all of config.yaml) and files (name: bytes). What
        an unfinished run lacks is null or empty.

    Raises:
        RunError, ConfigError: there is no such run, or a file of it is damaged.
    """
    folder = RunFolder(path)
    config, summary = folder.load_config(), folder.read_summary()
    folder.check_single(config)
    settings = config.model_dump(mode="json", by_alias=True)
    return {
        "run": str(folder.path),
        "status": status_of(folder, summary),
        "method": summary.get("method") or method_of(config),
        "data": {
            "name": config.data.title,
            "num_train": summary.get("num_train"),
            "num_held_out": summary.get("num_held_out"),
            "evaluated_on": summary.get("evaluated_on"),
        },
        "model": {
            "name": network_of(config),
            "num_weights": summary.get("num_weights"),
            "num_random_weights": summary.get("num_random_weights"),
        },
        "training": {
            "epochs": config.training.epochs,
            "steps": summary.get("steps"),
            "seconds": summary.get("train_seconds"),
            "seed": config.seed,
            "device": summary.get("device"),
        },
        "scores": scores_of(summary),
        "deterministic": summary.get("deterministic"),
        "diagnosis": summary.get("diagnosis", []),
        "settings": settings,
        "files": _files(folder.path),
    }


def status_of(folder: RunFolder, summary: Record) -> str:
    """Returns finished, baseline incomplete, interrupted, or not finished."""
    if not (folder.path / POSTERIOR).is_dir():
        return "interrupted" if summary.get("status") == "interrupted" else "not finished"
    return str(summary.get("status", "not finished"))


def scores_of(summary: Record) -> dict[str, float]:
    """Returns the scores of a summary, in a fixed order."""
    return {name: summary[name] for name in SCORES if name in summary}


def method_of(config: Config) -> str:
    """Returns the name of the inference method."""
    return "bayes_by_backprop" if config.inference is None else config.inference.name


def network_of(config: Config) -> str:
    """Returns the name of the network, with its file or module if it is the user's own."""
    model = config.model
    if isinstance(model, own.FileNetwork):
        return f"{model.name} of {model.file}"
    if isinstance(model, own.ImportedNetwork):
        return model.imported
    return model.name


def _files(folder: Path) -> dict[str, int]:
    """The size in bytes of each file and folder of a run."""
    return {
        entry.name + ("/" if entry.is_dir() else ""): sum(
            file.lstat().st_size for file in (entry, *entry.rglob("*")) if not file.is_dir()
        )
        for entry in sorted(folder.iterdir())
    }
