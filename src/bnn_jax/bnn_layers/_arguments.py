"""Checks of the layers' arguments: a wrong type raises a TypeError, a wrong value a ValueError."""


def positive_int(layer: str, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{layer}: {name} must be a positive int, got {value!r}.")
    if value < 1:
        raise ValueError(f"{layer}: {name} must be at least 1, got {value}.")
    return value


def boolean(layer: str, name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{layer}: {name} must be True or False, got {value!r}.")
    return value


def pair(layer: str, name: str, value: object) -> tuple[int, int]:
    """Returns (height, width) from one positive int, or from two."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(
                f"{layer}: {name} must be an int or (height, width), got {len(value)} numbers: "
                f"{value!r}."
            )
        return positive_int(layer, name, value[0]), positive_int(layer, name, value[1])
    return (positive_int(layer, name, value),) * 2


def padding(
    layer: str, pad_mode: object, value: object
) -> str | tuple[tuple[int, int], tuple[int, int]]:
    """Returns JAX's padding, a name or ((top, bottom), (left, right)), from MindSpore's."""
    if pad_mode not in ("same", "valid", "pad"):
        raise ValueError(f"{layer}: pad_mode must be 'same', 'valid' or 'pad', got {pad_mode!r}.")
    given = tuple(value) if isinstance(value, tuple | list) else (value,) * 4
    sides = [side for side in given if isinstance(side, int) and not isinstance(side, bool)]
    if len(sides) != len(given):
        raise TypeError(f"{layer}: padding must be an int or four ints, got {value!r}.")
    if len(sides) != 4:
        raise ValueError(
            f"{layer}: padding must be an int or (top, bottom, left, right), got {value!r}."
        )
    if min(sides) < 0:
        raise ValueError(f"{layer}: padding must be at least 0, got {value!r}.")
    if pad_mode == "pad":
        return (sides[0], sides[1]), (sides[2], sides[3])
    if any(sides):
        raise ValueError(
            f"{layer}: padding must be 0 with pad_mode={pad_mode!r}, got {value!r}. Use "
            "pad_mode='pad' for explicit padding."
        )
    return "SAME" if pad_mode == "same" else "VALID"


def groups(layer: str, in_channels: int, out_channels: int, group: object) -> int:
    number_of_groups = positive_int(layer, "group", group)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % number_of_groups:
            raise ValueError(f"{layer}: {name} must be divisible by group={group}, got {channels}.")
    return number_of_groups


def number(owner: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{owner}: {name} must be an int or a float, got {value!r}.")
    return value
