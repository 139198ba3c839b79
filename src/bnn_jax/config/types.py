"""The types of single settings, each with the rule that its error message quotes."""

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bnn_jax.config.errors import OutOfRange

# JAX computes with float32: other numbers are infinite or zero there.
SMALLEST, LARGEST = 1e-37, 1e37
MAX_COUNT = 10**9
MAX_ITEMS = 1000  # of a list that sets the depth of a network
MAX_FILE_NAME, MAX_PATH = 255, 3500  # bytes; Linux has 4096 for a path with what a run adds


def _whole(value: object) -> object:
    """Converts a float such as 1e4 that is a whole number to an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed occurs twice")
    return seeds


def _in_float32(value: float) -> float:
    if value and not SMALLEST <= abs(value) <= LARGEST:
        raise OutOfRange(f"of a size from {SMALLEST:g} to {LARGEST:g}, the range of float32")
    return value


def short(values: tuple[int, ...]) -> tuple[int, ...]:
    """Refuses lists of more than `MAX_ITEMS`."""
    if len(values) > MAX_ITEMS:
        raise OutOfRange(f"a list of at most {MAX_ITEMS} numbers")
    return values


def at_most(limit: int) -> Callable[[int], int]:
    """Returns a validator that refuses larger numbers."""

    def check(value: int) -> int:
        if value > limit:
            raise OutOfRange(f"at most {limit}")
        return value

    return check


def _possible_path(path: Path) -> Path:
    """Returns the path with ~ replaced; refuses names that no file can have."""
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise OutOfRange("a path of a user that exists, or one without ~") from error
    if any(ord(character) < 32 for character in str(path)):
        raise OutOfRange("a path without control characters")
    if len(os.fsencode(path)) > MAX_PATH or any(
        len(os.fsencode(part)) > MAX_FILE_NAME for part in path.parts
    ):
        raise OutOfRange(
            f"a path of at most {MAX_PATH} bytes, with names of at most {MAX_FILE_NAME} bytes"
        )
    return path


def number(
    rule: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> object:
    """Returns the metadata of a finite float within these limits, and the rule in words."""
    return Field(strict=True, allow_inf_nan=False, description=rule, gt=gt, ge=ge, lt=lt, le=le)


Number = Annotated[float, number("a number"), AfterValidator(_in_float32)]
NotNegative = Annotated[float, number("a number >= 0", ge=0), AfterValidator(_in_float32)]
Positive = Annotated[float, number("a number > 0", gt=0), AfterValidator(_in_float32)]
Fraction = Annotated[float, number("a number between 0 and 1, both excluded", gt=0, lt=1)]
Share = Annotated[float, number("a number > 0 and at most 1", gt=0, le=1)]
Momentum = Annotated[float, number("a number >= 0 and below 1", ge=0, lt=1)]
Count = Annotated[
    int,
    BeforeValidator(_whole),
    Field(strict=True, ge=1, description="a whole number >= 1"),
    AfterValidator(at_most(MAX_COUNT)),
]
CountOrZero = Annotated[
    int,
    BeforeValidator(_whole),
    Field(strict=True, ge=0, description="a whole number >= 0"),
    AfterValidator(at_most(MAX_COUNT)),
]
# Weight samples of a training step, which are unrolled in its program; and of an evaluation.
StepSamples = Annotated[Count, AfterValidator(at_most(1000))]
Samples = Annotated[Count, AfterValidator(at_most(10**6))]
Bins = Annotated[Count, AfterValidator(at_most(10**4))]
Seed = Annotated[
    int,
    BeforeValidator(_whole),
    Field(strict=True, ge=0, lt=2**32, description="a whole number from 0 to 4294967295"),
]
Seeds = Annotated[
    tuple[Seed, ...],
    Field(min_length=1, description="a list of different whole numbers such as [0, 1, 2]"),
    AfterValidator(lambda seeds: _different(seeds)),
]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Name = Annotated[str, Field(min_length=1, description="a name")]
Glob = Annotated[str, Field(min_length=1, description="a pattern such as 'conv1/*'")]
Address = Annotated[
    str, Field(pattern=r"^\S+:\d{1,5}$", description="host:port, such as 10.0.0.1:1234")
]
Folder = Annotated[
    Path,
    Field(description="a path"),
    BeforeValidator(lambda value: value or None),
    AfterValidator(_possible_path),
]
File = Annotated[Path, Field(description="the path of a file"), AfterValidator(_possible_path)]
EstimatorName = Literal["reparam", "local_reparam", "flipout"]
Estimator = (
    Literal["reparam", "local_reparam", "flipout", "moments"]
    | Annotated[
        dict[Glob, EstimatorName],
        Field(min_length=1, description="a mapping such as {'fc*': flipout, '*': reparam}"),
    ]
)


def estimator_of(estimator: Estimator, weight: str) -> EstimatorName:
    """Returns the estimator of samples of a weight such as 'fc1/kernel'.

    The first pattern that matches wins. A weight that no pattern matches is sampled by reparam,
    which is right for every weight; so it is with the estimator moments, which draws no samples.
    """
    if isinstance(estimator, str):
        return "reparam" if estimator == "moments" else estimator
    matching = (name for glob, name in estimator.items() if fnmatchcase(weight, glob))
    return next(matching, "reparam")


class Section(BaseModel):
    """Immutable settings; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
