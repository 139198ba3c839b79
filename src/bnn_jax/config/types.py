"""The types of single settings, each with the rule that its error message quotes."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _whole(value: object) -> object:
    """Converts a float such as 1e4 that is a whole number to an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed occurs twice")
    return seeds


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


Number = Annotated[float, number("a number")]
NotNegative = Annotated[float, number("a number >= 0", ge=0)]
Positive = Annotated[float, number("a number > 0", gt=0)]
Fraction = Annotated[float, number("a number between 0 and 1, both excluded", gt=0, lt=1)]
Share = Annotated[float, number("a number > 0 and at most 1", gt=0, le=1)]
Momentum = Annotated[float, number("a number >= 0 and below 1", ge=0, lt=1)]
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
Seeds = Annotated[
    tuple[Seed, ...],
    Field(min_length=1, description="a list of different whole numbers such as [0, 1, 2]"),
    AfterValidator(lambda seeds: _different(seeds)),
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
