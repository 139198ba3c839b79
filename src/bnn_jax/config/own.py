"""The sections of a config for own data and own networks."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from bnn_jax.config.types import Count, CountOrZero, File, Flag, Name, NotNegative, Section

Names = Annotated[tuple[Name, ...], Field(min_length=1, description="a list of names")]
Arguments = Annotated[dict[str, JsonValue], Field(description="a mapping of arguments")]
Task = Literal["classification", "binary", "regression", "counts"]
Missing = Literal["error", "mean", "median", "most_frequent"]


class Augmentation(Section):
    """Random changes of training images: shifts, and mirror images unless flip is false."""

    padding: Annotated[int, Field(strict=True, ge=0, description="a whole number >= 0")] = 4
    flip: Flag = True


class OwnData(Section):
    """Own data. Shares or numbers of examples are held out, unless the source has these parts.

    Without a validation or a test part, a tenth of the examples is held out for the test.
    """

    validation: NotNegative = 0
    test: NotNegative = 0
    augment: Augmentation | None = None  # of images
    standardize: Flag = True  # features and the targets of a regression, by the training part

    @property
    def num_train(self) -> None:
        """The number of training examples is known only from the data."""
        return None

    @property
    def title(self) -> str:
        """What reports call the data."""
        return str(getattr(self, "path", None) or getattr(self, "file", None))


class Columns(OwnData):
    """Data with named columns of inputs and targets."""

    targets: Name | Names
    inputs: Names | None = None
    categorical: Annotated[tuple[Name, ...], Field(description="a list of names")] = ()
    missing: Missing | Annotated[dict[str, Missing], Field(description="a mapping")] = "error"
    task: Task | None = None
    class_names: Names | None = None


class TableData(Columns):
    """A CSV or Parquet file."""

    format: Literal["table"]
    path: File
    delimiter: Name = ","


class NpzData(OwnData):
    """An npz file with arrays x and y."""

    format: Literal["npz"]
    path: File
    inputs: Name | None = None
    targets: Name | None = None
    task: Task | None = None
    kind: Literal["features", "images", "tokens"] | None = None
    class_names: Names | None = None


class ImageFolder(OwnData):
    """A folder of images for each class."""

    format: Literal["image_folder"]
    path: File
    image_size: Count | None = None
    channels: Literal[1, 3] | None = None
    class_names: Names | None = None


class PythonData(OwnData):
    """A function in a Python file that returns arrays, or sources of examples."""

    format: Literal["python"]
    file: File
    name: Name = "load"
    args: Arguments = Field(default_factory=dict)
    stream: Flag = False  # read the training examples during training, from a source
    task: Task | None = None
    kind: Literal["features", "images", "tokens"] | None = None
    class_names: Names | None = None


class HuggingFaceData(Columns):
    """A data set of Hugging Face `datasets`: a folder, or a name on the hub."""

    format: Literal["huggingface"]
    path: Name
    subset: Name | None = None
    revision: Name | None = None
    train_split: Name = "train"
    image_size: Count | None = None
    channels: Literal[1, 3] | None = None


class UciData(OwnData):
    """A UCI regression set with one of its standard splits."""

    format: Literal["uci"]
    name: Name
    folder: File
    split: CountOrZero | Literal["all"] = 0  # all: one run for each standard split

    @property
    def title(self) -> str:
        return f"{self.name}, {'all splits' if self.split == 'all' else f'split {self.split}'}"


FORMATS = {
    "table": TableData,
    "npz": NpzData,
    "image_folder": ImageFolder,
    "python": PythonData,
    "huggingface": HuggingFaceData,
    "uci": UciData,
}


class NamedNetwork(Section):
    """A network of `bnn_jax.models` by its name, with its arguments."""

    name: Literal["cnn", "resnet20", "wide_resnet", "vit", "text_transformer", "lstm"]
    args: Arguments = Field(default_factory=dict)


class FileNetwork(Section):
    """A linen or NNX class in a Python file."""

    file: File
    name: Name
    args: Arguments = Field(default_factory=dict)


class ImportedNetwork(Section):
    """A linen or NNX class of an installed package, as package.module:Class."""

    imported: Annotated[
        str, Field(alias="import", pattern=r"^[\w.]+:\w+$", description="package.module:Class")
    ]
    args: Arguments = Field(default_factory=dict)
