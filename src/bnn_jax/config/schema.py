"""The settings of a run: one YAML file, checked in full before any work starts.

`Config` is the schema; each section of the file is a class of `bnn_jax.config.sections` or
`bnn_jax.config.data`. A file is complete and has no inheritance; a key is optional only where
one default is right. `load` reads a file and applies `section.key=value` overrides, `dump` writes
the resolved settings, and `load(dump(config)) == config`. `bnn_jax.config.yaml_text` parses the
file, and `bnn_jax.config.errors` words the error messages.

    config = load("configs/lenet5.yaml", ["training.epochs=2", "output.dir=runs/short"])
"""

from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from pydantic import ValidationError, model_validator

from bnn_jax.config import former_names as former
from bnn_jax.config import overrides as overriding
from bnn_jax.config import yaml_text
from bnn_jax.config.data import Categorical, CurveData, Data, ImageData, Likelihood
from bnn_jax.config.distributed import Processes
from bnn_jax.config.errors import ConfigError as ConfigError
from bnn_jax.config.errors import cut, explain, nearest, shown
from bnn_jax.config.inference import BayesByBackprop, Ensemble, Inference, Ivon, check_starts
from bnn_jax.config.network import Model as Model
from bnn_jax.config.sections import (
    Evaluation,
    LeNet5,
    LinearKL,
    Objective,
    Optimizer,
    Output,
    Posterior,
    Prior,
    Training,
)
from bnn_jax.config.types import Estimator, Flag, Folder, Section, Seed, Seeds, estimator_of


class Config(Section):
    """All settings of one run."""

    seed: Seed = 0
    seeds: Seeds | None = None  # one run for each
    seeds_together: Flag | Literal["auto"] = False  # as one program; auto: where that is faster
    data: Data
    model: Model
    likelihood: Likelihood = Categorical(name="categorical")
    prior: Prior
    posterior: Posterior = Posterior()
    initial_weights: Folder | None = None  # a run folder, or an npz file
    estimator: Estimator | None = None
    inference: Inference | None = None
    objective: Objective | None = None
    optimizer: Optimizer | None = None
    training: Training
    evaluation: Evaluation = Evaluation()
    distributed: Processes | None = None  # of a run on several hosts
    output: Output

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        self._check_repetition()
        self._check_method()
        if self.initial_weights is not None:
            check_starts(self.inference, self.posterior.mean_init)
        self._check_lengths()
        if isinstance(self.data, CurveData):
            self._check_curve(self.data)
        elif isinstance(self.data, ImageData):
            self._check_images(self.data)
        self._check_estimator()
        return self

    @property
    def repeated(self) -> Literal["seeds", "splits"] | None:
        """What the settings ask a run for each of; None: they are those of one run."""
        if self.seeds is not None:
            return "seeds"
        return "splits" if getattr(self.data, "split", None) == "all" else None

    def _check_repetition(self) -> None:
        if self.distributed is not None and self.repeated is not None:
            raise ValueError(
                f"'distributed' and several {self.repeated} exclude each other: start each run by "
                "itself, with seed or data.split set to one of them"
            )
        if self.seeds is None:
            if self.seeds_together is not False:
                raise ValueError("seeds_together has no effect without seeds: remove it")
            return
        if "seed" in self.model_fields_set:
            raise ValueError("'seed' and 'seeds' exclude each other: remove one of them")
        if getattr(self.data, "split", None) == "all":
            raise ValueError("'seeds' and data.split all exclude each other: remove one of them")

    def _check_method(self) -> None:
        """Checks that the method is set once, and that no setting is without effect."""
        sections = {"objective": self.objective, "optimizer": self.optimizer}
        if self.inference is None:
            for name, section in {**sections, "estimator": self.estimator}.items():
                if section is None:
                    raise ValueError(
                        f"{name!r} is missing: the sections objective, optimizer and estimator set "
                        "Bayes by Backprop; or choose a method, such as inference={name: swag}"
                    )
            return
        method = self.inference.name
        for name, section in sections.items():
            if section is not None:
                raise ValueError(
                    f"section {name!r} has no effect with inference.name {method}, whose keys set "
                    f"the method: remove one of the two, for instance by {name}=null"
                )
        variational = self.inference
        if isinstance(variational, Ensemble):
            variational = variational.method
        default = Posterior()
        own = [k for k, v in self.posterior if k != "where" and v != getattr(default, k)]
        if not isinstance(variational, BayesByBackprop):
            if self.estimator is not None:
                raise ValueError(f"estimator has no effect with inference.name {method}: remove it")
            if own and not isinstance(variational, Ivon):
                raise ValueError(
                    f"posterior.{own[0]} has no effect with inference.name {method}: remove it"
                )
        if self.evaluation.baseline_epochs is not None:
            raise ValueError(
                f"evaluation.baseline_epochs ({self.evaluation.baseline_epochs}) has no effect "
                "with inference, because the deterministic baseline needs the optimizer section: "
                "remove it, and compare with a run of inference={name: map}"
            )

    @property
    def has_baseline(self) -> bool:
        """Whether the deterministic baseline is trained too."""
        return self.evaluation.deterministic_baseline and self.optimizer is not None

    def _check_curve(self, data: CurveData) -> None:
        likelihood, bins = self.likelihood.name, self.evaluation.ece_bins
        if isinstance(self.likelihood, Categorical):
            raise ValueError(
                f"likelihood {likelihood} is for classes, but the targets of data.name "
                f"{data.name} are numbers: "
                "set likelihood to {name: normal, std: 0.1} or {name: student_t, df: 4, "
                "scale: 0.1}, without std or scale if the network predicts the noise"
            )
        if isinstance(self.model, LeNet5):
            raise ValueError(
                f"model.name lenet5 is for images, but the inputs of data.name {data.name} are "
                "numbers: set model to {name: mlp, hidden: [100]}"
            )
        for name in ("temperature", "ood_temperature"):
            if (value := getattr(self.evaluation, name)) != 1.0:
                raise ValueError(
                    f"evaluation.{name} ({value:g}) has no effect with data.name {data.name}, "
                    "which has no classes: remove it"
                )
        if bins != Evaluation.ECE_BINS:
            raise ValueError(
                f"evaluation.ece_bins ({bins}) has no effect with data.name {data.name}, which has "
                "no classes: remove it"
            )

    def _check_images(self, data: ImageData) -> None:
        if not isinstance(self.likelihood, Categorical):
            raise ValueError(
                f"likelihood {self.likelihood.name} is for numbers, but the targets of data.name "
                f"{data.name} are classes: set likelihood to {{name: categorical}}"
            )
        size = None if data.image_size is None else data.image_size + 2 * data.padding
        if isinstance(self.model, LeNet5) and size is not None and size < LeNet5.SMALLEST_IMAGE:
            raise ValueError(
                f"data.image_size ({data.image_size}) is too small for lenet5, which needs at "
                f"least {LeNet5.SMALLEST_IMAGE}: set data.image_size to 32"
            )

    def _check_lengths(self) -> None:
        epochs = self.training.epochs
        schedule = None if self.objective is None else self.objective.kl_schedule
        if self.optimizer is not None and self.optimizer.warmup_epochs >= epochs:
            raise ValueError(
                f"optimizer.warmup_epochs ({self.optimizer.warmup_epochs:g}) must be less than "
                f"training.epochs ({epochs}): lower it"
            )
        if isinstance(schedule, LinearKL) and schedule.epochs(epochs) > epochs:
            raise ValueError(
                f"objective.kl_schedule.warmup_epochs ({schedule.warmup_epochs:g}) must be at most "
                f"training.epochs ({epochs}), or the KL never reaches its full weight: lower it"
            )
        examples = self.data.num_train
        if examples is not None and self.training.batch_size > examples:
            less = " less data.validation" if isinstance(self.data, ImageData) else ""
            raise ValueError(
                f"training.batch_size ({self.training.batch_size}) is more than the {examples} "
                f"training examples (data.train_examples{less}): lower it"
            )

    def _check_moments(self) -> None:
        """Checks that nothing asks for weight samples where the estimator draws none."""
        method = getattr(self.inference, "method", self.inference)
        section, of = ("objective", self.objective) if method is None else ("inference", method)
        for name in ("num_samples", "antithetic", "sticking_the_landing"):
            value = getattr(of, name, None)
            if value is not None and int(value) > (name == "num_samples"):
                raise ValueError(
                    f"{section}.{name} ({value}) has no effect with estimator moments, which draws "
                    "no weight samples: remove it"
                )

    def _check_estimator(self) -> None:
        if self.estimator == "moments":
            self._check_moments()
        if isinstance(self.estimator, dict):
            patterns = list(self.estimator)
            if "*" in patterns[:-1]:
                raise ValueError(
                    f"estimator['*'] matches every weight, so {patterns[-1]!r} after it is never "
                    "reached: move '*' to the end"
                )
        # A single name is replaced by flipout where it is not exact.
        if self.estimator is None or isinstance(self.estimator, str):
            return
        if not isinstance(self.model, LeNet5):
            return
        for weight in LeNet5.CONVOLUTIONS:
            where = self.posterior.where
            is_random = isinstance(where, str) or any(fnmatch(weight, glob) for glob in where)
            if is_random and estimator_of(self.estimator, weight) == "local_reparam":
                raise ValueError(
                    f"estimator local_reparam is not exact for the convolution {weight!r}, whose "
                    "outputs share weights: use flipout there, "
                    "such as {'conv*': flipout, '*': local_reparam}"
                )


def load(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    sections: Collection[str] | None = None,
    former_names: bool = False,
) -> Config:
    """Reads, overrides and checks the settings of a run.

    Args:
        path: a YAML file.
        overrides: strings `section.key=value` with the value in YAML; the last one for a key
            applies. A whole section is given as `prior={name: laplace, scale: 0.1}`.
        sections: the only sections that overrides may change; None for all.
        former_names: accept settings in the file under their names of earlier versions.

    Raises:
        ConfigError: the file or an override is wrong. The message is one line that lists every
            mistake, with its key, the value and the rule.
    """
    path = Path(path)
    raw = yaml_text.parse(_read(path), source=str(path))
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"holds {shown(raw)}"
        raise ConfigError(
            f"{path} {what}: it must hold sections ({', '.join(Config.model_fields)})"
        )
    if former_names:
        former.rename(raw)
    for text in overrides:
        overriding.apply(raw, text, sections)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        source = f"{path} with overrides" if overrides else f"{path}"
        raise ConfigError(f"{source}: {explain(error, Config, raw)}") from None


def dump(config: Config) -> str:
    """Returns the resolved settings as YAML, which `load` reads back unchanged."""
    exclude = {"seed"} if config.seeds is not None else {"seeds", "seeds_together"}
    return yaml_text.write(config.model_dump(mode="json", by_alias=True, exclude=exclude))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:  # also of a pipe or a device, which may have no end
            return file.read(yaml_text.MAX_BYTES + 1)
    except FileNotFoundError:
        siblings = [str(p) for p in path.parent.glob("*.yaml")]
        hint = nearest(str(path), siblings) or ": give the path of a YAML file"
        raise ConfigError(f"there is no config file {cut(str(path), 300)}{hint}") from None
    except (OSError, ValueError) as error:
        shown_path = f"{cut(str(path), 300)} ({getattr(error, 'strerror', None) or error})"
        message = f"cannot read the config file {shown_path}: give the path of a YAML file"
        raise ConfigError(message) from None
