"""The example networks by name, with their arguments, as configs use them."""

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

from flax import linen as nn

from bnn_jax.models.cnn import CNN
from bnn_jax.models.networks import MLP, LeNet5
from bnn_jax.models.resnet import ResNet20
from bnn_jax.models.text import LSTM, TextTransformer
from bnn_jax.models.vit import ViT
from bnn_jax.models.wide_resnet import WideResNet

NETWORKS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "lenet5": LeNet5,
    "cnn": CNN,
    "resnet20": ResNet20,
    "wide_resnet": WideResNet,
    "vit": ViT,
    "text_transformer": TextTransformer,
    "lstm": LSTM,
}

# The kinds of inputs that each takes, as `data.dataset` names them.
KINDS: dict[str, tuple[str, ...]] = {
    "mlp": ("features", "images"),
    "lenet5": ("images",),
    "cnn": ("images",),
    "resnet20": ("images",),
    "wide_resnet": ("images",),
    "vit": ("images",),
    "text_transformer": ("tokens",),
    "lstm": ("tokens", "features"),
}


class NetworkError(ValueError):
    """A network that is not known, or an argument that it does not take, in one line."""


def build(name: str, *, num_outputs: int, **args: object) -> nn.Module:
    """Returns a network by name.

    Args:
        name: one of `NETWORKS`.
        num_outputs: the size of the last layer.
        **args: further arguments, those of `arguments(name)`. Lists become tuples.

    Raises:
        NetworkError: the name or an argument is unknown, an argument is missing, or a value is not
            of its type; the message lists the known ones.
    """
    known = arguments(name)
    for key, value in args.items():
        if key not in known:
            raise NetworkError(
                f"{name} has no argument {key!r}{_nearest(key, known)} It takes "
                f"{', '.join(known) or 'none'}."
            )
        _check(name, key, value)
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in args:
            raise NetworkError(f"{name} needs the argument {key!r}. It takes {', '.join(known)}.")
    _check(name, "num_outputs", num_outputs)
    network = NETWORKS[name]
    size = "num_outputs" if "num_outputs" in _parameters(network) else "num_classes"
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in args.items()}
    return network(**{size: num_outputs, **given})


def arguments(name: str) -> dict[str, Any]:
    """Returns {argument: default} of a network, without the number of outputs.

    The default of an argument that must be given is `inspect.Parameter.empty`.

    Raises:
        NetworkError: the name is unknown.
    """
    if name not in NETWORKS:
        raise NetworkError(
            f"There is no network {name!r}{_nearest(str(name), NETWORKS)} The networks are "
            f"{', '.join(NETWORKS)}."
        )
    return {
        key: parameter.default
        for key, parameter in _parameters(NETWORKS[name]).items()
        if key not in ("num_outputs", "num_classes", "parent", "name")
    }


MAX_DEPTH, MAX_SIZE = 1000, 10**9
_UNCHECKED = ("dtype", "conv_general_dilated")
_OR_NONE = (
    ("lstm", "vocabulary"),
    ("lstm", "padding_token"),
    ("text_transformer", "padding_token"),
)


def _parameters(network: type[nn.Module]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(network).parameters)


def _check(name: str, key: str, value: object) -> None:
    """Raises NetworkError unless a value is of its argument's type."""
    is_text = isinstance(value, str)  # from a config
    if (key in _UNCHECKED and not is_text) or (value is None and (name, key) in _OR_NONE):
        return
    if key in _UNCHECKED:
        rule = "float32 or bfloat16" if key == "dtype" else "a function"
        right = key == "dtype" and value in ("float32", "bfloat16")
    elif key in ("hidden", "channels"):
        rule = f"a list of whole numbers of at least 1, at most {MAX_DEPTH} of them"
        right = (
            isinstance(value, list | tuple)
            and len(value) <= MAX_DEPTH
            and all(_is_whole(v, 1, MAX_SIZE) for v in value)
        )
    elif key == "dropout":
        rule = "a number from 0 to 1, 1 excluded"
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
    else:
        least = 0 if key == "padding_token" else 1
        most = MAX_DEPTH if key in ("layers", "depth") else MAX_SIZE
        rule = f"a whole number from {least} to {most}"
        right = _is_whole(value, least, most)
    if not right:
        got = repr(value)
        got = got if len(got) <= 60 else got[:57] + "..."
        raise NetworkError(f"{key} of {name} must be {rule}, got {got}.")


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f", did you mean {found[0]!r}?" if found else "."
