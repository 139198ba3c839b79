"""The checks of the layers' arguments: a wrong type is a TypeError, a wrong value a ValueError."""

from typing import Any


def positive_int(layer: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{layer} needs a positive int as {name}, got {value!r}.")
    if value < 1:
        raise ValueError(f"{layer} needs {name} >= 1, got {value}.")
    return value


def boolean(layer: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{layer} needs True or False as {name}, got {value!r}.")
    return value


def pair(layer: str, name: str, value: Any) -> tuple[int, int]:
    """One positive int for height and width, or two."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(
                f"{layer} needs an int or (height, width) as {name}, got {len(value)} numbers: "
                f"{value!r}."
            )
        return positive_int(layer, name, value[0]), positive_int(layer, name, value[1])
    return (positive_int(layer, name, value),) * 2


def padding(layer: str, pad_mode: Any, value: Any) -> str | tuple[tuple[int, int], tuple[int, int]]:
    """MindSpore's pad_mode and padding as JAX has them: a name, or (top, bottom), (left, right)."""
    if pad_mode not in ("same", "valid", "pad"):
        raise ValueError(f"{layer} needs pad_mode 'same', 'valid' or 'pad', got {pad_mode!r}.")
    sides = (value,) * 4 if not isinstance(value, tuple | list) else tuple(value)
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int):
            raise TypeError(f"{layer} needs an int or four of them as padding, got {value!r}.")
    if len(sides) != 4:
        raise ValueError(
            f"{layer} needs an int or (top, bottom, left, right) as padding, got {value!r}."
        )
    if min(sides) < 0:
        raise ValueError(f"{layer} needs padding >= 0, got {value!r}.")
    if pad_mode == "pad":
        return (sides[0], sides[1]), (sides[2], sides[3])
    if any(sides):
        raise ValueError(
            f"{layer} takes padding only with pad_mode='pad'; with pad_mode={pad_mode!r} leave it "
            f"0, got {value!r}."
        )
    return "SAME" if pad_mode == "same" else "VALID"


def groups(layer: str, in_channels: int, out_channels: int, group: Any) -> int:
    positive_int(layer, "group", group)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % group:
            raise ValueError(f"{layer} needs {name} divisible by group={group}, got {channels}.")
    return int(group)


def number(owner: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{owner} needs an int or a float as {name}, got {value!r}.")
    return value
