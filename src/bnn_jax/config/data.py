"""The sections of a config for the data and for the likelihood of its targets.

A data set of images has any name that `data.load` knows. Each curve has a fixed name.
"""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from bnn_jax.config import own
from bnn_jax.config.errors import ANY_NAME
from bnn_jax.config.types import Count, CountOrZero, Folder, Name, Number, Positive, Section, number


class ImageData(Section):
    """A data set of images, and the number of images to use."""

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
    augment: own.Augmentation | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "ImageData":
        mean, std = self.mean, self.std
        if isinstance(mean, tuple) and isinstance(std, tuple) and len(mean) != len(std):
            raise ValueError(
                f"data.mean has {len(mean)} values and data.std has {len(std)}: "
                "give one value per channel in both, or one number"
            )
        if self.train_examples is not None and self.validation >= self.train_examples:
            raise ValueError(
                f"data.validation ({self.validation}) must be less than data.train_examples "
                f"({self.train_examples}), or nothing is left to train on: lower data.validation"
            )
        return self

    @property
    def title(self) -> str:
        """What reports call the data."""
        return self.name

    @property
    def num_train(self) -> int | None:
        """The number of training examples; None where the settings leave it open."""
        return None if self.train_examples is None else self.train_examples - self.validation


class CurveData(Section):
    """Points of a curve with known noise (`bnn_jax.data.CURVES`), sampled with the run's seed."""

    name: str
    train_examples: Count
    test_examples: Count = 1000

    @property
    def title(self) -> str:
        """What reports call the data."""
        return self.name

    @property
    def num_train(self) -> int:
        """The number of training examples."""
        return self.train_examples


class BlundellCurve(CurveData):
    """The curve of Blundell et al. 2015, arXiv:1505.05424, section 5.2."""

    name: Literal["blundell_curve"]


class HeteroscedasticCurve(CurveData):
    """The curve of Depeweg et al. 2018, arXiv:1710.07283, whose noise depends on the input."""

    name: Literal["heteroscedastic_curve"]


def _kind(data: object) -> str:
    def value(key: str) -> object:
        return data.get(key) if isinstance(data, dict) else getattr(data, key, None)

    for name in (value("format"), value("name")):
        if name in (*own.FORMATS, "blundell_curve", "heteroscedastic_curve"):
            return str(name)
    return "format" if value("format") is not None else ANY_NAME


Data = Annotated[
    Annotated[ImageData, Tag(ANY_NAME)]
    | Annotated[own.TableData, Tag("table")]
    | Annotated[own.NpzData, Tag("npz")]
    | Annotated[own.ImageFolder, Tag("image_folder")]
    | Annotated[own.PythonData, Tag("python")]
    | Annotated[own.HuggingFaceData, Tag("huggingface")]
    | Annotated[own.UciData, Tag("uci")]
    | Annotated[BlundellCurve, Tag("blundell_curve")]
    | Annotated[HeteroscedasticCurve, Tag("heteroscedastic_curve")],
    Discriminator(_kind),
]


class Bernoulli(Section):
    """Two classes, or several yes-or-no targets, from logits."""

    name: Literal["bernoulli"]


class Poisson(Section):
    """Counts from the logarithm of their rate."""

    name: Literal["poisson"]


class Categorical(Section):
    """Classes from the network's logits."""

    name: Literal["categorical"]


class Normal(Section):
    """Gaussian noise of this standard deviation; null: the network predicts it."""

    name: Literal["normal"]
    std: Positive | None = None

    @property
    def num_outputs(self) -> int:
        """The number of network outputs: the mean, and rho if the network predicts the noise."""
        return 2 if self.std is None else 1


class StudentT(Section):
    """Student's t noise of this scale; null: the network predicts it."""

    name: Literal["student_t"]
    df: Annotated[float, number("a number > 2 (at 2 the variance becomes infinite)", gt=2)]
    scale: Positive | None = None

    @property
    def num_outputs(self) -> int:
        """The number of network outputs: location, and rho if the network predicts the noise."""
        return 2 if self.scale is None else 1


Likelihood = Annotated[
    Categorical | Bernoulli | Normal | StudentT | Poisson, Field(discriminator="name")
]
