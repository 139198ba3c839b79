"""Overrides of single settings from the command line: section.key=value with the value in YAML."""

from collections.abc import Collection

from bnn_jax.config import yaml_text
from bnn_jax.config.errors import ConfigError, shown


def parse(text: str) -> tuple[str, object]:
    """Returns the key and the value of an override.

    Raises:
        ConfigError: it has another form, or the value is not YAML.
    """
    name, equals, value = text.partition("=")
    keys = name.split(".")
    if not equals or not value.strip() or not all(key and key == key.strip() for key in keys):
        raise ConfigError(
            f"override {shown(text)} must have the form section.key=value, such as "
            "training.epochs=2 (section.key=null removes a value)"
        )
    return name, yaml_text.parse(value, source=f"override {shown(text)}")


def apply(raw: dict[str, object], text: str, sections: Collection[str] | None) -> None:
    """Sets one key of the raw settings, in place.

    Args:
        raw: the settings as read from the file.
        text: section.key=value, with the value in YAML.
        sections: the only sections that may be changed; None for all.

    Raises:
        ConfigError: the text has another form, or the key cannot be set.
    """
    name, value = parse(text)
    *parents, last = keys = name.split(".")
    if sections is not None and keys[0] not in sections:
        raise ConfigError(
            f"override {shown(text)}: only {', '.join(sections)} can be changed here, such as "
            "evaluation.num_samples=64; train a new run to change anything else"
        )
    target = raw
    for depth, key in enumerate(parents, start=1):
        child = target.setdefault(key, {})
        if not isinstance(child, dict):
            place = ".".join(keys[:depth])
            raise ConfigError(
                f"override {shown(text)}: {place} is {shown(child)}, which has no keys: "
                f"set it as a whole with {place}=value"
            )
        target = child
    target[last] = value
    other = {"seed": "seeds", "seeds": "seed"}.get(name)
    if other is not None and value is not None:
        raw.pop(other, None)  # they exclude each other
