"""A run's settings: one YAML file, checked in full before any work starts.

The classes below are the schema; each section of the file is one of them. A file is complete and
has no inheritance; a key may be left out only where one default is right. `load` reads a file and
applies `section.key=value` overrides, `dump` writes the resolved settings, and
`load(dump(config)) == config`. How a file is read stands in `bnn_jax.yaml_text`, how a mistake is
worded in `bnn_jax.config_errors`.

    config = load("configs/lenet5.yaml", ["training.epochs=2", "output.dir=runs/short"])
"""

from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from bnn_jax import yaml_text
from bnn_jax.config_errors import ConfigError as ConfigError
from bnn_jax.config_errors import explain, nearest


def _whole(value: Any) -> Any:
    """1e4 is a whole number, written as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(
    rule: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> Any:
    return Field(strict=True, allow_inf_nan=False, description=rule, gt=gt, ge=ge, lt=lt, le=le)


# Each type carries the rule that an error message quotes.
Number = Annotated[float, _number("a number")]
NotNegative = Annotated[float, _number("a number >= 0", ge=0)]
Positive = Annotated[float, _number("a number > 0", gt=0)]
Fraction = Annotated[float, _number("a number between 0 and 1, both excluded", gt=0, lt=1)]
Share = Annotated[float, _number("a number > 0 and at most 1", gt=0, le=1)]
Momentum = Annotated[float, _number("a number >= 0 and below 1", ge=0, lt=1)]
Count = Annotated[
    int, BeforeValidator(_whole), Field(strict=True, ge=1, description="a whole number >= 1")
]
CountOrZero = Annotated[
    int, BeforeValidator(_whole), Field(strict=True, ge=0, description="a whole number >= 0")
]
Seed = Annotated[
    int,
    BeforeValidator(_whole),
    Field(strict=True, ge=0, lt=2**32, description="a whole number from 0 to 4294967295"),
]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Name = Annotated[str, Field(min_length=1, description="a name")]
Glob = Annotated[str, Field(min_length=1, description="a pattern such as 'conv1/*'")]
Folder = Annotated[
    Path,
    Field(description="a path"),
    BeforeValidator(lambda value: value or None),
    AfterValidator(lambda path: path.expanduser()),
]
EstimatorName = Literal["reparam", "local_reparam", "flipout"]


class Section(BaseModel):
    """Settings that cannot change, and no others beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Section):
    """The images, and how many of them."""

    name: Name
    data_dir: Folder | None = None
    manual_dir: Folder | None = None
    image_size: Count | None = None
    padding: CountOrZero = 0  # black pixels added on each side, after resizing
    mean: Number | Annotated[tuple[Number, ...], Field(min_length=1)] | None = None
    std: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    train_examples: Count | None = None
    test_examples: Count | None = None
    validation: CountOrZero = 0

    @model_validator(mode="after")
    def _consistent(self) -> "Data":
        mean, std = self.mean, self.std
        if isinstance(mean, tuple) and isinstance(std, tuple) and len(mean) != len(std):
            raise ValueError(
                f"data.mean has {len(mean)} values and data.std {len(std)}: "
                "give both one value per channel, or one number"
            )
        if self.train_examples is not None and self.validation >= self.train_examples:
            raise ValueError(
                f"data.validation ({self.validation}) must be less than data.train_examples "
                f"({self.train_examples}), or nothing is left to train on: lower data.validation"
            )
        return self


class LeNet5(Section):
    """LeNet-5 as in MindSpore's tests."""

    name: Literal["lenet5"]

    SMALLEST_IMAGE: ClassVar[int] = 16
    CONVOLUTIONS: ClassVar[tuple[str, ...]] = ("conv1/kernel", "conv2/kernel")


class MLP(Section):
    """Dense layers with relu, as in Blundell et al. 2015, arXiv:1505.05424."""

    name: Literal["mlp"]
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)]


class NormalPrior(Section):
    """N(mean, std)."""

    name: Literal["normal"]
    mean: Number = 0.0
    std: Positive


class ScaleMixturePrior(Section):
    """pi N(0, std1) + (1 - pi) N(0, std2)."""

    name: Literal["scale_mixture"]
    pi: Fraction
    std1: Positive
    std2: Positive


class LaplacePrior(Section):
    """Laplace(loc, scale)."""

    name: Literal["laplace"]
    loc: Number = 0.0
    scale: Positive


class StudentTPrior(Section):
    """Student's t with df degrees of freedom."""

    name: Literal["student_t"]
    df: Positive
    loc: Number = 0.0
    scale: Positive


class Posterior(Section):
    """Where the Gaussians are, and how they start."""

    mean_init: Literal["network", "normal"] = "network"
    mean_std: Positive | None = Field(
        default_factory=lambda given: 0.1 if given.get("mean_init") == "normal" else None
    )
    rho_mean: Number = -5.0
    rho_std: NotNegative = 0.1
    where: Literal["all", "kernels"] | Annotated[tuple[Glob, ...], Field(min_length=1)] = "all"

    @model_validator(mode="after")
    def _consistent(self) -> "Posterior":
        if self.mean_init == "network" and self.mean_std is not None:
            raise ValueError(
                f"posterior.mean_std ({self.mean_std}) has no effect with posterior.mean_init "
                "network: remove it, or set posterior.mean_init to normal"
            )
        if self.mean_init == "normal" and self.mean_std is None:
            raise ValueError(
                "posterior.mean_std is null, but posterior.mean_init normal needs it: "
                "give a number > 0 such as 0.1, or remove the key"
            )
        return self


class ConstantKL(Section):
    """Full weight at every step."""

    name: Literal["constant"]


class LinearKL(Section):
    """From 0 to full weight over the first epochs."""

    name: Literal["linear"]
    warmup_epochs: Positive


class CyclicalKL(Section):
    """`cycles` times from 0 to full weight, each over the first `ramp` of its cycle."""

    name: Literal["cyclical"]
    cycles: Count
    ramp: Share = 0.5


class BlundellKL(Section):
    """2^(M-i) / (2^M - 1) for minibatch i of M: Blundell et al. 2015, section 3.4."""

    name: Literal["blundell"]


class Objective(Section):
    """dnn_factor * data loss + bnn_factor * KL, by hand or as the negative ELBO (`num_data`)."""

    dnn_factor: NotNegative | None = None
    bnn_factor: NotNegative | None = None
    num_data: Literal["train"] | Count | None = None
    kl_schedule: Annotated[
        ConstantKL | LinearKL | CyclicalKL | BlundellKL, Field(discriminator="name")
    ] = ConstantKL(name="constant")
    num_samples: Count = 1
    antithetic: Flag = False
    reverse_kl: Flag = False

    @model_validator(mode="after")
    def _consistent(self) -> "Objective":
        factors = {"dnn_factor": self.dnn_factor, "bnn_factor": self.bnn_factor}
        given = [name for name, value in factors.items() if value is not None]
        if self.num_data is not None and given:
            raise ValueError(
                f"objective.{given[0]} and objective.num_data exclude each other, for num_data "
                "sets both factors: remove one of the two, or set it to null"
            )
        if self.num_data is None and len(given) < 2:
            missing = next(name for name, value in factors.items() if value is None)
            raise ValueError(
                f"objective.{missing} is missing: set objective.num_data to train (the negative "
                "ELBO), or give both objective.dnn_factor and objective.bnn_factor"
            )
        if self.antithetic and self.num_samples % 2:
            raise ValueError(
                f"objective.antithetic draws pairs, so objective.num_samples ({self.num_samples}) "
                f"must be even: set it to {self.num_samples + 1}, or antithetic to false"
            )
        return self


class Optimizer(Section):
    """One of optax's, or MindSpore's AdamWeightDecay."""

    name: Literal["adam", "adamw", "sgd", "adam_weight_decay"]
    learning_rate: Positive
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: NotNegative = 0.0
    weight_decay: NotNegative = 0.0
    momentum: Momentum = 0.0
    average: Fraction | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Optimizer":
        for key, users in {
            "weight_decay": ("adamw", "adam_weight_decay"),
            "momentum": ("sgd",),
        }.items():
            value = getattr(self, key)
            if value and self.name not in users:
                raise ValueError(
                    f"optimizer.{key} ({value}) has no effect with optimizer.name {self.name}: "
                    f"remove it, or set optimizer.name to {' or '.join(users)}"
                )
        return self


class Training(Section):
    """How long, in what pieces, at what precision."""

    epochs: Count
    batch_size: Count
    dtype: Literal["float32", "bfloat16"] = "float32"
    evaluate_every: Count = 1
    checkpoint_every: Count = 1


class Evaluation(Section):
    """The test at the end, and the deterministic twin beside it."""

    num_samples: Count = 32
    antithetic: Flag = True  # samples in pairs with opposite noise: the same law, less varied means
    batch_size: Count = 1000
    ece_bins: Count = 15
    deterministic_twin: Flag = True
    twin_epochs: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Evaluation":
        if self.twin_epochs is not None and not self.deterministic_twin:
            raise ValueError(
                f"evaluation.twin_epochs ({self.twin_epochs}) has no effect with "
                "evaluation.deterministic_twin false: remove it, or set deterministic_twin to true"
            )
        return self


class Output(Section):
    """The run folder."""

    dir: Folder


class Config(Section):
    """All settings of one run."""

    seed: Seed = 0
    data: Data
    model: Annotated[LeNet5 | MLP, Field(discriminator="name")]
    prior: Annotated[
        NormalPrior | ScaleMixturePrior | LaplacePrior | StudentTPrior, Field(discriminator="name")
    ]
    posterior: Posterior = Posterior()
    estimator: (
        EstimatorName
        | Annotated[
            dict[Glob, EstimatorName],
            Field(min_length=1, description="a mapping such as {'fc*': flipout, '*': reparam}"),
        ]
    )
    objective: Objective
    optimizer: Optimizer
    training: Training
    evaluation: Evaluation = Evaluation()
    output: Output

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        self._check_lengths()
        self._check_estimator()
        resized, padding = self.data.image_size, self.data.padding
        size = None if resized is None else resized + 2 * padding
        if isinstance(self.model, LeNet5) and size is not None and size < LeNet5.SMALLEST_IMAGE:
            raise ValueError(
                f"data.image_size ({resized}) is too small for lenet5, which needs at least "
                f"{LeNet5.SMALLEST_IMAGE}: set data.image_size to 32"
            )
        return self

    def _check_lengths(self) -> None:
        epochs, schedule = self.training.epochs, self.objective.kl_schedule
        if self.optimizer.warmup_epochs >= epochs:
            raise ValueError(
                f"optimizer.warmup_epochs ({self.optimizer.warmup_epochs:g}) must be less than "
                f"training.epochs ({epochs}): lower it"
            )
        if isinstance(schedule, LinearKL) and schedule.warmup_epochs > epochs:
            raise ValueError(
                f"objective.kl_schedule.warmup_epochs ({schedule.warmup_epochs:g}) must be at most "
                f"training.epochs ({epochs}), or the KL never has its full weight: lower it"
            )
        if self.data.train_examples is not None:
            examples = self.data.train_examples - self.data.validation
            if self.training.batch_size > examples:
                raise ValueError(
                    f"training.batch_size ({self.training.batch_size}) is more than the {examples} "
                    "training examples (data.train_examples less data.validation): lower it"
                )

    def _check_estimator(self) -> None:
        if isinstance(self.estimator, dict):
            patterns = list(self.estimator)
            if "*" in patterns[:-1]:
                raise ValueError(
                    f"estimator['*'] matches every weight, so {patterns[-1]!r} after it is never "
                    "reached: move '*' to the end"
                )
        if not isinstance(self.model, LeNet5):
            return
        for weight in LeNet5.CONVOLUTIONS:
            where = self.posterior.where
            is_random = isinstance(where, str) or any(fnmatch(weight, glob) for glob in where)
            if is_random and self.estimator_of(weight) == "local_reparam":
                raise ValueError(
                    f"estimator local_reparam is not exact for the convolution {weight!r}, whose "
                    "outputs share weights: use flipout there, "
                    "such as {'conv*': flipout, '*': local_reparam}"
                )

    def estimator_of(self, weight: str) -> EstimatorName:
        """The estimator of a weight such as 'fc1/kernel': the first pattern that matches wins.

        A weight that no pattern matches is sampled by reparam, which is right for any.
        """
        if isinstance(self.estimator, str):
            return self.estimator
        matching = (name for glob, name in self.estimator.items() if fnmatch(weight, glob))
        return next(matching, "reparam")


def load(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    sections: Collection[str] | None = None,
) -> Config:
    """Read, override and check the settings of a run.

    Args:
        path: a YAML file.
        overrides: `section.key=value` each, the value read as YAML; of two for one key the last
            counts. A whole section is given as `prior={name: laplace, scale: 0.1}`.
        sections: the only sections that overrides may change; None for all.

    Raises:
        ConfigError: the file or an override is wrong. The message is one line that names every
            mistake, with its key, the value that came, and the rule.
    """
    path = Path(path)
    raw = yaml_text.parse(_read(path), source=str(path))
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"holds {raw!r}"
        raise ConfigError(
            f"{path} {what}: it must hold sections ({', '.join(Config.model_fields)})"
        )
    for text in overrides:
        _override(raw, text, sections)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        source = f"{path} with overrides" if overrides else f"{path}"
        raise ConfigError(f"{source}: {explain(error, Config, raw)}") from None


def dump(config: Config) -> str:
    """The resolved settings as YAML; `load` reads them back without a change."""
    return yaml_text.write(config.model_dump(mode="json"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        siblings = [str(p) for p in path.parent.glob("*.yaml")]
        cure = nearest(str(path), siblings) or ": give the path of a YAML file"
        raise ConfigError(f"there is no config file {path}{cure}") from None
    except OSError as error:
        raise ConfigError(
            f"cannot read the config file {path} ({error.strerror}): give the path of a YAML file"
        ) from None


def _override(raw: dict[Any, Any], text: str, sections: Collection[str] | None) -> None:
    """Set one key of the raw settings, in place."""
    name, equals, value = text.partition("=")
    *parents, last = keys = name.split(".")
    if not equals or not value.strip() or not all(key and key == key.strip() for key in keys):
        raise ConfigError(
            f"override {text!r} must read section.key=value, such as training.epochs=2 "
            "(key=null to unset)"
        )
    if sections is not None and keys[0] not in sections:
        raise ConfigError(
            f"override {text!r}: only {', '.join(sections)} can be changed here, such as "
            "evaluation.num_samples=64; train a new run to change anything else"
        )
    target = raw
    for depth, key in enumerate(parents, start=1):
        child = target.setdefault(key, {})
        if not isinstance(child, dict):
            place = ".".join(keys[:depth])
            raise ConfigError(
                f"override {text!r}: {place} is {child!r}, which has no keys to set: "
                f"give it whole as {place}=value"
            )
        target = child
    target[last] = yaml_text.parse(value, source=f"override {text!r}")
