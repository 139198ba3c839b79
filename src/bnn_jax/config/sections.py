"""The sections of a config for the network, its prior and posterior, training and evaluation."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from bnn_jax.config.types import (
    Bins,
    Count,
    Flag,
    Folder,
    Fraction,
    Glob,
    Momentum,
    NotNegative,
    Number,
    Positive,
    Samples,
    Section,
    Share,
    StepSamples,
    short,
)


class LeNet5(Section):
    """LeNet-5 as in MindSpore's tests."""

    name: Literal["lenet5"]

    SMALLEST_IMAGE: ClassVar[int] = 16
    CONVOLUTIONS: ClassVar[tuple[str, ...]] = ("conv1/kernel", "conv2/kernel")


class MLP(Section):
    """Dense layers with ReLU, as in Blundell et al. 2015, arXiv:1505.05424."""

    name: Literal["mlp"]
    hidden: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(short)]


class NormalPrior(Section):
    """The prior N(mean, std^2)."""

    name: Literal["normal"]
    mean: Number = 0.0
    std: Positive


class ScaleMixturePrior(Section):
    """The prior pi N(0, std1^2) + (1 - pi) N(0, std2^2)."""

    name: Literal["scale_mixture"]
    pi: Fraction
    std1: Positive
    std2: Positive


class LaplacePrior(Section):
    """The prior Laplace(loc, scale)."""

    name: Literal["laplace"]
    loc: Number = 0.0
    scale: Positive


class StudentTPrior(Section):
    """The Student's t prior with df degrees of freedom."""

    name: Literal["student_t"]
    df: Positive
    loc: Number = 0.0
    scale: Positive


Prior = Annotated[
    NormalPrior | ScaleMixturePrior | LaplacePrior | StudentTPrior, Field(discriminator="name")
]


class Posterior(Section):
    """The initial posterior, and the weights (`where`) that are Gaussian."""

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
                "set it to a number > 0 such as 0.1, or remove the key"
            )
        return self


class ConstantKL(Section):
    """The full weight of the KL at every step."""

    name: Literal["constant"]


class LinearKL(Section):
    """A linear increase from 0 to the full weight over the first epochs, or a share of them."""

    name: Literal["linear"]
    warmup_epochs: Positive | None = None
    warmup_share: Share | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "LinearKL":
        if (self.warmup_epochs is None) == (self.warmup_share is None):
            raise ValueError(
                "set one of objective.kl_schedule.warmup_epochs (> 0) and "
                "objective.kl_schedule.warmup_share (a share of training.epochs, such as 0.5)"
            )
        return self

    def epochs(self, of: int) -> float:
        """Returns the length of the warm-up in epochs, of so many in all."""
        share = self.warmup_share or 0.0
        return share * of if self.warmup_epochs is None else self.warmup_epochs


class CyclicalKL(Section):
    """Linear increases from 0 to the full weight, each over the share `ramp` of its cycle."""

    name: Literal["cyclical"]
    cycles: Count
    ramp: Share = 0.5


class BlundellKL(Section):
    """The weight 2^(M-i) / (2^M - 1) for minibatch i of M: Blundell et al. 2015, section 3.4."""

    name: Literal["blundell"]


KLSchedule = Annotated[ConstantKL | LinearKL | CyclicalKL | BlundellKL, Field(discriminator="name")]


class Objective(Section):
    """The loss dnn_factor * data loss + bnn_factor * KL; `num_data` makes it the negative ELBO."""

    dnn_factor: NotNegative | None = None
    bnn_factor: NotNegative | None = None
    num_data: Literal["train"] | Count | None = None
    kl_schedule: KLSchedule = ConstantKL(name="constant")
    num_samples: StepSamples = 1
    antithetic: Flag = False
    reverse_kl: Flag = False
    kl_every: Count = 1  # steps between values of the KL; every step uses its gradient

    @model_validator(mode="after")
    def _consistent(self) -> "Objective":
        factors = {"dnn_factor": self.dnn_factor, "bnn_factor": self.bnn_factor}
        given = [name for name, value in factors.items() if value is not None]
        if self.num_data is not None and given:
            raise ValueError(
                f"objective.{given[0]} and objective.num_data exclude each other, because num_data "
                "sets both factors: remove one of the two, or set it to null"
            )
        if self.num_data is None and len(given) < 2:
            missing = next(name for name, value in factors.items() if value is None)
            raise ValueError(
                f"objective.{missing} is missing: set objective.num_data to train (the negative "
                "ELBO), or set both objective.dnn_factor and objective.bnn_factor"
            )
        if self.antithetic and self.num_samples % 2:
            raise ValueError(
                f"objective.num_samples must be even with objective.antithetic, got "
                f"{self.num_samples}: set it to {self.num_samples + 1}, or antithetic to false"
            )
        return self


class Optimizer(Section):
    """An optimizer of optax, or MindSpore's AdamWeightDecay."""

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


class MeshSizes(Section):
    """The devices along each axis of a mesh: for examples, and for samples and ensemble members."""

    data: Count = 1
    samples: Count = 1


class Training(Section):
    """The length of training, its batches and its precision, and the devices that it uses."""

    epochs: Count
    batch_size: Count
    dtype: Literal["float32", "bfloat16"] = "float32"
    # The generator of the noise; null: chosen by the backend.
    generator: Literal["threefry", "threefry13", "hash", "rbg", "jax"] | None = None
    evaluate_every: Count = 1
    checkpoint_every: Count = 1
    devices: Literal["all"] | Count = "all"
    mesh: MeshSizes | None = None  # null: all devices divide the examples
    shard_parameters: Flag = False  # divide weights and optimizer state over mesh.data too
    accumulate_steps: Count = 1  # parts of a batch, computed one at a time

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.mesh is not None and self.devices != "all":
            raise ValueError(
                f"training.devices ({self.devices}) and training.mesh exclude each other, because "
                "the mesh sets the number of devices: remove one of the two"
            )
        if self.batch_size % self.accumulate_steps:
            raise ValueError(
                f"training.accumulate_steps ({self.accumulate_steps}) must divide "
                f"training.batch_size ({self.batch_size}): change one of them"
            )
        return self


class Evaluation(Section):
    """The evaluation after training, and the deterministic baseline to compare with."""

    ECE_BINS: ClassVar[int] = 15

    num_samples: Samples = 32
    antithetic: Flag = True  # pairs with opposite noise: same distribution, less variance
    batch_size: Count = 1000
    ece_bins: Bins = ECE_BINS  # for the calibration error of a classifier
    temperature: Positive = 1.0  # divides the logits of weight samples, in evaluation only
    ood_temperature: Positive = 1.0  # the same, for additional scores of other data sets (ODIN)
    deterministic_baseline: Flag = True
    baseline_epochs: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Evaluation":
        if self.baseline_epochs is not None and not self.deterministic_baseline:
            raise ValueError(
                f"evaluation.baseline_epochs ({self.baseline_epochs}) has no effect with "
                "evaluation.deterministic_baseline false: remove it, or set "
                "deterministic_baseline to true"
            )
        return self


class Output(Section):
    """The run folder, and further forms of the metrics of each epoch."""

    dir: Folder
    metrics: tuple[Literal["csv", "tensorboard"], ...] = ()
