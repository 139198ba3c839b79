"""Reads and writes YAML with plain rules for numbers, and without duplicate keys.

PyYAML follows YAML 1.1, where 1e-3 is text, 010 is eight, 1:30 is ninety, `no` is false and
2026-01-31 a date. Here plain values follow YAML 1.2's core schema: null, true, false, decimal
numbers; everything else is text. Reading and writing use the same rules, so text stays text.

A text is refused before it is read as a whole if it is larger, nested deeper or has more values
than any config (aliases count as what they repeat), or has explicit tags or control characters.
"""

import re
import unicodedata
from collections.abc import Hashable
from typing import Any

import yaml

from bnn_jax.config.errors import ConfigError, cut, shown

MAX_BYTES = 2**17
MAX_DEPTH, MAX_VALUES = 20, 20_000

# YAML tag, pattern, and the characters that it can begin with.
_PLAIN_VALUES = (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._depth = self._values = 0
        self._sizes: dict[int, int] = {}  # of each finished node, with all that it holds

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag is not None:
            name = cut(tag.replace("tag:yaml.org,2002:", "!!"))
            _refuse(event, f"the tag {name} must be left out: write the value without it")
        before = self._values
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(event, f"values must be nested at most {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._sizes:
            _refuse(event, f"the alias *{event.anchor} must not be within its own anchor")
        self._values += self._sizes[id(node)] if isinstance(event, yaml.AliasEvent) else 1
        if self._values > MAX_VALUES:
            _refuse(event, f"there must be at most {MAX_VALUES} values")
        self._sizes.setdefault(id(node), self._values - before)
        return node

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if isinstance(key, str) and key in lines:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {shown(key)} is already on line {lines[key]}: remove one of "
                    "them",
                    problem_mark=key_node.start_mark,
                )
            if isinstance(key, str):
                lines[key] = line
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        text = super().construct_scalar(node)
        for character in text:
            if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n":
                _refuse(node, f"text must not hold the control character {character!r}")
        return text


def _refuse(part: yaml.Event | yaml.Node, problem: str) -> None:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=part.start_mark)  # type: ignore[arg-type]


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
        ConfigError: it is not YAML, is larger than any config, or has a key twice, a tag or a
            control character; the message names the source and line.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{source} must have at most {MAX_BYTES} bytes, got {len(text)} or more")
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
