"""The sections of a config: the network, its prior and posterior, how it is trained and tested."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from bnn_jax.config.types import (
    Count,
    Flag,
    Folder,
    Fraction,
    Glob,
    Momentum,
    NotNegative,
    Number,
    Positive,
    Section,
    Share,
)


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


Prior = Annotated[
    NormalPrior | ScaleMixturePrior | LaplacePrior | StudentTPrior, Field(discriminator="name")
]


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


KLSchedule = Annotated[ConstantKL | LinearKL | CyclicalKL | BlundellKL, Field(discriminator="name")]


class Objective(Section):
    """dnn_factor * data loss + bnn_factor * KL, by hand or as the negative ELBO (`num_data`)."""

    dnn_factor: NotNegative | None = None
    bnn_factor: NotNegative | None = None
    num_data: Literal["train"] | Count | None = None
    kl_schedule: KLSchedule = ConstantKL(name="constant")
    num_samples: Count = 1
    antithetic: Flag = False
    reverse_kl: Flag = False
    kl_every: Count = 1  # steps from one value of the KL to the next; its gradient acts in all

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
    # Of the noise; null: by backend.
    generator: Literal["threefry", "threefry13", "hash", "rbg", "jax"] | None = None
    evaluate_every: Count = 1
    checkpoint_every: Count = 1


class Evaluation(Section):
    """The test at the end, and the deterministic baseline beside it."""

    ECE_BINS: ClassVar[int] = 15

    num_samples: Count = 32
    antithetic: Flag = True  # samples in pairs with opposite noise: the same law, less varied means
    batch_size: Count = 1000
    ece_bins: Count = ECE_BINS  # of the calibration error of classes
    temperature: Positive = 1.0  # divides the logits of weight samples, in evaluation only
    ood_temperature: Positive = 1.0  # the same, for further scores of other data sets (ODIN)
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
    """The run folder."""

    dir: Folder
