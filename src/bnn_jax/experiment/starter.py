"""A commented config for own data that trains at once: its first lines say how to run it.

The format, the inputs, the categories and the task are found by reading the data; the network, the
method and the length of training by their size. All are a start, to be edited.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bnn_jax import data
from bnn_jax.config import yaml_text
from bnn_jax.config.schema import Config
from bnn_jax.data.csv_file import read_csv_table
from bnn_jax.data.dataset import Splits, Task
from bnn_jax.data.parquet_file import read_parquet_table
from bnn_jax.data.table import Column, Table
from bnn_jax.data.tables import PARQUET
from bnn_jax.experiment import own_data
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.run import set_up

MAX_CLASSES = 20  # of integers; more different ones are numbers
LARGEST_IMAGE = 64
STEPS = 2000  # about as many steps of training


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found in the data: the data section, and notes for its comments."""

    section: Mapping[str, object]
    notes: tuple[str, ...]
    splits: Splits


def write(source: Path, output: Path, *, target: str | None = None) -> str:
    """Writes a config for a CSV, Parquet or npz file, or a folder of images, and returns its text.

    Args:
        source: the data.
        output: the config to write.
        target: of a table, the column to predict, by default the last; of an npz file, the array.

    Raises:
        RunError: the config exists already, or the target is given for a folder.
        DataError: the data cannot be read.
    """
    if output.exists():
        raise RunError(f"{output} exists already: remove it, or set --output to another file.")
    if not output.absolute().parent.is_dir():
        raise RunError(f"the folder of {output} does not exist: create it, or set --output.")
    text = compose(look_at(source, target), output)
    raw = yaml_text.parse(text, source=str(output))
    set_up(Config.model_validate(raw))
    output.write_text(text)
    return text


def look_at(source: Path, target: str | None) -> Found:
    """Reads the data and returns what was found.

    Raises:
        RunError, DataError: as for `write`.
    """
    if source.is_dir():
        if target is not None:
            raise RunError("--target is for tables and npz files: the folders are the classes.")
        return _image_folder(source)
    if source.suffix.lower() == ".npz":
        return _npz(source, target)
    return _table(source, target)


def compose(found: Found, output: Path) -> str:
    """Returns the text of the config."""
    train = found.splits.train
    held_out = {
        "validation": "  validation: 0.1 # held out to choose settings",
        "test": "  test: 0.1 # held out for `bnn-jax evaluate RUN --test`",
    }
    new = [line for part, line in held_out.items() if getattr(found.splits, part) is None]
    count, source = len(train) * (10 - len(new)) // 10, found.section["path"]
    batch_size = max(1, min(32 if count < 5000 else 128, count // 2))
    epochs = int(np.clip(STEPS * batch_size / max(1, count), 10, 200))
    likelihood = own_data.LIKELIHOODS[train.task][0]
    network, reason = _network(found.splits)
    noise = "  # without std: the network predicts the noise" if likelihood == "normal" else ""
    parts = [
        f"# {train.task.capitalize()} on {source}: {count:,} training examples, "
        f"{'x'.join(map(str, train.inputs.shape[1:]))} inputs.",
        "#",
        f"#   bnn-jax train {output}",
        f"#   bnn-jax train {output} training.epochs=5      # with another setting",
        "",
        "seed: 0",
        "",
        *(f"# {note}" for note in found.notes),
        "data:",
        *_indented(found.section),
        *new,
        "",
        f"model: {_flow(network)} # {reason}",
        f"likelihood: {{name: {likelihood}}}{noise}",
        "prior: {name: normal, std: 1.0}",
        "",
        "# Other methods: bayes_by_backprop, ivon, laplace, mc_dropout, swag, sgld, sghmc, hmc,",
        "# nuts.",
        "inference:",
        "  name: ensemble",
        "  size: 5",
        "  method: {name: map, learning_rate: 1.0e-3}",
        "",
        "training:",
        f"  epochs: {epochs}",
        f"  batch_size: {batch_size}",
        f"  evaluate_every: {max(1, epochs // 10)}",
        f"  checkpoint_every: {max(1, epochs // 10)}",
        "",
        "evaluation: {num_samples: 32}",
        f"output: {{dir: {_flow('runs/' + Path(str(source)).stem)}}}",
    ]
    return "\n".join(parts) + "\n"


def _indented(section: Mapping[str, object]) -> list[str]:
    return [f"  {key}: {_flow(value)}" for key, value in section.items()]


def _flow(value: object) -> str:
    """Returns a value as YAML on one line."""
    text = yaml_text.write([value]).strip()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    return text[1:-1]


def _network(splits: Splits) -> tuple[dict[str, object], str]:
    train = splits.train
    if train.kind == "images":
        return {"name": "cnn"}, "convolutions; or {name: resnet20}, {name: vit, args: {...}}"
    features = int(np.prod(train.inputs.shape[1:]))
    hidden = [50] if features <= 10 else [100, 100] if features <= 100 else [200, 200]
    return {"name": "mlp", "hidden": hidden}, f"dense layers for {features} features"


def _image_folder(source: Path) -> Found:
    section: dict[str, object] = {"format": "image_folder", "path": str(source)}
    notes = "The classes are the names of the folders."
    try:
        splits = data.read_image_folder(source)
        size = max(splits.train.inputs.shape[1:3])
    except data.DataError as error:
        if "set image_size" not in str(error):
            raise
        size = LARGEST_IMAGE + 1
    if size > LARGEST_IMAGE:
        section["image_size"] = LARGEST_IMAGE
        splits = data.read_image_folder(source, image_size=LARGEST_IMAGE)
    return Found(section, (notes,), splits)


def _npz(source: Path, target: str | None) -> Found:
    section: dict[str, object] = {"format": "npz", "path": str(source)}
    if target is not None:
        section["targets"] = target
    splits = data.read_npz(source, targets=target)
    section |= {"task": splits.train.task, "kind": splits.train.kind}
    return Found(section, ("For texts as integers set kind to tokens.",), splits)


def _table(source: Path, target: str | None) -> Found:
    table, delimiter = _read(source)
    target = list(table.columns)[-1] if target is None else target
    task = _task(table.column(target))
    inputs, categorical, notes = [], [], []
    missing: dict[str, str] = {}
    for name, column in table.columns.items():
        if name == target:
            continue
        if why := _unfit(column):
            notes.append(f"Left out: {name}, {why}.")
            continue
        inputs.append(name)
        is_category = not _is_numeric(column)
        if is_category:
            categorical.append(name)
        if column.missing.any():
            missing[name] = "most_frequent" if is_category else "median"
    if not inputs:
        raise RunError(f"{source} has no column that could be an input of a network for {target}.")
    options: dict[str, object] = {"targets": target, "inputs": inputs}
    options |= {"categorical": categorical} if categorical else {}
    options |= {"missing": missing} if missing else {}
    options |= {"task": task} | ({} if delimiter == "," else {"delimiter": delimiter})
    if task == "regression" and table.column(target).integer:
        notes.append(
            "The targets are integers: for counts set task to counts, likelihood to poisson."
        )
    splits = data.read_table(source, **options)  # type: ignore[arg-type]
    return Found({"format": "table", "path": str(source), **options}, tuple(notes), splits)


def _read(source: Path) -> tuple[Table, str]:
    """Returns a table, and the delimiter that occurs most often in its first line."""
    if source.suffix.lower() in PARQUET:
        return read_parquet_table(source), ","
    try:
        with source.open(encoding="utf-8", errors="replace") as file:
            first = file.readline(100_000)
    except OSError:
        first = ""  # the reader says what is wrong with the file
    delimiter = max((",", ";", "\t", "|"), key=first.count)
    return read_csv_table(source, delimiter=delimiter), delimiter


def _is_numeric(column: Column) -> bool:
    try:
        column.numbers()
    except data.DataError:
        return False
    return True


def _task(column: Column) -> Task:
    """Returns classification for text and for few integers from 0 without gaps, else regression."""
    if not _is_numeric(column):
        return "classification"
    values = column.numbers()
    found = np.unique(values[np.isfinite(values)])
    whole = len(found) and np.array_equal(found, np.arange(len(found)))
    return "classification" if whole and 2 <= len(found) <= MAX_CLASSES else "regression"


def _unfit(column: Column) -> str:
    """Returns why a column is no input; an empty string if it is one."""
    if column.missing.all():
        return "which has no values"
    words = column.texts()[~column.missing]
    if len(set(words)) == 1:
        return "which has one value"
    numeric = _is_numeric(column)
    if not numeric and len(set(words)) > max(20, len(words) // 2):
        return "text that differs in most rows"
    if numeric and len(words) > 20:
        steps = np.diff(column.numbers())
        if np.all(steps == 1):
            return "which numbers the rows"
    return ""
