"""Reads and writes YAML with plain rules for numbers, and without duplicate keys.

PyYAML follows YAML 1.1, where 1e-3 is text, 010 is eight, 1:30 is ninety, `no` is false and
2026-01-31 a date. Here plain values follow YAML 1.2's core schema: null, true, false, decimal
numbers; everything else is text. Reading and writing use the same rules, so text stays text.
"""

import re
from collections.abc import Hashable

import yaml

from bnn_jax.config.errors import ConfigError

# YAML tag, pattern, and the characters that it can begin with.
_PLAIN_VALUES = (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if isinstance(key, str) and key in lines:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} is already on line {lines[key]}: remove one of them",
                    problem_mark=key_node.start_mark,
                )
            if isinstance(key, str):
                lines[key] = line
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads."""


for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}  # drop the rules of YAML 1.1
    for _tag, _pattern, _first in _PLAIN_VALUES:
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
        )
_Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", items, flow_style=True
    ),
)


def parse(text: str | bytes, *, source: str) -> object:
    """Returns the value of a YAML text.

    Raises:
        ConfigError: it is not YAML, or has a key twice; the message names the source and line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}{place}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not readable as YAML: {error}") from None


def write(value: object) -> str:
    """Returns the YAML text of a value made of dicts, lists, strings, numbers, booleans, None."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
