"""The inference section of a config: a method of `bnn_jax.infer` and its hyper-parameters.

It takes the place of the sections `objective` and `optimizer`, which set Bayes by Backprop in
detail. A key that is left out has the default of the method.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bnn_jax.config.types import (
    Count,
    Flag,
    Fraction,
    Momentum,
    NotNegative,
    Positive,
    Section,
    Share,
    StepSamples,
)

Width = Annotated[int, Field(strict=True, ge=1, le=10, description="a whole number from 1 to 10")]


class Method(Section):
    """An inference method; whether a step takes the whole training set as its batch."""

    WHOLE_DATA: ClassVar[bool] = False

    name: str

    @property
    def hyperparameters(self) -> dict[str, object]:
        """The hyper-parameters that the section sets."""
        given = self.model_dump(exclude={"name"})
        return {key: value for key, value in given.items() if value is not None}


class BayesByBackprop(Method):
    """Bayes by Backprop: Blundell et al. 2015."""

    name: Literal["bayes_by_backprop"]
    learning_rate: Positive | None = None
    kl_warmup: Share | None = None
    num_samples: StepSamples | None = None
    antithetic: Flag | None = None
    sticking_the_landing: Flag | None = None
    learn_prior: Flag | None = None


class Ivon(Method):
    """IVON: Shen et al. 2024."""

    name: Literal["ivon"]
    learning_rate: Positive | None = None
    beta1: Momentum | None = None
    beta2: Momentum | None = None
    hess_init: Positive | None = None
    num_samples: StepSamples | None = None
    accumulate: Count | None = None
    temperature: Positive | None = None
    rest_learning_rate: Positive | None = None


class Map(Method):
    """The weights with the largest posterior density."""

    name: Literal["map"]
    learning_rate: Positive | None = None
    constant: Flag | None = None


class Laplace(Map):
    """The Laplace approximation: Immer et al. 2021, Daxberger et al. 2021."""

    name: Literal["laplace"]  # type: ignore[assignment]
    curvature: Literal["last_layer", "diagonal", "kronecker"] | None = None
    prior_precision: Literal["marginal_likelihood", "prior"] | None = None
    predictive: Literal["linearised", "sampled"] | None = None


class McDropout(Method):
    """MC dropout: Gal and Ghahramani 2016."""

    name: Literal["mc_dropout"]
    rate: Momentum | None = None
    learning_rate: Positive | None = None


class Swag(Method):
    """SWAG: Maddox et al. 2019."""

    name: Literal["swag"]
    learning_rate: Positive | None = None
    swag_learning_rate: Positive | None = None
    cyclical: Flag | None = None
    start: Fraction | None = None
    every: Count | None = None
    rank: Count | None = None


class Sgld(Method):
    """Stochastic gradient Langevin dynamics: Welling and Teh 2011."""

    name: Literal["sgld"]
    step_size: Positive | None = None
    num_samples: Count | None = None
    cycles: Count | None = None
    exploration: Momentum | None = None
    temperature: NotNegative | None = None


class Sghmc(Sgld):
    """Stochastic gradient Hamiltonian Monte Carlo: Chen et al. 2014."""

    name: Literal["sghmc"]  # type: ignore[assignment]
    friction: Share | None = None


class Hmc(Method):
    """Hamiltonian Monte Carlo."""

    WHOLE_DATA: ClassVar[bool] = True

    name: Literal["hmc"]
    warmup: Count | None = None
    chains: Count | None = None
    target_acceptance: Fraction | None = None
    leapfrogs: Count | None = None
    jitter: NotNegative | None = None


class Nuts(Method):
    """The no-U-turn sampler: Hoffman and Gelman 2014."""

    WHOLE_DATA: ClassVar[bool] = True

    name: Literal["nuts"]
    warmup: Count | None = None
    chains: Count | None = None
    target_acceptance: Fraction | None = None
    max_doublings: Width | None = None
    jitter: NotNegative | None = None


Member = Annotated[
    BayesByBackprop | Ivon | Map | Laplace | McDropout | Swag | Sgld | Sghmc,
    Field(discriminator="name"),
]


class Ensemble(Method):
    """Several fits of a method from different starts: Lakshminarayanan et al. 2017."""

    name: Literal["ensemble"]
    method: Member
    size: Count | None = None
    starts: Literal["redrawn", "same"] | None = None

    @property
    def hyperparameters(self) -> dict[str, object]:
        given = {"size": self.size, "starts": self.starts}
        return {key: value for key, value in given.items() if value is not None}


Inference = Annotated[
    BayesByBackprop
    | Ivon
    | Map
    | Laplace
    | McDropout
    | Swag
    | Sgld
    | Sghmc
    | Hmc
    | Nuts
    | Ensemble,
    Field(discriminator="name"),
]


def check_starts(inference: Method | None, mean_init: str) -> None:
    """Raises a ValueError if a fit would not start from given initial weights."""
    if mean_init == "normal":
        raise ValueError(
            "initial_weights has no effect with posterior.mean_init normal: set it to network"
        )
    if isinstance(inference, Ensemble) and inference.starts != "same":
        raise ValueError(
            "initial_weights has no effect on an ensemble with other starts for its members: set "
            "inference.starts to same"
        )
